"""The gate, as a table of cases and of properties."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import split

from cascade.evaluation import Evaluation
from cascade.outcome import Outcome
from cascade.production.promoting.gate import Rules, gate, spent

N = 100


def evaluation(right: int, *, tokens: int = 100, latency: float = 1.0, kind: float = 1.0, n: int = N) -> Evaluation:
    """The first `right` of `n` examples right, each of the same cost."""
    outcomes = tuple(
        Outcome(
            f"test-{i:04}", score=float(i < right), input_tokens=tokens, latency=latency, parts={"kind": kind},
            cost_usd=None,
        )
        for i in range(n)
    )  # fmt: skip
    return Evaluation(split("test", n), outcomes)


CHAMPION = evaluation(50)
CASES = [
    # challenger, rules, attempt, granted, words of the reason
    (evaluation(75), Rules(), 1, True, "it is better"),
    (evaluation(55), Rules(), 1, False, "not shown to be better; gains of less than"),
    (evaluation(40), Rules(), 1, False, "not shown to be better"),
    (evaluation(60), Rules(), 1, True, "(look 1 at this test)"),
    (evaluation(60), Rules(), 40, False, "(look 40 at this test)"),
    (evaluation(75), Rules(min_gain=0.10), 1, True, "it is better by 10.0 points"),
    (evaluation(60), Rules(min_gain=0.10), 1, False, "not shown to be better by 10.0 points"),
    (evaluation(49), Rules(min_gain=-0.10), 1, True, "it is not worse by 10.0 points"),
    (evaluation(45), Rules(min_gain=-0.05), 1, False, "not shown to be not worse by 5.0 points"),
    (
        evaluation(50, tokens=40),
        Rules(cheaper_margin=0.10),
        1,
        True,
        "serving costs 40 instead of 100 tokens an example, -60 %",
    ),
    (evaluation(50, tokens=40), Rules(cheaper_margin=0.01), 1, False, "may be worse by more than the margin of 1.0"),
    (
        evaluation(50, tokens=100),
        Rules(cheaper_margin=0.10),
        1,
        False,
        "it aims to be cheaper, but serving costs 100 instead",
    ),
    (evaluation(50, tokens=40), Rules(), 1, False, "not shown to be better"),
    (evaluation(75, tokens=400), Rules(cheaper_margin=0.10), 1, True, "it is better"),
    (evaluation(75, tokens=150), Rules(guardrails={"cost": 0.2}), 1, False, "a guardrail does not hold: cost from 100"),
    (evaluation(75, tokens=110), Rules(guardrails={"cost": 0.2}), 1, True, "it is better"),
    (evaluation(75, latency=2.0), Rules(guardrails={"latency": 0.5}), 1, False, "latency from 1 to 2, at most +"),
    (evaluation(75, latency=1.2), Rules(guardrails={"latency": 0.5}), 1, True, "it is better"),
    (evaluation(75, kind=0.8), Rules(guardrails={"kind": 0.10}), 1, False, "kind from 100.0% to 80.0%, at most"),
    (evaluation(75, kind=1.0), Rules(guardrails={"kind": 0.10}), 1, True, "it is better"),
]


@pytest.mark.parametrize(("challenger", "rules", "attempt", "granted", "words"), CASES)
def test_cases(challenger: Evaluation, rules: Rules, attempt: int, granted: bool, words: str) -> None:
    ruling = gate(challenger, CHAMPION, rules, attempt=attempt)
    assert ruling.granted is granted, ruling.reason
    assert words in ruling.reason


def test_figures_are_plain_and_say_what_was_seen() -> None:
    ruling = gate(evaluation(75), CHAMPION, Rules(guardrails={"cost": 0.1}), attempt=2)
    figures = ruling.figures()
    assert (figures["score"], figures["reference_score"], figures["gain"], figures["n"]) == (0.75, 0.5, 0.25, 100)
    assert figures["alpha"] == pytest.approx(0.05 / 6)
    assert figures["confidence"] == pytest.approx(1 - 0.1 / 6)
    (guard,) = figures["guardrails"]
    assert guard["held"] and guard["old"] == guard["new"] == 100


def test_looks_never_spend_more_than_alpha() -> None:
    assert math.fsum(spent(0.05, k) for k in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert math.fsum(spent(0.05, k) for k in range(1, 100_000)) < 0.05
    with pytest.raises(ValueError, match="attempt = 0"):
        spent(0.05, 0)


def test_a_guardrail_that_is_no_part_of_any_score_is_not_held_by_zeros() -> None:
    """Both programs score 0 in a part that does not exist: nothing got worse, and nothing is claimed to have."""
    ruling = gate(evaluation(75), CHAMPION, Rules(guardrails={"nonesuch": 0.2}), attempt=1)
    assert ruling.guardrails[0].old == ruling.guardrails[0].new == 0.0


def test_other_examples_are_refused() -> None:
    with pytest.raises(ValueError, match="different examples"):
        gate(evaluation(10, n=40), CHAMPION, Rules(), attempt=1)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, N), st.integers(1, 30), st.integers(1, 30))
def test_a_later_look_never_grants_what_an_earlier_one_refused(right: int, one: int, other: int) -> None:
    early, late = sorted((one, other))
    challenger = evaluation(right)
    if gate(challenger, CHAMPION, Rules(), attempt=late).granted:
        assert gate(challenger, CHAMPION, Rules(), attempt=early).granted


@settings(deadline=None, max_examples=40)
@given(st.integers(0, N), st.floats(0, 0.5), st.floats(0, 0.5))
def test_granted_means_that_the_lower_bound_says_so(right: int, floor: float, guard: float) -> None:
    rules: dict[str, Any] = dict(min_gain=floor, guardrails={"kind": guard})
    ruling = gate(evaluation(right), CHAMPION, Rules(**rules), attempt=1)
    held = all(one.held for one in ruling.guardrails)
    assert ruling.granted == (ruling.comparison.interval.low > floor and held)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.integers(50, 150), st.integers(50, 150)), min_size=N, max_size=N))
def test_a_relative_guardrail_bounds_what_was_seen(pairs: list[tuple[int, int]]) -> None:
    sides = [
        dataclasses.replace(
            CHAMPION,
            outcomes=tuple(
                dataclasses.replace(outcome, input_tokens=pair[side])
                for outcome, pair in zip(CHAMPION.outcomes, pairs, strict=True)
            ),
        )
        for side in (0, 1)
    ]
    (guard,) = gate(sides[0], sides[1], Rules(guardrails={"cost": 0.1}), attempt=1).guardrails
    assert guard.worst >= guard.new / guard.old - 1 - 1e-6
