"""Loops: the best counts, not the last, and there is a last one."""

from collections.abc import Sequence
from typing import Any

import dspy
import pytest

from cascade.errors import ProgramError, StepFailed
from cascade.programs import Loop, Step
from cascade.testing import ProgramCase


def loop(scores: Sequence[Any], **options: Any) -> Loop:
    """Gives 1, 2, …, judged by these scores in turn."""
    said = iter(scores)

    def judge(n: int) -> float:
        score = next(said)
        if isinstance(score, Exception):
            raise score
        return float(score)

    return Loop(Step(lambda former_n: (former_n or 0) + 1, gives="n"), judge, **options)


CASES = [
    ([0.1, 0.9, 0.3], {"limit": 3}, (2, "limit")),
    ([0.1, 0.9, 0.3, 0.4], {"limit": 9, "patience": 2}, (2, "patience")),
    ([0.5, 0.5, 0.5], {"limit": 9, "patience": 2}, (1, "patience")),
    ([0.1, 0.7, 0.9], {"at_least": 0.7}, (2, "at_least")),
    ([0.7], {"at_least": 0.7, "limit": 1}, (1, "at_least")),
    ([0.3], {"limit": 1}, (1, "limit")),
    ([-3, -2, -9], {"limit": 3}, (2, "limit")),
    ([0.1, 0.4, ValueError("gone")], {"limit": 9}, (2, "ValueError: gone")),
]


@pytest.mark.parametrize(("scores", "options", "wanted"), CASES)
def test_the_best_iteration_is_returned_and_why_it_stopped(scores: Any, options: Any, wanted: Any) -> None:
    found = loop(scores, **options)(x=1)
    kept = [score for score in scores if not isinstance(score, Exception)][: len(found.scores)]
    assert (found.n, found.stopped) == wanted
    assert (found.scores, found.score) == (kept, max(kept))


def test_what_fails_at_first_is_raised() -> None:
    with pytest.raises(ValueError, match="gone"):
        loop([ValueError("gone")])()


@pytest.mark.parametrize("said", [None, "good", float("nan")])
def test_a_score_that_is_no_number_is_told(said: Any) -> None:
    with pytest.raises(StepFailed, match="which is no number"):
        Loop(Step(lambda former_n: 1, gives="n"), lambda n: said)()


def test_the_former_outcome_and_feedback_go_in_by_name() -> None:
    seen: list[Any] = []

    def body(topic: str, former_draft: str, former_feedback: str) -> str:
        seen.append((topic, former_draft, former_feedback))
        return former_draft + "x"

    Loop(Step(body, gives="draft"), lambda draft: {"score": 0, "feedback": f"on {draft}"}, limit=3)(topic="t")
    assert seen == [("t", "", ""), ("t", "x", "on x"), ("t", "xx", "on xx")]


def test_where_it_starts_can_be_said() -> None:
    found = Loop(Step(lambda former_n: former_n * 2, gives="n"), lambda n: n, limit=2, start={"former_n": 5})()
    assert found.scores == [10.0, 20.0]


WRONG = [
    (lambda: loop([], limit=0), "limit=0, patience=None. Both are at least 1"),
    (lambda: loop([], patience=0), "patience=0"),
    (lambda: Loop(dspy.Predict("question -> score"), len), "gives 'score', which is where it is judged"),
    (lambda: Loop(dspy.Predict("question -> draft"), lambda draft: 1), "each iteration would be the same. Let it take one of them: 'former_draft'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_does_not_fit_is_said_when_it_is_put_together(make: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        make()


@pytest.mark.parametrize("scores", [("0.2", "0.8", "0.1"), ("0.8", "nan")])
def test_optimizers_learn_from_the_best_iteration_alone(scores: tuple[str, ...]) -> None:
    program = Loop(dspy.Predict("question, former_draft -> draft"), dspy.Predict("draft -> score: float"), limit=3)
    turns = iter(scores)
    case = ProgramCase(lambda: program, says=lambda inputs: {} if "question" in inputs else {"score": next(turns)})
    with case.lm(), dspy.context(trace=[]):
        found = program(question="q")
        said = [dict(prediction) for *_, prediction in dspy.settings.trace]
    assert said == [{"draft": found.draft}, {"score": 0.8}]
