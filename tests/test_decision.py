"""The rules of `cascade.decision`: the worked case, each rule at its boundary, properties, sentences."""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.comparison import Comparison, Interval, Verdict, compare
from cascade.decision import Decision, Kept, Next, decide, proof, proven
from cascade.evidence import Ahead, Evidence, Standing
from cascade.experiment import Plateau
from cascade.spending import Serving

LEVERS = ("prompt", "both", "weights")
PROMPTS_AND_WEIGHTS = [
    Ahead("demos", "prompt"), Ahead("more", "prompt"), Ahead("together", "both"), Ahead("tune", "weights"),
]  # fmt: skip
DISTIL = Ahead("small", "weights", "cheaper")


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


def costing(candidate: float, incumbent: float) -> Serving:
    return Serving(candidate, incumbent, "tokens")


def stage(comparison: Comparison = INCONCLUSIVE, dev_score: float = 0.55, lever: str = "prompt") -> Evidence:
    return Evidence("x", lever, against_anchor=comparison, dev_score=dev_score)


def test_the_worked_case_of_the_design() -> None:
    """Dev 60; net wins against the baseline 0, -3, +8, +17."""
    baseline = [1.0] * 29 + [0.0] * 31

    def against(wins: int, losses: int) -> Evidence:
        candidate = [1.0] * (29 - losses) + [0.0] * losses + [1.0] * wins + [0.0] * (31 - wins)
        comparison = compare(candidate, baseline, confidence=0.975, margin=0.03)
        return stage(comparison, sum(candidate) / 60)

    standing, ahead = (
        Standing(29 / 60),
        [Ahead("demos", "prompt"), Ahead("together", "both"), Ahead("weights", "weights")],
    )
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
        (0.51, INCONCLUSIVE, None, Kept.NEW),
        (0.509, INCONCLUSIVE, None, Kept.INCUMBENT),
        (0.509, INCONCLUSIVE, costing(2, 3), Kept.NEW),
        (0.509, INCONCLUSIVE, costing(3, 3), Kept.INCUMBENT),
        (0.5, EQUIVALENT, costing(2, 3), Kept.NEW),
        (0.499, EQUIVALENT, costing(2, 3), Kept.INCUMBENT),
        (0.51, EQUIVALENT, costing(9, 3), Kept.NEW),
        (0.6, WORSE, costing(2, 3), Kept.INCUMBENT),
        (0.4, BETTER, costing(2, 3), Kept.INCUMBENT),
        (0.7, BETTER, costing(9, 3), Kept.NEW),
    ],
)
def test_kept_where_the_aim_is_better(
    dev_score: float, comparison: Comparison, costs: Serving | None, kept: Kept
) -> None:
    evidence = replace(stage(comparison, dev_score), serving=costs)
    decision, after = decide(evidence, Standing(0.5), Rules(), ahead=PROMPTS_AND_WEIGHTS)
    assert (decision.kept, decision.serving) == (kept, costs)
    assert after.incumbent_score == (dev_score if kept is Kept.NEW else 0.5)


def test_the_least_gain_forgives_rounding_and_0_is_no_gain() -> None:
    decision, _ = decide(stage(dev_score=0.29), Standing(0.28), Rules(min_gain=0.01), ahead=[])
    assert decision.kept is Kept.NEW
    decision, _ = decide(stage(dev_score=0.5), Standing(0.5), Rules(min_gain=0.0), ahead=[])
    assert decision.kept is Kept.INCUMBENT


HALF = costing(1, 2)


def distilled(
    verdict: Comparison = INCONCLUSIVE, low: float = -0.029, costs: Serving | None = HALF, **fields: Any
) -> Evidence:
    """A program that scores 1 point below the incumbent, and at worst `low`, where 3 points are allowed."""
    against_incumbent = compared("inconclusive", -0.01, low, 0.01)
    values = {"aim": "cheaper", "margin": 0.03, "serving": costs, "against_incumbent": against_incumbent, **fields}
    return replace(stage(verdict, 0.49, "weights"), **values)


