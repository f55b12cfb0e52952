"""Champions and challengers with a known truth, score by score.

A program scores each row from 0 to 1. The champion's scores are drawn once a history and stay, also for the rows of
test that come later; a challenger draws anew in a share of the units, and agrees with the champion on the others. So
where the champion was unlucky on this test, every challenger looks better on it, night after night: that is what
reusing a test means.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Callable[[np.random.Generator, Array], Array]
"""(rng, how likely each row is to be answered well) → scores of the same shape."""


def pass_fail(rng: np.random.Generator, ease: Array) -> Array:
    """1 or 0."""
    return (rng.random(ease.shape, np.float32) < ease).astype(float)


def graded(rng: np.random.Generator, ease: Array) -> Array:
    """0 or 1 in two thirds of the rows, in the others a sum of three thirds, as token F1 has such values."""
    first, second, third = (rng.random((3, *ease.shape), np.float32) < ease).astype(float)
    return np.where(rng.random(ease.shape, np.float32) < 0.65, first, (first + second + third) / 3)


@dataclass(frozen=True)
class World:
    """How programs of one experiment score.

    Args:
        mean: of the champion, and of a challenger that gains nothing.
        anew: share of the units in which a challenger draws its scores anew.
        size: rows of a unit; rows of one unit are alike.
    """

    name: str
    scores: Scores
    mean: float = 0.6
    anew: float = 0.4
    size: int = 1

    def ease(self, rng: np.random.Generator, histories: int, rows: int) -> Array:
        """How easy each row is, `[histories, rows]`; rows of a unit are equally easy."""
        if self.size == 1:
            return np.full((histories, rows), self.mean)
        units = rng.beta(2 * self.mean, 2 * (1 - self.mean), (histories, rows // self.size))
        return np.repeat(units, self.size, axis=1)

    def champion(self, rng: np.random.Generator, ease: Array) -> Array:
        """Its scores."""
        return self.scores(rng, ease)

    def challenger(self, rng: np.random.Generator, ease: Array, champion: Array, gain: float = 0.0) -> Array:
        """A program whose true mean is the champion's and `gain` more: some rows it gets right for certain."""
        units = (*champion.shape[:-1], champion.shape[-1] // self.size)
        fresh = np.repeat(rng.random(units, np.float32) < self.anew, self.size, axis=-1)
        drawn = np.where(fresh, self.scores(rng, np.broadcast_to(ease, champion.shape)), champion)
        if not gain:
            return drawn
        lifted = np.repeat(rng.random(units, np.float32) < gain / (1 - self.mean), self.size, axis=-1)
        return np.where(lifted, 1.0, drawn)

    def disagreement(self, rng: np.random.Generator, gain: float = 0.0) -> float:
        """Share of the rows on which a challenger scores otherwise than the champion."""
        ease = self.ease(rng, 200, 1_000)
        champion = self.champion(rng, ease)
        return float((self.challenger(rng, ease, champion, gain) != champion).mean())


WORLDS = (
    World("pass/fail", pass_fail, 0.6, 0.4),
    World("pass/fail, programs much alike", pass_fail, 0.6, 0.1),
    World("pass/fail, programs unlike", pass_fail, 0.5, 0.8),
    World("pass/fail, nearly all right", pass_fail, 0.9, 0.6),
    World("graded", graded, 0.6, 0.4),
    World("groups of 5", pass_fail, 0.6, 0.4, 5),
)
"""Of programs that differ as those of one experiment do."""
