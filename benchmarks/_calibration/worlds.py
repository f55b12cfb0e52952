"""Worlds with a known truth: values of units from -1 to 1 whose true mean is given.

Rare large wins are the mirror image of rare large losses, so that they are the other side of the same row. Base rates
of pass/fail scores matter to a comparison only through how often two programs disagree.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], tuple[Array, Array]]
"""(rng, samples, units) → sums `[samples, units]` and sizes `[units]` of the units."""


@dataclass(frozen=True)
class World:
    """Samples of units and the true mean of their values."""

    name: str
    draw: Draw
    truth: float = 0.0


def few(name: str, odds: dict[float, float]) -> World:
    """Values of a few kinds, with their odds."""
    values, chances = np.array(list(odds)), np.array(list(odds.values()))

    def draw(rng: np.random.Generator, samples: int, units: int) -> tuple[Array, Array]:
        places = np.searchsorted(np.cumsum(chances)[:-1], rng.random((samples, units)), side="right")
        return values[places], np.ones(units)

    return World(name, draw, float(values @ chances))


def pairs(name: str, win: float, loss: float) -> World:
    """Pass/fail pairs."""
    return few(name, {1.0: win, -1.0: loss, 0.0: 1 - win - loss})


def rare(name: str, share: Callable[[int], float], size: float, noise: float = 0.0) -> World:
    """A `share` loses `size`, the others win what makes the mean 0; `noise` is added to those or taken away."""

    def draw(rng: np.random.Generator, samples: int, units: int) -> tuple[Array, Array]:
        part = share(units)
        wins = size * part / (1 - part) + noise * rng.choice([-1.0, 1.0], (samples, units))
        return np.where(rng.random((samples, units)) < part, -size, wins), np.ones(units)

    return World(name, draw)


def token_f1(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Scores with 35 % at 0, 30 % at 1 and a middle between; their mean is 0.475."""
    kind = rng.random(shape)
    return np.where(kind < 0.35, 0.0, np.where(kind < 0.65, 1.0, rng.beta(2, 2, shape)))


def graded(name: str, agree: float) -> World:
    """Differences of two such scores that are the same in a share `agree` of the examples."""

    def draw(rng: np.random.Generator, samples: int, units: int) -> tuple[Array, Array]:
        drawn = token_f1(rng, (2, samples, units))
        return np.where(rng.random((samples, units)) < agree, 0.0, drawn[0] - drawn[1]), np.ones(units)

    return World(name, draw)


def graded_scores() -> World:
    """Such scores themselves, from -1 to 1."""
    return World(
        "token F1", lambda rng, samples, units: (2 * token_f1(rng, (samples, units)) - 1, np.ones(units)), -0.05
    )


def equal(units: int) -> Array:
    """Groups of five."""
    return np.full(units, 5.0)


def unequal(units: int) -> Array:
    """Groups of 1 to 30, most of them small."""
    return np.maximum(1, np.round(30 * (np.arange(1, units + 1) / units) ** 4))


