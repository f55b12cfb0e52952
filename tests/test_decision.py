"""The rules of `cascade.decision`: the worked case, each rule at its boundary, properties, sentences."""

import json
from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.comparison import Comparison, Interval, Verdict, compare
from cascade.decision import Decision, Evidence, Kept, Next, Standing, decide, proof, proven
from cascade.experiment import Plateau

LEVERS = ("prompt", "both", "weights")
PROMPTS_AND_WEIGHTS = [("demos", "prompt"), ("more", "prompt"), ("together", "both"), ("tune", "weights")]


@dataclass(frozen=True)
class Rules:
    """A `PlateauRules` of its own, so that the tables do not hang on defaults."""

    patience: int = 2
    min_gain: float = 0.01
    on_plateau: Literal["escalate", "stop"] = "escalate"
    max_cost_per_point: float | None = None


def compared(verdict: str, gain: float, low: float, high: float) -> Comparison:
    return Comparison(Verdict(verdict), gain, Interval(low, high, 0.975), 60, 60, "by hand", 0.16)


BETTER = compared("better", 0.2, 0.1, 0.3)
WORSE = compared("worse", -0.2, -0.3, -0.1)
EQUIVALENT = compared("equivalent", 0.0, -0.02, 0.02)
INCONCLUSIVE = compared("inconclusive", 0.05, -0.05, 0.15)


def stage(comparison: Comparison = INCONCLUSIVE, dev_score: float = 0.55, lever: str = "prompt") -> Evidence:
    return Evidence("x", lever, against_anchor=comparison, dev_score=dev_score)


def test_the_worked_case_of_the_design() -> None:
    """Dev 60; net wins against the baseline 0, -3, +8, +17."""
    baseline = [1.0] * 29 + [0.0] * 31

    def against(wins: int, losses: int) -> Evidence:
        candidate = [1.0] * (29 - losses) + [0.0] * losses + [1.0] * wins + [0.0] * (31 - wins)
        comparison = compare(candidate, baseline, confidence=0.975, margin=0.03)
        return stage(comparison, sum(candidate) / 60)

    standing, ahead = Standing(29 / 60), [("demos", "prompt"), ("together", "both"), ("weights", "weights")]
    first, standing = decide(Evidence("mipro", "prompt", unchanged=True), standing, Plateau(), ahead=ahead)
    assert (first.verdict, first.kept, first.next) == (Verdict.UNCHANGED, Kept.INCUMBENT, Next.CONTINUE)

    second, standing = decide(against(2, 5), standing, Plateau(), ahead=ahead[1:])
    assert (second.verdict, second.kept, second.next) == (Verdict.INCONCLUSIVE, Kept.INCUMBENT, Next.ESCALATE)
    assert "2 prompt stages in a row without better" in second.reason
    assert standing.incumbent_score == 29 / 60

    third, standing = decide(replace(against(11, 3), lever="both"), standing, Plateau(), ahead=ahead[2:])
    assert (third.verdict, third.kept, third.next) == (Verdict.INCONCLUSIVE, Kept.NEW, Next.CONTINUE)
    assert third.reason.startswith("Dev 61.7 % against the anchor's 48.3 %: gain +13.3 points [-2.2, +28.8] at 97.5 %")
    assert (standing.incumbent_score, standing.misses) == (pytest.approx(37 / 60), 1)

    fourth, standing = decide(replace(against(20, 3), lever="weights"), standing, Plateau(), ahead=[])
    assert (fourth.verdict, fourth.kept, fourth.next) == (Verdict.BETTER, Kept.NEW, Next.STOP)
    assert (standing.incumbent_score, standing.misses, fourth.status) == (pytest.approx(46 / 60), 0, "completed")


