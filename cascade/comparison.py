"""Whether a difference in score is more than luck, and what the data could not have shown.

Invariant: the verdict is read off the interval that is reported, so the two cannot disagree.

One method for everything, Gaffke's bound (`cascade.intervals`): pass/fail and graded scores, skewed and tied ones, with
groups and without. What it keeps, and what that costs in power, is simulated in docs/calibration.md.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cascade.errors import DatasetError
from cascade.intervals import Sample, bounds, detectable

MIN_UNITS = 20
"""Fewest independent units (groups, or examples where there are no groups) that are compared."""


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

    For pass/fail scores without groups it is the exact interval of C. J. Clopper and E. S. Pearson (Biometrika 26,
    1934, 404-413).

    >>> round(score_interval([1, 1, 1, 0] * 15, confidence=0.95).low, 3)
    0.621

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
    low, high = bounds(_sample([2 * value - 1 for value in values], groups), confidence)
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
    `inconclusive`. Each of these says something false at most as often as half of what `confidence` leaves.

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


def _judge(sample: Sample, pass_fail: bool, confidence: float, margin: float) -> Comparison:
    interval = Interval(*bounds(sample, confidence), confidence)
    kind = "pass/fail pairs" if pass_fail else "groups" if sample.grouped else "graded pairs"
    return Comparison(
        verdict=_verdict(interval, margin),
        gain=sample.mean,
        interval=interval,
        n=sample.n,
        units=len(sample.sums),
        method=f"Gaffke's bound, {kind}",
        minimum_detectable_gain=detectable(sample, confidence),
    )


def _verdict(interval: Interval, margin: float) -> Verdict:
    if interval.low > 0:
        return Verdict.BETTER
    if interval.high < 0:
        return Verdict.WORSE
    if -margin <= interval.low and interval.high <= margin:
        return Verdict.EQUIVALENT
    return Verdict.INCONCLUSIVE


def _sample(values: Sequence[float], groups: Sequence[Hashable] | None) -> Sample:
    if groups is None:
        return Sample(tuple(values), (1,) * len(values))
    if len(groups) != len(values):
        raise ValueError(f"groups has {len(groups)} entries for {len(values)} examples: one per example is needed.")
    members: dict[Hashable, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        members[group].append(value)
    return Sample(tuple(math.fsum(v) for v in members.values()), tuple(len(v) for v in members.values()))


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


def _check_units(sample: Sample) -> None:
    kind, units = ("groups" if sample.grouped else "examples"), len(sample.sums)
    if units < MIN_UNITS:
        raise DatasetError(
            f"{units} {kind} cannot be compared. At least {MIN_UNITS} are needed: add {kind} to the split."
        )
