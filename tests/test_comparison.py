"""The verdicts of `cascade.comparison`: tables of cases, properties, messages."""

import math
import random
import time
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.comparison import Comparison, Interval, Verdict, compare, corrected, score_interval
from cascade.errors import DatasetError
from cascade.intervals import tail

Pairs = tuple[list[float], list[float]]
quick = settings(max_examples=80, deadline=None)


def pass_fail(wins: int, losses: int, n: int = 60) -> Pairs:
    """Candidate and reference that disagree on `wins` + `losses` of `n` examples."""
    same = [float(i % 2) for i in range(n - wins - losses)]
    return [1.0] * wins + [0.0] * losses + same, [0.0] * wins + [1.0] * losses + same


def judged(pairs: Pairs, confidence: float = 0.9, margin: float = 0.03, groups: list[int] | None = None) -> Comparison:
    return compare(*pairs, groups=groups, confidence=confidence, margin=margin)


@pytest.mark.parametrize(
    ("wins", "losses", "n", "verdict"),
    [
        (2, 5, 60, Verdict.INCONCLUSIVE),
        (11, 3, 60, Verdict.INCONCLUSIVE),
        (18, 1, 60, Verdict.BETTER),
        (20, 3, 60, Verdict.BETTER),
        (1, 18, 60, Verdict.WORSE),
        (0, 0, 60, Verdict.INCONCLUSIVE),
        (0, 0, 500, Verdict.EQUIVALENT),
        (60, 0, 60, Verdict.BETTER),
        (0, 20, 20, Verdict.WORSE),
    ],
)
def test_verdicts_of_pass_fail_pairs(wins: int, losses: int, n: int, verdict: Verdict) -> None:
    comparison = judged(pass_fail(wins, losses, n), confidence=0.975)
    assert comparison.verdict is verdict
    assert comparison.gain == pytest.approx((wins - losses) / n)
    assert (comparison.n, comparison.units) == (n, n)


@pytest.mark.parametrize(
    ("shift", "margin", "verdict"),
    [
        (0.0, 0.03, Verdict.INCONCLUSIVE),
        (0.0, 0.2, Verdict.EQUIVALENT),
        (0.3, 0.03, Verdict.BETTER),
        (-0.3, 0.03, Verdict.WORSE),
        (0.3, 1.0, Verdict.BETTER),
    ],
)
def test_verdicts_of_graded_pairs(shift: float, margin: float, verdict: Verdict) -> None:
    reference = [0.3 + 0.4 * i / 59 for i in range(60)]
    comparison = judged(([score + shift for score in reference], reference), margin=margin)
    assert comparison.verdict is verdict
    assert comparison.gain == pytest.approx(shift)
    assert "graded" in comparison.method


def test_groups_widen_the_interval_where_their_examples_agree() -> None:
    groups = [i // 4 for i in range(120)]
    candidate = [float(g % 3 != 0) for g in groups]
    reference = [float(g % 5 == 0) for g in groups]
    alone, together = judged((candidate, reference)), judged((candidate, reference), groups=groups)
    assert together.gain == alone.gain
    assert (together.n, together.units, alone.units) == (120, 30, 120)
    assert width(together.interval) > 1.5 * width(alone.interval)


def test_the_gain_is_a_mean_over_examples_not_over_groups() -> None:
    groups = [0] * 21 + list(range(1, 40))
    candidate = [1.0] * 21 + [0.0] * 39
    assert judged((candidate, [0.0] * 60), groups=groups).gain == pytest.approx(21 / 60)


def test_groups_of_one_are_no_groups() -> None:
    pairs = pass_fail(11, 3)
    assert judged(pairs, groups=list(range(60))) == judged(pairs)


def test_a_group_that_holds_most_examples_proves_little() -> None:
    groups = [0] * 200 + list(range(1, 20))
    comparison = judged(([1.0] * 219, [0.0] * 200 + [1.0] * 19), groups=groups)
    assert comparison.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("n", "most"), [(20, 0.31), (60, 0.12), (120, 0.06), (500, 0.015)])