@pytest.mark.parametrize(
    ("dev_score", "comparison", "costs", "kept"),
    [
        (0.51, INCONCLUSIVE, (None, None), Kept.NEW),
        (0.509, INCONCLUSIVE, (None, None), Kept.INCUMBENT),
        (0.509, INCONCLUSIVE, (2.0, 3.0), Kept.NEW),
        (0.509, INCONCLUSIVE, (3.0, 3.0), Kept.INCUMBENT),
        (0.509, INCONCLUSIVE, (2.0, None), Kept.INCUMBENT),
        (0.509, INCONCLUSIVE, (None, 3.0), Kept.INCUMBENT),
        (0.5, EQUIVALENT, (2.0, 3.0), Kept.NEW),
        (0.499, EQUIVALENT, (2.0, 3.0), Kept.INCUMBENT),
        (0.51, EQUIVALENT, (9.0, 3.0), Kept.NEW),
        (0.6, WORSE, (2.0, 3.0), Kept.INCUMBENT),
        (0.4, BETTER, (2.0, 3.0), Kept.INCUMBENT),
        (0.7, BETTER, (9.0, 3.0), Kept.NEW),
    ],
)
def test_kept_where_the_aim_is_better(
    dev_score: float, comparison: Comparison, costs: tuple[float | None, float | None], kept: Kept
) -> None:
    evidence = replace(stage(comparison, dev_score), serving_cost=costs[0])
    decision, after = decide(evidence, Standing(0.5, incumbent_cost=costs[1]), Rules(), ahead=PROMPTS_AND_WEIGHTS)
    assert decision.kept is kept
    new = kept is Kept.NEW
    assert (after.incumbent_score, after.incumbent_cost) == ((dev_score, costs[0]) if new else (0.5, costs[1]))


def test_the_least_gain_forgives_rounding_and_0_is_no_gain() -> None:
    decision, _ = decide(stage(dev_score=0.29), Standing(0.28), Rules(min_gain=0.01), ahead=[])
    assert decision.kept is Kept.NEW
    decision, _ = decide(stage(dev_score=0.5), Standing(0.5), Rules(min_gain=0.0), ahead=[])
    assert decision.kept is Kept.INCUMBENT


@pytest.mark.parametrize(
    ("low", "costs", "verdict", "kept"),
    [
        (-0.029, (1.0, 2.0), INCONCLUSIVE, Kept.NEW),
        (-0.03, (1.0, 2.0), INCONCLUSIVE, Kept.INCUMBENT),
        (-0.031, (1.0, 2.0), BETTER, Kept.INCUMBENT),
        (-0.029, (2.0, 2.0), INCONCLUSIVE, Kept.INCUMBENT),
        (-0.029, (None, 2.0), INCONCLUSIVE, Kept.INCUMBENT),
        (-0.029, (1.0, None), INCONCLUSIVE, Kept.INCUMBENT),
        (-0.029, (1.0, 2.0), WORSE, Kept.INCUMBENT),
    ],
)
def test_kept_where_the_aim_is_cheaper(
    low: float, costs: tuple[float | None, float | None], verdict: Comparison, kept: Kept
) -> None:
    evidence = replace(
        stage(verdict, 0.49, "weights"),
        aim="cheaper",
        margin=0.03,
        serving_cost=costs[0],
        against_incumbent=compared("inconclusive", -0.01, low, 0.01),
    )
    decision, _ = decide(evidence, Standing(0.5, incumbent_cost=costs[1]), Rules(), ahead=[])
    assert decision.kept is kept


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence("x", "prompt", unchanged=True, dev_score=0.5), Verdict.UNCHANGED),
        (Evidence("x", "prompt", failed="no traces"), None),
    ],
)
def test_without_a_new_program_the_incumbent_stays_and_a_miss_is_counted(
    evidence: Evidence, verdict: Verdict | None
) -> None:
    decision, after = decide(evidence, Standing(0.5), Rules(), ahead=PROMPTS_AND_WEIGHTS)
    assert (decision.verdict, decision.kept, decision.gain, decision.interval) == (verdict, Kept.INCUMBENT, None, None)
    assert (after.incumbent_score, after.misses, after.lever) == (0.5, 1, "prompt")