@pytest.mark.parametrize(
    ("low", "costs", "verdict", "kept"),
    [
        (-0.029, costing(1, 2), INCONCLUSIVE, Kept.NEW),
        (-0.03, costing(1, 2), INCONCLUSIVE, Kept.INCUMBENT),
        (-0.031, costing(1, 2), BETTER, Kept.INCUMBENT),
        (-0.029, costing(2, 2), INCONCLUSIVE, Kept.INCUMBENT),
        (-0.029, costing(3, 2), BETTER, Kept.INCUMBENT),
        (-0.029, None, INCONCLUSIVE, Kept.INCUMBENT),
        (-0.029, costing(1, 2), EQUIVALENT, Kept.NEW),
        (-0.029, costing(1, 2), WORSE, Kept.NEW),
        (-0.03, costing(1, 2), WORSE, Kept.INCUMBENT),
    ],
)
def test_kept_where_the_aim_is_cheaper(low: float, costs: Serving | None, verdict: Comparison, kept: Kept) -> None:
    """The verdict against the anchor has no say: how much may be lost against the incumbent is what the margin says."""
    decision, after = decide(distilled(verdict, low, costs), Standing(0.5), Rules(), ahead=[])
    assert decision.kept is kept
    assert after.incumbent_score == (0.49 if kept is Kept.NEW else 0.5)
    assert (decision.incumbent_gain, decision.incumbent_interval) == (-0.01, Interval(low, 0.01, 0.975))
    assert (decision.margin, decision.within_margin, decision.serving) == (0.03, low > -0.03, costs)


def test_without_an_aim_at_cheaper_nothing_is_said_of_the_incumbent() -> None:
    decision, _ = decide(stage(), Standing(0.5), Rules(), ahead=[])
    assert (decision.incumbent_gain, decision.incumbent_interval, decision.within_margin) == (None, None, None)


@pytest.mark.parametrize("verdict", [INCONCLUSIVE, WORSE, BETTER])
def test_a_stage_that_aims_at_cheaper_is_no_step_to_a_plateau(verdict: Comparison) -> None:
    standing = Standing(0.5, "prompt", 1, 2.0, 0.1)
    for evidence in (
        distilled(verdict, cost=9.0),
        replace(distilled(), failed="why", against_anchor=None, against_incumbent=None),
    ):
        decision, after = decide(evidence, standing, Rules(), ahead=PROMPTS_AND_WEIGHTS)
        if evidence.verdict is Verdict.BETTER:
            assert after == Standing(0.49, "prompt", 0, 0.0, None)
        else:
            assert replace(after, incumbent_score=0.5) == standing
        assert decision.next is Next.CONTINUE


@pytest.mark.parametrize(
    ("evidence", "ahead", "rules", "target", "expected"),
    [
        # The target is reached: only what makes it cheaper is left to do.
        (stage(dev_score=0.95), [*PROMPTS_AND_WEIGHTS, DISTIL], Rules(), 0.95, (Next.CONTINUE, 4, "target")),
        (stage(dev_score=0.95), [DISTIL], Rules(), 0.95, (Next.CONTINUE, 0, "target")),
        (distilled(), [], Rules(), 0.4, (Next.STOP, 0, "target")),
        # At a plateau likewise, where no other lever is left, and where it is not to be looked for.
        (stage(lever="weights"), [Ahead("tune", "weights"), DISTIL], Rules(1), None, (Next.CONTINUE, 1, "plateau")),
        (stage(), [*PROMPTS_AND_WEIGHTS, DISTIL], Rules(1, on_plateau="stop"), None, (Next.CONTINUE, 4, "plateau")),
        (replace(stage(), cost=99.0), [*PROMPTS_AND_WEIGHTS, DISTIL], Rules(1, max_cost_per_point=1), None, (Next.CONTINUE, 4, "plateau")),
        # Another lever is left: it goes on to it, and no stage that aims at cheaper is skipped on the way.
        (stage(lever="weights"), [DISTIL, Ahead("tune", "weights"), Ahead("p", "prompt")], Rules(1), None, (Next.ESCALATE, 1, None)),
        (stage(), [DISTIL], Rules(), None, (Next.CONTINUE, 0, None)),
    ],
)  # fmt: skip
def test_stages_that_aim_at_cheaper_have_their_turn_when_no_better_score_is_looked_for(
    evidence: Evidence,
    ahead: list[Ahead],
    rules: Rules,
    target: float | None,
    expected: tuple[Next, int, str | None],
) -> None:
    decision, _ = decide(evidence, Standing(0.5), rules, ahead=ahead, target=target)
    assert (decision.next, len(decision.skipped), decision.status) == expected
    assert DISTIL.name not in decision.skipped
    if decision.status and decision.next is Next.CONTINUE:
        assert "so it goes on with 'small', which aims at cheaper" in decision.reason


