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

    def both_ways(self) -> "tuple[Array, Array]":
        """Sums and sizes `[2, units]`: as they are, and with the signs changed.

        The units are sorted, so that neither their order nor which program is the candidate changes a digit.
        """
        import numpy as np

        pairs = list(zip(self.sums, self.sizes, strict=True))
        rows = np.array([sorted(pairs), sorted((-s, size) for s, size in pairs)], dtype=float)
        return rows[..., 0], rows[..., 1]


def tail(sums: "Array", sizes: "Array", mean: "Array | float") -> "Array":
    """Standard normal deviate of the chance that the randomly weighted mean, imaginary unit too, is at most `mean`.

    A lower bound with error e is above `mean` exactly where this is below the normal distribution's quantile of e.

    Args:
        sums: of the units, `[..., units]`: any leading shape of samples at once.
        sizes: of the units, `[..., units]`, or `[units]` where all samples have the same.
        mean: from -1 to 1, `[...]`, or one for all samples.

    Returns:
        One deviate a sample, within ±40.
    """
    import numpy as np

    means = np.asarray(mean)[..., None]
    imaginary = np.broadcast_to((-1 - means) * _imaginary_size(sizes), (*sums.shape[:-1], 1))
    return signed_root(np.concatenate([sums - means * sizes, imaginary], axis=-1))


def _imaginary_size(sizes: "Array") -> "Array":
    """Mean size, each unit counted by its square: with a few large groups among many small ones, that of the large."""
    size: Array = (sizes**3).sum(-1, keepdims=True) / (sizes**2).sum(-1, keepdims=True)
    return size


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
    rounding, point = 1e-15 * (high - low), np.zeros(terms.shape[:-1])
    for _ in range(100):
        shares = terms / (1 - point[..., None] * terms)
        slope = (counts * shares).sum(-1)
        low, high = np.where(slope < 0, point, low), np.where(slope > 0, point, high)
        to = point - slope / (counts * shares**2).sum(-1)
        to = np.where((to > low) & (to < high), to, (low + high) / 2)
        moved, point = np.abs(to - point), to
        if (moved <= np.maximum(1e-8 * (high - low), rounding)).all():
            break
    return point


def bounds(sample: Sample, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the true mean; the two errors, above and below, are half of the rest each."""
    import numpy as np

    sums, sizes = sample.both_ways()
    quantile = _NORMAL.inv_cdf((1 - confidence) / 2)
    lower, upper = _rising(lambda mean: tail(sums, sizes, mean) - quantile, np.full(2, -1.0), (sums / sizes).max(-1))
    return min(float(lower), sample.mean), max(-float(upper), sample.mean)


def detectable(sample: Sample, confidence: float) -> float:
    """True mean whose lower bound is above 0 in four samples of five.

    The spread stays as observed, and a gain adds to it: it comes as wins, each as large as the largest difference of
    the sample, in a share of the units. Of the values and of their mirror image the larger, so that it does not matter
    which program is the candidate.
    """
    import numpy as np

    sums, sizes = sample.both_ways()
    units, n, quantile = len(sample.sums), sample.n, _NORMAL.inv_cdf((1 - confidence) / 2)
    centred = sums - sums.sum(-1, keepdims=True) / n * sizes
    largest = np.abs(sums / sizes).max(-1)
    most = np.where(largest > 0, largest, 1.0) * (sizes**2).sum(-1) / n

    def wins(gain: "Array") -> "tuple[Array, Array]":
        size = np.maximum(most, gain * n / units)
        return size, gain * n / size

    def seen(gain: "Array") -> "Array":
        size, won = wins(gain)
        terms = np.concatenate([centred, size[:, None], -_imaginary_size(sizes)], axis=-1)
        counts = np.concatenate([np.repeat((1 - won / units)[:, None], units, 1), won[:, None], np.ones((2, 1))], -1)
        return quantile - signed_root(terms, counts)

    def unlucky(gain: "Array") -> "Array":
        size, won = wins(gain)
        squares = (1 - won / units) * (centred**2).sum(-1) + won * size**2 - (gain * n) ** 2 / units
        found: Array = gain - _POWER * np.sqrt(np.maximum(squares, 0)) / n
        return found

    needed = _rising(seen, np.zeros(2), np.ones(2))
    return float(_rising(lambda gain: unlucky(gain) - needed, needed, np.ones(2)).max())


def _rising(function: "Callable[[Array], Array]", low: "Array", high: "Array") -> "Array":
    """Where rising functions cross 0 between `low` and `high`, or the end nearer to it: the Illinois method."""
    import numpy as np

    at_low, at_high, found = np.full_like(low, -_FAR), np.full_like(high, _FAR), low
    side, open_ = np.zeros_like(low), np.ones_like(low, dtype=bool)
    for _ in range(100):
        far = np.maximum(-at_low, at_high) > _FAR / 2
        middle = np.where(far, (low + high) / 2, low + (high - low) * at_low / (at_low - at_high))
        found = np.where(open_, middle, found)
        value = function(found)
        open_ = open_ & (np.abs(value) > 1e-11) & (high - low > 1e-13)
        if not open_.any():
            break
        below = value < 0
        at_high = np.where(below & (side < 0), at_high / 2, np.where(below, at_high, value))
        at_low = np.where(~below & (side > 0), at_low / 2, np.where(below, value, at_low))
        low, high, side = np.where(below, found, low), np.where(below, high, found), np.where(below, -1.0, 1.0)
    return found