@pytest.mark.parametrize(
    ("lever", "misses", "comparison", "patience", "expected"),
    [
        (None, 0, INCONCLUSIVE, 2, (1, Next.CONTINUE)),
        ("prompt", 1, INCONCLUSIVE, 2, (2, Next.ESCALATE)),
        ("prompt", 1, EQUIVALENT, 3, (2, Next.CONTINUE)),
        ("prompt", 1, BETTER, 2, (0, Next.CONTINUE)),
        ("both", 1, WORSE, 2, (1, Next.CONTINUE)),
        (None, 0, WORSE, 1, (1, Next.ESCALATE)),
    ],
)
def test_misses_are_counted_by_lever(
    lever: str | None, misses: int, comparison: Comparison, patience: int, expected: tuple[int, Next]
) -> None:
    standing = Standing(0.5, lever=lever, misses=misses)
    decision, after = decide(stage(comparison), standing, Rules(patience), ahead=PROMPTS_AND_WEIGHTS)
    assert (after.misses, decision.next) == expected


@pytest.mark.parametrize(
    ("on_plateau", "ahead", "expected"),
    [
        ("escalate", PROMPTS_AND_WEIGHTS, (Next.ESCALATE, ("demos", "more"), None)),
        ("escalate", [("tune", "weights")], (Next.ESCALATE, (), None)),
        ("escalate", [("tune", "weights"), ("last", "prompt")], (Next.ESCALATE, ("last",), None)),
        ("escalate", [("demos", "prompt")], (Next.STOP, ("demos",), "plateau")),
        ("escalate", [], (Next.STOP, (), "completed")),
        ("stop", [("tune", "weights")], (Next.STOP, ("tune",), "plateau")),
    ],
)
def test_at_a_plateau(
    on_plateau: Literal["escalate", "stop"],
    ahead: list[tuple[str, str]],
    expected: tuple[Next, tuple[str, ...], str | None],
) -> None:
    standing = Standing(0.5, lever="prompt", misses=1)
    decision, _ = decide(stage(), standing, Rules(on_plateau=on_plateau), ahead=ahead)
    assert (decision.next, decision.skipped, decision.status) == expected


@pytest.mark.parametrize(
    ("misses", "before", "cost", "comparison", "expected"),
    [
        (1, (20.0, None), 10.0, INCONCLUSIVE, Next.ESCALATE),
        (1, (20.0, None), 10.1, INCONCLUSIVE, Next.STOP),
        (1, (20.0, 0.2), 10.1, INCONCLUSIVE, Next.ESCALATE),
        (0, (20.0, None), 10.1, INCONCLUSIVE, Next.CONTINUE),
        (1, (None, None), 99.0, INCONCLUSIVE, Next.ESCALATE),
        (1, (99.0, None), None, INCONCLUSIVE, Next.ESCALATE),
        (1, (0.0, None), 0.0, WORSE, Next.ESCALATE),
        (1, (0.0, None), 0.01, WORSE, Next.STOP),
        (1, (99.0, None), 99.0, BETTER, Next.CONTINUE),
    ],
)
def test_a_point_may_be_too_dear_at_a_plateau(
    misses: int, before: tuple[float | None, float | None], cost: float | None, comparison: Comparison, expected: Next
) -> None:
    """$2 a point: the upper bound of 15 points may cost $30 since the anchor."""
    standing = Standing(0.5, lever="prompt", misses=misses, cost_since_anchor=before[0], gain_bound=before[1])
    rules = Rules(max_cost_per_point=2.0)
    decision, _ = decide(replace(stage(comparison), cost=cost), standing, rules, ahead=PROMPTS_AND_WEIGHTS)
    assert decision.next is expected
    if expected is Next.STOP:
        assert "is more than $2.00 a point" in decision.reason
        assert decision.status == "plateau"