def test_a_spent_budget_stops_stages_that_aim_at_cheaper_too() -> None:
    decision, _ = decide(stage(), Standing(0.5), Rules(), ahead=[DISTIL], budget_spent="it is spent.")
    assert (decision.next, decision.skipped, decision.status) == (Next.STOP, ("small",), "budget")


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
        ("escalate", [Ahead("tune", "weights")], (Next.ESCALATE, (), None)),
        ("escalate", [Ahead("tune", "weights"), Ahead("last", "prompt")], (Next.ESCALATE, ("last",), None)),
        ("escalate", [Ahead("demos", "prompt")], (Next.STOP, ("demos",), "plateau")),
        ("escalate", [], (Next.STOP, (), "completed")),
        ("stop", [Ahead("tune", "weights")], (Next.STOP, ("tune",), "plateau")),
    ],
)
def test_at_a_plateau(
    on_plateau: Literal["escalate", "stop"],
    ahead: list[Ahead],
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
    assert after == Standing(0.7, "prompt", 0, 0.0, None)
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
            [Ahead("tune", "weights")],
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
        (
            distilled(WORSE, costs=Serving(12.1, 36.25, "weights_gb")),
            Standing(0.5),
            [],
            "Dev 49.0 % against the anchor's 69.0 %: gain -20.0 points [-30.0, -10.0] at 97.5 % confidence: worse; kept, "
            "because it costs less to serve (12.1 instead of 36.2 GB of weights an example, -67 %) and its "
            "difference to the incumbent, -1.0 points [-2.9, +1.0], stays above the margin of -3.0; no stage is left.",
        ),
        (
            distilled(WORSE, -0.03, Serving(1e-5, 0.0031, "dollars")),
            Standing(0.5),
            [DISTIL],
            "Dev 49.0 % against the anchor's 69.0 %: gain -20.0 points [-30.0, -10.0] at 97.5 % confidence: worse; not "
            "kept, because its difference to the incumbent, -1.0 points [-3.0, +1.0], does not stay above the margin of "
            "-3.0, although it costs less to serve ($0.00001 instead of $0.0031 an example, -100 %); goes on with 'small'.",
        ),
        (
            distilled(WORSE, costs=costing(251, 251)),
            Standing(0.5),
            [],
            "Dev 49.0 % against the anchor's 69.0 %: gain -20.0 points [-30.0, -10.0] at 97.5 % confidence: worse; not "
            "kept, because it does not cost less to serve (251 instead of 251 tokens an example, +0 %); its difference "
            "to the incumbent, -1.0 points [-2.9, +1.0], stays above the margin of -3.0; no stage is left.",
        ),
    ],
)
def test_reasons_are_sentences(evidence: Evidence, standing: Standing, ahead: list[Ahead], reason: str) -> None:
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


def test_to_json_says_what_promotion_must_know_of_a_distilled_program() -> None:
    decision, _ = decide(distilled(WORSE), Standing(0.5), Rules(), ahead=[])
    document = json.loads(json.dumps(decision.to_json()))
    found = {
        name: document[name] for name in ("aim", "margin", "within_margin", "incumbent_gain", "incumbent_interval")
    }
    assert found == {"aim": "cheaper", "margin": 0.03, "within_margin": True, "incumbent_gain": -0.01, "incumbent_interval": [-0.029, 0.01]}  # fmt: skip
    assert document["serving"] == {"candidate": 1, "incumbent": 2, "unit": "tokens"}
    plain = decide(stage(), Standing(0.5), Rules(), ahead=[])[0].to_json()
    assert (plain["aim"], plain["serving"], plain["incumbent_interval"]) == ("better", None, None)


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
        ({"aim": "cheaper", "against_anchor": BETTER}, "against_incumbent is given where a program aims at 'cheaper'"),
        ({"against_anchor": BETTER, "against_incumbent": BETTER}, "against_incumbent is given where"),
    ],
)
def test_evidence_that_contradicts_itself(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"Stage 'x': .*{message}"):
        Evidence("x", "prompt", **fields)  # type: ignore[arg-type]