def test_even_without_disagreement_something_could_not_be_seen(n: int, most: float) -> None:
    assert 0 < judged(pass_fail(0, 0, n)).minimum_detectable_gain <= most


@pytest.mark.parametrize(("confidence", "disagreement"), [(0.9, 0.2), (0.975, 0.2), (0.975, 0.4), (0.9, 0.05)])
@pytest.mark.parametrize(("instead_of_losses", "most"), [(False, 0.96), (True, 1.0)])
def test_a_minimum_detectable_gain_is_detected_four_times_in_five(
    confidence: float, disagreement: float, instead_of_losses: bool, most: float
) -> None:
    """Where the gain comes as wins of any pairs; where it comes in place of losses, more often."""
    n, trials = 120, 4_000
    half = int(n * disagreement / 2)
    gain = judged(pass_fail(half, half, n), confidence=confidence).minimum_detectable_gain
    loss = max(disagreement - gain, 0) / 2 if instead_of_losses else (1 - gain) * disagreement / 2
    drawn = np.random.default_rng(3).choice([1.0, -1.0, 0.0], (trials, n), p=[loss + gain, loss, 1 - gain - 2 * loss])
    found = tail(drawn, np.ones(n), 0.0) < NormalDist().inv_cdf((1 - confidence) / 2)
    assert 0.78 <= found.mean() <= most


@pytest.mark.parametrize(
    ("confidence", "comparisons", "expected"), [(0.9, 1, 0.9), (0.9, 2, 0.95), (0.9, 4, 0.975), (0.95, 5, 0.99)]
)
def test_corrected(confidence: float, comparisons: int, expected: float) -> None:
    assert corrected(confidence, comparisons) == pytest.approx(expected)


def test_score_interval_is_clopper_pearsons_for_pass_fail() -> None:
    interval = score_interval([1] * 15 + [0] * 5, confidence=0.95)
    assert (interval.low, interval.high) == pytest.approx((0.5090, 0.9134), abs=2e-4)


@pytest.mark.parametrize("scores", [[0.5] * 30, [1.0] * 30, [0.0] * 30, [0.0, 0.25] * 15, [0.7], [1]])
@pytest.mark.parametrize("grouped", [False, True])
def test_score_interval_never_degenerates(scores: list[float], grouped: bool) -> None:
    groups = [i // 3 for i in range(len(scores))] if grouped else None
    interval = score_interval(scores, groups=groups, confidence=0.9)
    assert 0 <= interval.low <= sum(scores) / len(scores) <= interval.high <= 1
    assert width(interval) > 0.02


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: judged(([1.0] * 19, [0.0] * 19)), DatasetError, "19 examples cannot be compared. At least 20"),
        (lambda: judged(([], [])), DatasetError, "0 examples cannot be compared"),
        (
            lambda: judged(([1.0] * 60, [0.0] * 60), groups=[i % 7 for i in range(60)]),
            DatasetError,
            "7 groups cannot be compared. At least 20 are needed: add groups to the split.",
        ),
        (lambda: judged(([1.0] * 59, [0.0] * 60)), ValueError, "59 candidate and 60 reference scores"),
        (lambda: judged(([1.0] * 60, [0.0] * 60), groups=[1]), ValueError, "groups has 1 entries for 60 examples"),
        (lambda: judged(([math.nan] * 60, [0.0] * 60)), ValueError, r"candidate\[0\] = nan: a score is a number"),
        (lambda: judged(([0.0] * 60, [0.0] * 59 + [61.7])), ValueError, r"reference\[59\] = 61.7"),
        (lambda: judged(pass_fail(1, 1), confidence=90), ValueError, "confidence = 90"),
        (lambda: judged(pass_fail(1, 1), margin=-0.1), ValueError, "margin = -0.1"),
        (lambda: corrected(0.9, 0), ValueError, "comparisons = 0"),
        (lambda: score_interval([], confidence=0.9), ValueError, "scores is empty"),
        (lambda: score_interval([2.0], confidence=0.9), ValueError, r"scores\[0\] = 2.0"),
    ],
)
def test_errors_quote_the_value(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_500_examples_take_less_than_50_ms() -> None:
    """The fastest of ten, so that a busy machine does not fail it."""
    pairs = [i % 7 / 7 for i in range(500)], [i % 11 / 11 for i in range(500)]
    groups, seconds = [i // 4 for i in range(500)], []
    for _ in range(10):
        start = time.perf_counter()
        judged(pairs, groups=groups)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05


grades = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
rows = st.tuples(grades, grades, st.integers(0, 60)) | st.tuples(
    st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0]), st.integers(0, 60)
)
samples = st.lists(rows, min_size=20, max_size=80)


