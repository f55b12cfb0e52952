"""Bounds for the mean of values from -1 to 1 that need no assumption about how the values are spread.

Invariant: one function, `tail`, gives every bound and every verdict; calibration simulates this same function.

Gaffke's bound: one imaginary unit is added that stands at the far end (-1 for a lower bound), every unit is given a
random weight from the exponential distribution, and the bound is the quantile of the weighted mean. So rare large
losses that the sample missed are paid for, in width, where Student's t and the bootstrap are wrong about them; where
values are one of two it is the exact bound of Clopper and Pearson. Units that are groups of unequal size count by their
size, and the imaginary one has the size of those that most of the variance comes from: that is our extension.

The quantile is not drawn but computed: a weighted sum of exponential variables has a known cumulant generating
function, and the saddlepoint approximation to its tail errs by a few thousandths of itself. The saddlepoint is that of
the empirical likelihood, so this is empirical likelihood with an imaginary unit, and corrected as its signed root is.

Sources: N. Gaffke, Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable, Mathematical Methods of Statistics 14 (2005) 451-467; E. Learned-Miller, P. S. Thomas, A new confidence
interval for the mean of a bounded random variable, arXiv:1905.06208; O. E. Barndorff-Nielsen, Inference on full or
partial parameters based on the standardized signed log likelihood ratio, Biometrika 73 (1986) 307-322. That the bound
holds for every distribution is conjectured, not proved; docs/calibration.md has what was simulated here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_NORMAL = NormalDist()
_FAR = 40.0
"""Standard normal deviate that stands for certainty."""
_POWER = _NORMAL.inv_cdf(0.8)


@dataclass(frozen=True)
class Sample:
    """Values from -1 to 1: their sum and their number in each independent unit, in any order."""

    sums: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def grouped(self) -> bool:
        """Whether a unit holds more than one value."""
        return max(self.sizes, default=1) > 1

    @cached_property
    def n(self) -> int:
        """Number of values."""
        return sum(self.sizes)

    @cached_property
    def mean(self) -> float:
        """Mean over values."""
        return math.fsum(self.sums) / self.n

    @cached_property
    def error(self) -> float:
        """Standard error of the mean as a ratio of sums (W. G. Cochran, Sampling Techniques, 1977, chapter 6)."""
        squares = ((s - self.mean * size) ** 2 for s, size in zip(self.sums, self.sizes, strict=True))
        return math.sqrt(math.fsum(squares)) / self.n

    def mirrored(self) -> "Sample":
        """The same with every value's sign changed."""
        return Sample(tuple(-s for s in self.sums), self.sizes)

    def arrays(self) -> "tuple[Array, Array]":
        """Sums and sizes in one order, so that the order of units changes no digit."""
        import numpy as np

        pairs = np.array(sorted(zip(self.sums, self.sizes, strict=True)), dtype=float)
        return pairs[:, 0], pairs[:, 1]


def tail(sums: "Array", sizes: "Array", mean: float) -> "Array":
    """Standard normal deviate of the chance that the randomly weighted mean, imaginary unit too, is at most `mean`.

    A lower bound with error e is above `mean` exactly where this is below the normal distribution's quantile of e.

    Args:
        sums: of the units, `[..., units]`: any leading shape of samples at once.
        sizes: of the units, `[units]`, the same in all samples.
        mean: from -1 to 1.

    Returns:
        One deviate a sample, within ±40.
    """
    import numpy as np

    imaginary = np.full((*sums.shape[:-1], 1), (-1 - mean) * _imaginary_size(sizes))
    return signed_root(np.concatenate([sums - mean * sizes, imaginary], axis=-1))


def _imaginary_size(sizes: "Array") -> float:
    """Mean size, each unit counted by its square: with a few large groups among many small ones, that of the large."""
    return float((sizes**3).sum() / (sizes**2).sum())