def few_large(units: int) -> Array:
    """Groups of two, and one in twenty of twenty."""
    sizes = np.full(units, 2.0)
    sizes[-max(1, units // 20) :] = 20
    return sizes


def groups(name: str, sizes: Callable[[int], Array], together: float) -> World:
    """Groups whose values are the group's own with chance `together`; wins and losses are as likely."""
    kinds = np.array([-1.0, 0.0, 0.0, 0.0, 1.0])

    def draw(rng: np.random.Generator, samples: int, units: int) -> tuple[Array, Array]:
        found = sizes(units)
        owner = np.repeat(np.arange(units), found.astype(int))
        own = rng.choice(kinds, (samples, units))[:, owner]
        values = np.where(rng.random(own.shape) < together, own, rng.choice(kinds, own.shape))
        return summed(values, found), found

    return World(name, draw)


def summed(values: Array, sizes: Array) -> Array:
    """Sums of `[..., values]` over groups that stand one after another."""
    if sizes.max() == 1:
        return values
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    return np.add.reduceat(values, starts, axis=-1)


def rare_groups(name: str, sizes: Callable[[int], Array], share: float) -> World:
    """Whole groups lose 0.9, whatever their size; the others win a little."""
    single = rare(name, lambda _: share, 0.9)

    def draw(rng: np.random.Generator, samples: int, units: int) -> tuple[Array, Array]:
        found = sizes(units)
        return single.draw(rng, samples, units)[0] * found, found

    return World(name, draw)


COMPARISONS = [
    pairs("pass/fail, rates of 2 % or 98 %, independent", 0.0196, 0.0196),
    pairs("pass/fail, 2 % disagree", 0.01, 0.01),
    pairs("pass/fail, 10 % disagree", 0.05, 0.05),
    pairs("pass/fail, 20 % disagree", 0.10, 0.10),
    pairs("pass/fail, 40 % disagree", 0.20, 0.20),
    pairs("pass/fail, all disagree", 0.50, 0.50),
    pairs("pass/fail, 3 % wins, no losses", 0.03, 0.0),
    pairs("pass/fail, 20 % wins, no losses", 0.20, 0.0),
    pairs("pass/fail, 30 % wins, 5 % losses", 0.30, 0.05),
    graded("token F1, 40 % drawn anew", 0.6),
    graded("token F1, 5 % drawn anew", 0.95),
    few("five values, tied", {-1.0: 0.05, -0.5: 0.15, 0.0: 0.6, 0.5: 0.15, 1.0: 0.05}),
    few("0, ½, 1, 4 % differ", {-0.5: 0.02, 0.0: 0.96, 0.5: 0.02}),
    few("ties, skewed", {-1.0: 0.1, 0.0: 0.3, 1 / 6: 0.6}),
    rare("1 % lose 0.9", lambda _: 0.01, 0.9),
    rare("2 % lose 0.9", lambda _: 0.02, 0.9),
    rare("5 % lose 0.9", lambda _: 0.05, 0.9),
    rare("10 % lose 0.9", lambda _: 0.10, 0.9),
    rare("2 % lose 0.9, others ± 0.1", lambda _: 0.02, 0.9, 0.1),
    rare("5 % lose 0.6, others ± 0.3", lambda _: 0.05, 0.6, 0.3),
    rare("3 in n lose 0.95", lambda units: 3 / units, 0.95),
    rare("5 in n lose 0.95", lambda units: 5 / units, 0.95),
    groups("groups of 5, half together", equal, 0.5),
    groups("groups of 5, together", equal, 0.95),
    groups("groups of 1 to 30, half together", unequal, 0.5),
    groups("groups of 1 to 30, together", unequal, 0.95),
    rare_groups("groups of 5, 5 % lose 0.9", equal, 0.05),
    rare_groups("groups of 1 to 30, 5 % lose 0.9", unequal, 0.05),
    rare_groups("groups of 1 to 30, 15 % lose 0.9", unequal, 0.15),
    rare_groups("groups of 2 and 20, 10 % lose 0.9", few_large, 0.10),
    rare_groups("groups of 2 and 20, 20 % lose 0.9", few_large, 0.20),
]
"""Differences of two programs."""

SCORES = [
    *(few(f"pass/fail, {rate:.0%}", {1.0: rate, -1.0: 1 - rate}) for rate in (0.02, 0.1, 0.5, 0.9, 0.98)),
    graded_scores(),
    few("0, ½, 1", {-1.0: 0.2, 0.0: 0.3, 1.0: 0.5}),
    few("3 % score 0, others 0.95", {-1.0: 0.03, 0.9: 0.97}),
    groups("groups of 5, together", equal, 0.95),
    groups("groups of 1 to 30, together", unequal, 0.95),
]
"""Scores of one program, from -1 to 1 in place of 0 to 1."""