def columns(sample: list[tuple[float, float, int]], grouped: bool) -> tuple[Pairs, list[int] | None]:
    """Pairs and groups; where too few groups were drawn, every row stands alone."""
    candidate, reference, groups = (list(column) for column in zip(*sample, strict=True))
    return (candidate, reference), (groups if grouped and len(set(groups)) >= 20 else None)


@quick
@given(samples, st.booleans(), st.floats(0.5, 0.999), st.floats(0, 0.3))
def test_interval_holds_the_gain_and_the_verdict_agrees(
    sample: list[tuple[float, float, int]], grouped: bool, confidence: float, margin: float
) -> None:
    pairs, groups = columns(sample, grouped)
    comparison = judged(pairs, confidence, margin, groups)
    low, high = comparison.interval.low, comparison.interval.high
    assert -1 <= low <= comparison.gain <= high <= 1
    assert low < high
    assert 0 < comparison.minimum_detectable_gain <= 1
    expected = Verdict.INCONCLUSIVE
    if low > 0:
        expected = Verdict.BETTER
    elif high < 0:
        expected = Verdict.WORSE
    elif max(-low, high) <= margin:
        expected = Verdict.EQUIVALENT
    assert comparison.verdict is expected


@quick
@given(samples, st.booleans())
def test_swapping_the_programs_mirrors_everything(sample: list[tuple[float, float, int]], grouped: bool) -> None:
    pairs, groups = columns(sample, grouped)
    one, other = judged(pairs, groups=groups), judged((pairs[1], pairs[0]), groups=groups)
    mirror = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert other.verdict is mirror.get(one.verdict, one.verdict)
    assert (other.gain, other.interval.low, other.interval.high) == (-one.gain, -one.interval.high, -one.interval.low)
    assert other.minimum_detectable_gain == one.minimum_detectable_gain


@quick
@given(samples, st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(
    sample: list[tuple[float, float, int]], grouped: bool, rng: random.Random
) -> None:
    pairs, groups = columns(sample, grouped)
    rng.shuffle(sample)
    shuffled, shuffled_groups = columns(sample, grouped)
    assert judged(shuffled, groups=shuffled_groups) == judged(pairs, groups=groups)


@quick
@given(samples, st.booleans(), st.floats(0.5, 0.99), st.floats(0.001, 0.009))
def test_more_confidence_is_a_wider_interval(
    sample: list[tuple[float, float, int]], grouped: bool, confidence: float, more: float
) -> None:
    pairs, groups = columns(sample, grouped)
    narrow, wide = (judged(pairs, level, 0.03, groups).interval for level in (confidence, confidence + more))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@quick
@given(st.lists(grades, min_size=20, max_size=80), st.floats(0.5, 0.999))
def test_identical_scores_are_never_better_or_worse(scores: list[float], confidence: float) -> None:
    comparison = judged((scores, scores), confidence)
    assert comparison.verdict in (Verdict.EQUIVALENT, Verdict.INCONCLUSIVE)
    assert comparison.gain == 0


@quick
@given(st.lists(grades, min_size=1, max_size=60), st.floats(0.5, 0.999))
def test_score_interval_is_within_0_and_1_and_holds_the_mean(scores: list[float], confidence: float) -> None:
    interval = score_interval(scores, confidence=confidence)
    assert 0 <= interval.low < interval.high <= 1
    assert interval.low - 1e-12 <= math.fsum(scores) / len(scores) <= interval.high + 1e-12


def width(interval: Interval) -> float:
    return interval.high - interval.low