def signed_root(terms: "Array", counts: "Array | float" = 1.0) -> "Array":
    """Standard normal deviate of the chance that a weighted sum of gamma variables is at most 0.

    Args:
        terms: the weights, `[..., units]`.
        counts: shapes of the gamma variables; 1 makes them exponential.

    Returns:
        Of the shape `[...]`, within ±40: -40 where no weight is below 0, else 40 where none is above.
    """
    import numpy as np

    least, most = terms.min(-1), terms.max(-1)
    inside = (least < 0) & (most > 0)
    terms = np.where(inside[..., None], terms, np.where(np.arange(terms.shape[-1]) % 2, 1.0, -1.0))
    point = _saddlepoint(terms, counts)
    shares = terms / (1 - point[..., None] * terms)
    ratio = (counts * np.log1p(-point[..., None] * terms)).sum(-1)
    spread = (counts * shares**2).sum(-1)
    root, step = np.sign(point) * np.sqrt(2 * np.maximum(ratio, 0)), point * np.sqrt(spread)
    near = np.abs(root) < 1e-4
    root, step = np.where(near, 1.0, root), np.where(near, 1.0, step)
    middle = (counts * shares**3).sum(-1) / spread**1.5 / 3
    found = np.where(near, middle, np.clip(root + np.log(step / root) / root, -_FAR, _FAR))
    return np.where(inside, found, np.where(least >= 0, -_FAR, _FAR))


def _saddlepoint(terms: "Array", counts: "Array | float") -> "Array":
    """Where the cumulant generating function is flat: Newton's steps, halved where they leave the bracket."""
    import numpy as np

    low, high = 1 / terms.min(-1), 1 / terms.max(-1)
    point = np.zeros(terms.shape[:-1])
    for _ in range(100):
        shares = terms / (1 - point[..., None] * terms)
        slope = (counts * shares).sum(-1)
        low, high = np.where(slope < 0, point, low), np.where(slope > 0, point, high)
        to = point - slope / (counts * shares**2).sum(-1)
        to = np.where((to > low) & (to < high), to, (low + high) / 2)
        moved, point = np.abs(to - point), to
        if (moved <= 1e-13 * (np.abs(low) + np.abs(high))).all():
            break
    return point


def bounds(sample: Sample, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the true mean; the two errors, above and below, are half of the rest each."""
    return lower(sample, confidence), -lower(sample.mirrored(), confidence)


def lower(sample: Sample, confidence: float) -> float:
    """The lower of the two."""
    sums, sizes = sample.arrays()
    quantile = _NORMAL.inv_cdf((1 - confidence) / 2)
    top = float((sums / sizes).max())
    if top <= -1:
        return -1.0
    return min(_rising(lambda mean: float(tail(sums, sizes, mean)) - quantile, -1.0, top), sample.mean)


def detectable(sample: Sample, confidence: float) -> float:
    """True mean whose lower bound is above 0 in four samples of five, if the spread stays as observed.

    Of the values and of their mirror image the larger, so that it does not matter which program is the candidate.
    """
    return min(max(_least(sample, confidence), _least(sample.mirrored(), confidence)) + _POWER * sample.error, 1.0)


def _least(sample: Sample, confidence: float) -> float:
    """Mean to which the sample must be moved for its lower bound to reach 0."""
    import numpy as np

    sums, sizes = sample.arrays()
    size, quantile = _imaginary_size(sizes), _NORMAL.inv_cdf((1 - confidence) / 2)

    def shortfall(mean: float) -> float:
        return quantile - float(signed_root(np.append(sums + (mean - sample.mean) * sizes, -size)))

    return _rising(shortfall, 0.0, 2.0)


def detectable_wins(n: int, disagreement: float, confidence: float) -> float:
    """The same for pass/fail: a gain needs at least as many disagreements as wins, which bounds it away from 0.

    Args:
        n: pairs.
        disagreement: share of pairs that differ.
    """
    import numpy as np

    quantile = _NORMAL.inv_cdf((1 - confidence) / 2)

    def excess(gain: float) -> float:
        unlucky = gain - _POWER * math.sqrt((max(disagreement, gain) - gain * gain) / n)
        share = max(disagreement, unlucky)
        wins, losses = (n * max(share + sign * unlucky, 0.0) / 2 for sign in (1, -1))
        counts = np.array([wins, losses + 1])
        return quantile - float(signed_root(np.array([1.0, -1.0]), counts))

    return _rising(excess, 0.0, 1.0)


def _rising(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0 between `low` and `high`: false position, and halving where that stalls."""
    at_low, at_high = -_FAR, _FAR
    for turn in range(200):
        halve = turn % 3 == 2 or max(-at_low, at_high) > _FAR / 2
        middle = (low + high) / 2 if halve else low + (high - low) * at_low / (at_low - at_high)
        value = function(middle)
        if value == 0 or high - low <= 1e-12:
            return middle
        if value < 0:
            low, at_low = middle, value
        else:
            high, at_high = middle, value
    return (low + high) / 2
