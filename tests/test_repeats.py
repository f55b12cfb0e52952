"""Repeats: several answers an example, averaged, each paid for once and kept apart by the ledger."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from test_headroom import Listening

from cascade.errors import ExperimentError
from cascade.evaluation import evaluate
from cascade.experiment import Budget, Stage
from cascade.settings import LMSpec
from cascade.testing import ScriptedEngine


class Drawing:
    """A model that answers each asking of a question anew: right, wrong, right, …"""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __call__(self, model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        question = inputs["question"]
        turn = next(self.asked.setdefault(question, itertools.count()))
        return {"answer": scripted.gold(question) if turn % 2 == 0 else "wrong"}


def test_scores_are_averaged_over_answers() -> None:
    turns: dict[str, Any] = {}

    def program(question: str) -> Any:
        turn = next(turns.setdefault(question, itertools.count()))
        if turn == 2:
            raise ValueError("third time unlucky")
        return dspy.Prediction(answer=scripted.gold(question) if turn == 0 else "wrong")

    told: list[Any] = []
    found = evaluate(program, scripted.split("dev", 8), scripted.right, repeats=3, on_outcome=told.append)
    assert len(told) == 24
    assert found.scores == [pytest.approx(1 / 3)] * 8
    assert all(sorted(outcome.draws) == [0.0, 0.0, 1.0] for outcome in found.outcomes)
    assert found.outcomes[0].error == "1 of 3 answers: ValueError: third time unlucky"
    assert not found.outcomes[0].unparseable


def test_the_spread_is_that_of_the_mean_from_run_to_run() -> None:
    def program(question: str) -> Any:
        lucky = dspy.settings.get("cascade_rollout") == 0
        return dspy.Prediction(answer=scripted.gold(question) if lucky else "wrong")

    found = evaluate(program, scripted.split("dev", 10), scripted.right, repeats=2, threads=4)
    assert found.outcomes[0].draws == (1.0, 0.0)
    assert found.spread == pytest.approx(2**-0.5)
    assert evaluate(program, scripted.split("dev", 10), scripted.right).spread is None


def test_each_answer_is_paid_for_once_and_frozen(tmp_path: Path) -> None:
    engine = ScriptedEngine(Drawing())
    defined = scripted.experiment(repeats=3)
    first = scripted.run(defined, tmp_path, engine, new=True)
    assert len(engine.requests) == first.spent.lm_calls == 3 * (40 + 40)
    assert {len(outcome.draws) for outcome in first.baseline.dev.outcomes} == {3}
    assert first.baseline.dev.mean == pytest.approx(2 / 3)
    again = scripted.run(defined, tmp_path, engine, new=True)
    assert (again.spent.lm_calls, again.baseline.dev.scores) == (0, first.baseline.dev.scores)
    record = json.loads((Path(first.journal) / "0-baseline" / "record.json").read_text())
    assert record["metrics"]["dev_spread"] == pytest.approx(first.baseline.dev.spread)


def test_the_first_of_several_answers_is_the_only_one_of_a_run_without_repeats(tmp_path: Path) -> None:
    engine = ScriptedEngine(scripted.answer)
    scripted.run(scripted.experiment(), tmp_path, engine)
    asked = len(engine.requests)
    assert scripted.run(scripted.experiment(repeats=2), tmp_path, engine).spent.lm_calls == asked


def test_judging_is_kept_back_for_all_answers(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="80 calls on dev and twice 80 on test"):
        scripted.prepared(
            scripted.experiment(repeats=2, budget=Budget(lm_calls=200)), tmp_path, ScriptedEngine(scripted.answer)
        )
    defined = scripted.experiment(Stage("demos", dspy.BootstrapFewShot), repeats=2, budget=Budget(lm_calls=330))
    result = scripted.run(defined, tmp_path, ScriptedEngine(scripted.answer))
    assert result.spent.lm_calls <= 330
    assert result.test is not None


@pytest.mark.parametrize("repeats", [0, -1, 1.5, "3"])
def test_repeats_are_counted(repeats: Any) -> None:
    with pytest.raises(ExperimentError, match="repeats = "):
        scripted.experiment(repeats=repeats)


def test_a_model_that_draws_is_said_to_be_frozen_by_the_ledger(tmp_path: Path) -> None:
    ready = scripted.prepared(scripted.experiment(), tmp_path, ScriptedEngine(scripted.answer))
    assert ready.about_draws == ""
    ready.lms["task"].kwargs["temperature"] = 0.7
    assert "the ledger keeps one draw of each answer" in ready.about_draws
    assert (
        scripted.prepared(
            scripted.experiment(repeats=3),
            tmp_path,
            ScriptedEngine(scripted.answer),
            lm={"task": LMSpec("scripted/base")},
        ).about_draws
        == ""
    )


def test_what_is_worth_knowing_is_told_at_the_start(tmp_path: Path) -> None:
    watcher = Listening()
    ready = scripted.prepared(scripted.experiment(), tmp_path, ScriptedEngine(scripted.answer))
    ready.lms["task"].kwargs["temperature"] = 0.7
    from cascade.runner import execute

    execute(ready, progress=watcher)
    assert watcher.told == [ready.about_draws]
