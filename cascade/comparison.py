"""Whether a difference in score is more than luck, and what the data could not have shown.

Invariant: the verdict is read off the interval that is reported, so the two cannot disagree.

One method, the adjusted Wald interval: before the mean and its standard error are taken, two imaginary examples are
added, one wholly won and one wholly lost. That keeps it honest where the plain one collapses: no disagreement, ties,
and rare large losses that the sample happened to miss. Tango's score interval was computed exactly beside it: at 20 to
120 pass/fail pairs it falls up to 4 points below a nominal 90 %, this one up to 1.

Source for pass/fail pairs: D. G. Bonett, R. M. Price, Adjusted Wald confidence interval for a difference of binomial
proportions based on paired data, J. Educational and Behavioral Statistics 37 (2012) 479-488. Our extension of it, to
be trusted as far as it is simulated: graded scores with Student's quantile, and groups with the variance of a ratio
mean (W. G. Cochran, Sampling Techniques, 3rd ed., 1977, chapter 6) over their effective number.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from statistics import NormalDist

from cascade.errors import DatasetError

MIN_UNITS = 20
"""Fewest independent units (groups, or examples where there are no groups) that are compared."""

_POWER = NormalDist().inv_cdf(0.8)


class Verdict(StrEnum):
    """What a comparison says of the candidate."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval, in the unit of what it bounds (scores and gains: fractions)."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Comparison:
    """A candidate against a reference, paired by example.

    Args:
        verdict: `better`, `equivalent`, `worse` or `inconclusive`; never `unchanged`, which needs no test.
        gain: mean over examples of candidate minus reference, a fraction from -1 to 1.
        interval: of the true gain.
        n: examples.
        units: independent units: groups, or examples where there are no groups.
        method: how the interval was made.
        minimum_detectable_gain: smallest true gain that this comparison would have called `better` with 80 % power.
    """

    verdict: Verdict
    gain: float
    interval: Interval
    n: int
    units: int
    method: str
    minimum_detectable_gain: float


def corrected(confidence: float, comparisons: int) -> float:
    """Confidence of each of `comparisons` planned comparisons, so that all hold together at `confidence` (Bonferroni).

    >>> round(corrected(0.90, 4), 6)
    0.975

    Raises:
        ValueError: confidence not between 0 and 1, or no comparison.
    """
    _check_confidence(confidence)
    if comparisons < 1:
        raise ValueError(f"comparisons = {comparisons}: at least 1 is needed to correct for.")
    return 1 - (1 - confidence) / comparisons


def score_interval(scores: Sequence[float], *, groups: Sequence[Hashable] | None = None, confidence: float) -> Interval:
    """Interval for the true mean score of one program.

    Wilson's score interval for pass/fail scores without groups (E. B. Wilson, J. American Statistical Association 22
    (1927) 209-212), else the method of this module on the scale from 0 to 1.

    >>> round(score_interval([1, 1, 1, 0] * 15, confidence=0.95).low, 3)
    0.628

    Args:
        scores: one an example, from 0 to 1.
        groups: of each example, where examples of a group depend on each other.
        confidence: two-sided, between 0 and 1.

    Raises:
        ValueError: no score, a score outside 0 to 1, another number of groups, or a confidence outside 0 to 1.
    """
    values = _checked("scores", scores)
    _check_confidence(confidence)
    if not values:
        raise ValueError("scores is empty: an interval needs at least one score.")
    sample = _sample([2 * value - 1 for value in values], groups)
    if _pass_fail(values) and not sample.grouped:
        return _wilson(math.fsum(values), len(values), confidence)
    low, high = sample.bounds(_t_quantile(confidence, sample))
    return Interval((1 + low) / 2, (1 + high) / 2, confidence)


def compare(
    candidate: Sequence[float],
    reference: Sequence[float],
    *,
    groups: Sequence[Hashable] | None = None,
    confidence: float,
    margin: float,
) -> Comparison:
    """Compare two programs on the same examples.

    `better` if the whole interval is above 0, `worse` if it is below, `equivalent` if it is within ±`margin`, else
    `inconclusive`. Pass/fail pairs take the normal quantile, graded scores and groups the t quantile.

    >>> compare([1] * 40 + [0] * 20, [1] * 20 + [0] * 40, confidence=0.975, margin=0.03).verdict.value
    'better'

    Args:
        candidate: scores from 0 to 1, one an example.
        reference: scores of the same examples in the same order.
        groups: of each example, where examples of a group depend on each other; the gain stays a mean over examples.
        confidence: two-sided, between 0 and 1.
        margin: differences within ± this are equivalent, a fraction.

    Raises:
        DatasetError: fewer than 20 groups, or fewer than 20 examples where there are no groups.
        ValueError: scores outside 0 to 1, lengths that differ, a confidence outside 0 to 1 or a negative margin.
    """
    ours, theirs = _checked("candidate", candidate), _checked("reference", reference)
    _check_confidence(confidence)
    if not 0 <= margin <= 1:
        raise ValueError(f"margin = {margin}: a fraction from 0 to 1 is needed.")
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} candidate and {len(theirs)} reference scores: one of each an example is needed.")
    sample = _sample([a - b for a, b in zip(ours, theirs, strict=True)], groups)
    _check_units(sample)
    return _judge(sample, _pass_fail(ours + theirs) and not sample.grouped, confidence, margin)