def test_better_forgets_cost_and_bound() -> None:
    standing = Standing(0.5, lever="prompt", misses=1, cost_since_anchor=None, gain_bound=0.4)
    _, after = decide(stage(BETTER, 0.7), standing, Rules(), ahead=[])
    assert after == Standing(0.7, None, "prompt", 0, 0.0, None)
    _, after = decide(stage(INCONCLUSIVE), standing, Rules(), ahead=[])
    assert after.gain_bound == 0.4


@pytest.mark.parametrize(
    ("evidence", "target", "budget", "status"),
    [
        (stage(dev_score=0.95), 0.95, None, "target"),
        (stage(dev_score=0.95), 0.95, "5,000 of 5,000 LM calls are spent.", "target"),
        (stage(WORSE, dev_score=0.96), 0.95, None, None),
        (stage(dev_score=0.94), 0.95, None, None),
        (stage(dev_score=0.94), 0.95, "5,000 of 5,000 LM calls are spent.", "budget"),
        (Evidence("x", "prompt", failed="budget"), None, "5,000 of 5,000 LM calls are spent.", "budget"),
    ],
)
def test_target_and_budget_stop(evidence: Evidence, target: float, budget: str | None, status: str | None) -> None:
    decision, _ = decide(
        evidence, Standing(0.5), Rules(), ahead=PROMPTS_AND_WEIGHTS, target=target, budget_spent=budget
    )
    assert decision.status == status
    assert decision.next is (Next.CONTINUE if status is None else Next.STOP)
    assert len(decision.skipped) == (0 if status is None else 4)
    assert ".," not in decision.reason


@pytest.mark.parametrize(
    ("evidence", "standing", "ahead", "reason"),
    [
        (
            stage(compared("inconclusive", 8 / 60, -0.008, 0.275), 37 / 60),
            Standing(29 / 60),
            [("tune", "weights")],
            "Dev 61.7 % against the anchor's 48.3 %: gain +13.3 points [-0.8, +27.5] at 97.5 % confidence: inconclusive"
            " (less than 16.0 points would likely not have been seen); kept, because +13.3 points against the "
            "incumbent reach the least gain of +1.0; goes on with 'tune'.",
        ),
        (
            Evidence("x", "prompt", unchanged=True),
            Standing(0.5, lever="prompt", misses=1),
            PROMPTS_AND_WEIGHTS,
            "Stage 'x' returned the incumbent, so nothing was tested; the incumbent is kept; 2 prompt stages in a row "
            "without better: a plateau, so it escalates to both with 'together', skipping 'demos', 'more'.",
        ),
        (
            Evidence("x", "prompt", failed="no example\n  scored above 0.5."),
            Standing(0.5),
            [],
            "Stage 'x' failed (no example scored above 0.5); the incumbent is kept; no stage is left.",
        ),
        (
            stage(WORSE, 0.3),
            Standing(0.5),
            [],
            "Dev 30.0 % against the anchor's 50.0 %: gain -20.0 points [-30.0, -10.0] at 97.5 % confidence: worse; "
            "not kept, because it is worse; no stage is left.",
        ),
    ],
)
def test_reasons_are_sentences(
    evidence: Evidence, standing: Standing, ahead: list[tuple[str, str]], reason: str
) -> None:
    assert decide(evidence, standing, Rules(), ahead=ahead)[0].reason == reason


def test_to_json_is_the_contract() -> None:
    decision, _ = decide(stage(), Standing(0.5), Rules(), ahead=[])
    document = json.loads(json.dumps(decision.to_json({"lm_calls": 7})))
    assert {"verdict", "kept", "next", "lever", "reason", "gain", "interval", "confidence", "n"} < document.keys()
    assert (document["verdict"], document["kept"], document["next"]) == ("inconclusive", "new", "stop")
    assert (document["interval"], document["spent"]) == ([-0.05, 0.15], {"lm_calls": 7})
    assert document["minimum_detectable_gain"] == 0.16
    failed, _ = decide(Evidence("x", "prompt", failed="why"), Standing(0.5), Rules(), ahead=[])
    assert (failed.to_json()["verdict"], failed.to_json()["interval"], failed.to_json()["spent"]) == (None, None, {})
    assert type(decision.to_json()["verdict"]) is str


