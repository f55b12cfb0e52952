"""How often a bound misses the truth: that of `cascade.intervals`, and two that it is measured against."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from _calibration.worlds import Array, World
from cascade.intervals import tail

SIZES = (20, 30, 50, 100, 200, 500)
CONFIDENCES = (0.90, 0.975)
"""Of one comparison alone and of one of four that hold together at 0.90."""

Method = Callable[[Array, Array, float, tuple[float, ...]], list[Array]]
"""(sums, sizes, truth, confidences) → for each confidence, of each sample: is its lower bound above the truth."""


def quantile(confidence: float) -> float:
    """Deviate below which a tail puts the bound above the mean that was asked of."""
    return NormalDist().inv_cdf((1 - confidence) / 2)


def ours(sums: Array, sizes: Array, truth: float, confidences: tuple[float, ...]) -> list[Array]:
    """What `cascade.comparison.compare` and `score_interval` do, without solving for the bound."""
    found = tail(sums, sizes, truth)
    return [found < quantile(confidence) for confidence in confidences]


def students_t(sums: Array, sizes: Array, truth: float, confidences: tuple[float, ...]) -> list[Array]:
    """Student's t; over groups with the variance of a ratio mean."""
    mean, units = sums.sum(-1) / sizes.sum(), len(sizes)
    squares = ((sums - mean[:, None] * sizes) ** 2).sum(-1) * units / (units - 1)
    error = np.sqrt(squares) / sizes.sum()
    return [mean + stdtrit(units - 1, (1 - confidence) / 2) * error > truth for confidence in confidences]


def adjusted_wald(sums: Array, sizes: Array, truth: float, confidences: tuple[float, ...]) -> list[Array]:
    """Two imaginary units, one wholly won and one wholly lost (Bonett and Price 2012), with Student's quantile."""
    n, typical = sizes.sum(), (sizes**2).sum() / sizes.sum()
    imaginary = (1 + 1 / typical) / 2
    total = n + 2 * imaginary * typical
    mean, units = sums.sum(-1) / total, total / typical
    squares = ((sums - mean[:, None] * sizes) ** 2).sum(-1) + 2 * imaginary * typical**2 * (1 + mean**2)
    error = np.sqrt(squares * units / (units - 1)) / total
    most, freedom = sums.sum(-1) / n, max(n / typical - 1, 1)
    return [np.minimum(mean + stdtrit(freedom, (1 - c) / 2) * error, most) > truth for c in confidences]


METHODS: dict[str, Method] = {"ours": ours, "adjusted Wald": adjusted_wald, "Student's t": students_t}


def misses(world: World, units: int, samples: int, method: Method = ours) -> list[tuple[float, float]]:
    """Percent of samples whose lower bound is above the truth, and whose upper is below it; one pair a confidence."""
    rng, left, counts = np.random.default_rng([7, units, *world.name.encode()]), samples, np.zeros((2, 2))
    while left > 0:
        sums, sizes = world.draw(rng, min(left, 2_000), units)
        above = method(sums, sizes, world.truth, CONFIDENCES)
        below = method(-sums, sizes, -world.truth, CONFIDENCES)
        counts += [[flags.sum() for flags in pair] for pair in zip(above, below, strict=True)]
        left -= len(sums)
    return [(100 * float(low) / samples, 100 * float(high) / samples) for low, high in counts]