fractions = st.floats(0, 1)
costs = st.none() | st.floats(0, 10)
comparisons = st.sampled_from([BETTER, WORSE, EQUIVALENT, INCONCLUSIVE])
aims = st.sampled_from(["better", "cheaper"])
stages = st.lists(
    st.builds(Ahead, st.sampled_from("abcd"), st.sampled_from(LEVERS), aims),
    max_size=4,
    unique_by=lambda ahead: ahead.name,
)
servings = st.none() | st.builds(costing, st.floats(0, 10), st.floats(0.1, 10))


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    outcome = draw(st.sampled_from(["compared", "compared", "unchanged", "failed"]))
    compares, aim = outcome == "compared", draw(aims)
    return Evidence(
        "x",
        draw(st.sampled_from(LEVERS)),
        aim=aim,
        margin=draw(st.floats(0, 0.1)),
        unchanged=outcome == "unchanged",
        failed="why" if outcome == "failed" else None,
        against_anchor=draw(comparisons) if compares else None,
        against_incumbent=draw(comparisons) if compares and aim == "cheaper" else None,
        dev_score=draw(fractions),
        serving=draw(servings),
        cost=draw(costs),
    )


rules = st.builds(
    Rules, st.integers(1, 3), st.floats(0, 0.1), st.sampled_from(["escalate", "stop"]), st.none() | st.floats(0, 2)
)
standings = st.builds(Standing, fractions, st.sampled_from(LEVERS), st.integers(0, 3), costs, st.none())


@settings(max_examples=300, deadline=None)
@given(evidences(), standings, rules, stages, st.none() | fractions)
def test_what_always_holds(
    evidence: Evidence, standing: Standing, plateau: Rules, ahead: list[Ahead], target: float | None
) -> None:
    decision, after = decide(evidence, standing, plateau, ahead=ahead, target=target)
    assert decision == decide(evidence, standing, plateau, ahead=ahead, target=target)[0]
    if evidence.verdict in (Verdict.UNCHANGED, None):
        assert decision.kept is Kept.INCUMBENT
    if evidence.aim == "better":
        assert evidence.verdict is not Verdict.WORSE or decision.kept is Kept.INCUMBENT
        assert after.incumbent_score >= standing.incumbent_score
        assert (after.misses == 0) is (evidence.verdict is Verdict.BETTER)
    elif decision.kept is Kept.NEW:
        assert evidence.cheaper
        assert evidence.against_incumbent
        assert evidence.against_incumbent.interval.low > -evidence.margin
    if decision.next is Next.STOP:
        assert decision.status
    check_what_runs_next(decision, after, ahead)
    assert decision.reason.endswith(".")
    assert "\n" not in decision.reason


def check_what_runs_next(decision: Decision, after: Standing, ahead: list[Ahead]) -> None:
    better = [stage for stage in ahead if stage.aim == "better"]
    runs = [stage for stage in ahead if stage.name not in decision.skipped]
    if decision.next is Next.STOP:
        assert runs == []
        return
    assert runs
    assert [stage for stage in ahead if stage.aim == "cheaper"] == [stage for stage in runs if stage.aim == "cheaper"]
    if decision.next is Next.ESCALATE:
        assert decision.skipped == tuple(stage.name for stage in better if stage.lever == after.lever)
        assert any(stage.lever != after.lever for stage in better)
    elif decision.status:
        assert decision.skipped == tuple(stage.name for stage in better)
    else:
        assert decision.skipped == ()