@pytest.mark.parametrize(
    ("comparison", "expected", "sentence"),
    [
        (compared("better", 0.2667, 0.171, 0.36), True, "proven on test: +26.7 points [+17.1, +36.0]"),
        (compared("inconclusive", 0.05, 0.0, 0.1), False, "not proven on test: +5.0 points [0.0, +10.0]"),
        (compared("worse", -0.05, -0.1, -0.0001), False, "not proven on test: -5.0 points [-10.0, 0.0]"),
        (None, False, "not proven on test"),
    ],
)
def test_proven_on_test(comparison: Comparison | None, expected: bool, sentence: str) -> None:
    assert proven(comparison) is expected
    assert proof(comparison) == sentence


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "against_anchor is given unless it is unchanged or failed"),
        ({"failed": "why", "against_anchor": BETTER}, "against_anchor is given unless"),
        ({"unchanged": True, "against_anchor": BETTER}, "against_anchor is given unless"),
        ({"aim": "cheaper", "against_anchor": BETTER}, "the aim 'cheaper' needs against_incumbent"),
    ],
)
def test_evidence_that_contradicts_itself(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"Stage 'x': .*{message}"):
        Evidence("x", "prompt", **fields)  # type: ignore[arg-type]


fractions = st.floats(0, 1)
costs = st.none() | st.floats(0, 10)
comparisons = st.sampled_from([BETTER, WORSE, EQUIVALENT, INCONCLUSIVE])
stages = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(LEVERS)), max_size=4)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    outcome = draw(st.sampled_from(["compared", "compared", "unchanged", "failed"]))
    compares = outcome == "compared"
    return Evidence(
        "x",
        draw(st.sampled_from(LEVERS)),
        aim=draw(st.sampled_from(["better", "cheaper"])),
        margin=draw(st.floats(0, 0.1)),
        unchanged=outcome == "unchanged",
        failed="why" if outcome == "failed" else None,
        against_anchor=draw(comparisons) if compares else None,
        against_incumbent=draw(comparisons) if compares else None,
        dev_score=draw(fractions),
        serving_cost=draw(costs),
        cost=draw(costs),
    )


rules = st.builds(
    Rules, st.integers(1, 3), st.floats(0, 0.1), st.sampled_from(["escalate", "stop"]), st.none() | st.floats(0, 2)
)
standings = st.builds(Standing, fractions, costs, st.sampled_from(LEVERS), st.integers(0, 3), costs, st.none())


@settings(max_examples=300, deadline=None)
@given(evidences(), standings, rules, stages, st.none() | fractions)
def test_what_always_holds(
    evidence: Evidence, standing: Standing, plateau: Rules, ahead: list[tuple[str, str]], target: float | None
) -> None:
    decision, after = decide(evidence, standing, plateau, ahead=ahead, target=target)
    assert decision == decide(evidence, standing, plateau, ahead=ahead, target=target)[0]
    if evidence.verdict in (Verdict.WORSE, Verdict.UNCHANGED, None):
        assert decision.kept is Kept.INCUMBENT
    if evidence.aim == "better":
        assert after.incumbent_score >= standing.incumbent_score
    assert (after.misses == 0) is (evidence.verdict is Verdict.BETTER)
    assert (decision.status is not None) is (decision.next is Next.STOP)
    check_what_runs_next(decision, evidence.lever, ahead)
    assert decision.reason.endswith(".")
    assert "\n" not in decision.reason


def check_what_runs_next(decision: Decision, lever: str, ahead: list[tuple[str, str]]) -> None:
    names = {name for name, _ in ahead}
    assert set(decision.skipped) <= names
    if decision.next is Next.CONTINUE:
        assert ahead
        assert decision.skipped == ()
    elif decision.next is Next.ESCALATE:
        assert decision.skipped == tuple(name for name, other in ahead if other == lever)
        assert any(other != lever for _, other in ahead)
    else:
        assert set(decision.skipped) == names