def _judge(sample: "_Sample", pass_fail: bool, confidence: float, margin: float) -> Comparison:
    quantile = _z_quantile(confidence) if pass_fail else _t_quantile(confidence, sample)
    interval = Interval(*sample.bounds(quantile), confidence)
    kind = "pass/fail pairs" if pass_fail else "groups" if sample.grouped else "graded pairs"
    return Comparison(
        verdict=_verdict(interval, margin),
        gain=sample.mean,
        interval=interval,
        n=sample.n,
        units=len(sample.sums),
        method=f"adjusted Wald (Bonett-Price), {kind}",
        minimum_detectable_gain=_detectable_wins(sample, quantile) if pass_fail else sample.detectable(quantile),
    )


def _verdict(interval: Interval, margin: float) -> Verdict:
    if interval.low > 0:
        return Verdict.BETTER
    if interval.high < 0:
        return Verdict.WORSE
    if -margin <= interval.low and interval.high <= margin:
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class _Sample:
    """Values from -1 to 1: their sum and their number in each independent unit."""

    sums: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def grouped(self) -> bool:
        return max(self.sizes, default=1) > 1

    @cached_property
    def n(self) -> int:
        return sum(self.sizes)

    @cached_property
    def mean(self) -> float:
        return math.fsum(self.sums) / self.n

    @cached_property
    def typical_size(self) -> float:
        """Mean size of the unit that a value is in; more than the mean size of units where sizes differ."""
        return sum(size * size for size in self.sizes) / self.n

    @cached_property
    def imaginary(self) -> float:
        """Imaginary units on either side: 1 for single values, towards 1/2 for groups, which seldom turn as a whole."""
        return (1 + 1 / self.typical_size) / 2

    @cached_property
    def total(self) -> float:
        return self.n + 2 * self.imaginary * self.typical_size

    def error(self, imaginary: float) -> float:
        """Standard error of the mean with so many imaginary units on either side."""
        total = self.n + 2 * imaginary * self.typical_size
        mean = math.fsum(self.sums) / total
        squares = math.fsum((s - mean * size) ** 2 for s, size in zip(self.sums, self.sizes, strict=True))
        squares += imaginary * self.typical_size**2 * 2 * (1 + mean * mean)
        return math.sqrt(squares) / total

    def bounds(self, quantile: float) -> tuple[float, float]:
        """Low and high; the imaginary units draw the middle towards 0, so the mean itself is let in."""
        middle, half = math.fsum(self.sums) / self.total, quantile * self.error(self.imaginary)
        return max(min(middle - half, self.mean), -1.0), min(max(middle + half, self.mean), 1.0)

    def detectable(self, quantile: float) -> float:
        """Mean at which the lower bound is above 0 with 80 % power, if the spread stays as observed."""
        return min(quantile * self.error(self.imaginary) * self.total / self.n + _POWER * self.error(0), 1.0)


def _detectable_wins(sample: _Sample, quantile: float) -> float:
    """The same for pass/fail: a gain needs at least as many disagreements as wins, which bounds it away from 0."""
    n, disagreement = sample.n, math.fsum(abs(s) for s in sample.sums) / sample.n

    def detected(gain: float) -> bool:
        share = max(disagreement, gain)
        mean = n * gain / (n + 2)
        assumed = math.sqrt(((n * share + 2) / (n + 2) - mean * mean) / (n + 2))
        return mean >= quantile * assumed + _POWER * math.sqrt(n * (share - gain * gain)) / (n + 2)

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if detected(middle) else (middle, high)
    return high


def _wilson(passes: float, n: int, confidence: float) -> Interval:
    share, weight = passes / n, _z_quantile(confidence) ** 2 / n
    middle, half = share + weight / 2, math.sqrt(weight * (share * (1 - share) + weight / 4))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return Interval(max(min(low, share), 0.0), min(max(high, share), 1.0), confidence)


def _z_quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _t_quantile(confidence: float, sample: _Sample) -> float:
    """Student's quantile for the effective number of units, times what makes the plug-in standard error unbiased."""
    from scipy.special import stdtrit

    freedom, units = max(sample.n / sample.typical_size - 1, 1.0), sample.total / sample.typical_size
    return float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(units / (units - 1))


def _sample(values: Sequence[float], groups: Sequence[Hashable] | None) -> _Sample:
    if groups is None:
        return _Sample(tuple(values), (1,) * len(values))
    if len(groups) != len(values):
        raise ValueError(f"groups has {len(groups)} entries for {len(values)} examples: one per example is needed.")
    members: dict[Hashable, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        members[group].append(value)
    return _Sample(tuple(math.fsum(v) for v in members.values()), tuple(len(v) for v in members.values()))


def _pass_fail(values: Sequence[float]) -> bool:
    return all(value in (0.0, 1.0) for value in values)


def _checked(name: str, scores: Sequence[float]) -> list[float]:
    values = [float(score) for score in scores]
    for position, value in enumerate(values):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}[{position}] = {value}: a score is a number from 0 to 1.")
    return values


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: a fraction between 0 and 1 is needed, such as 0.9.")


def _check_units(sample: _Sample) -> None:
    kind, units = ("groups" if sample.grouped else "examples"), len(sample.sums)
    if units < MIN_UNITS:
        raise DatasetError(
            f"{units} {kind} cannot be compared. At least {MIN_UNITS} are needed: add {kind} to the split."
        )
