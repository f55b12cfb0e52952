"""Headroom: what cheap prompts show, and which stages it saves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.dataset import Split
from cascade.errors import ExperimentError
from cascade.evaluation import Evaluation, evaluate
from cascade.experiment import Budget, Headroom, Stage
from cascade.headroom import Room, look
from cascade.progress import Silent
from cascade.testing import ScriptedEngine

DEMOS = Stage("demos", dspy.BootstrapFewShot)
WEIGHTS = Stage("weights", dspy.BootstrapFinetune)


def knows_all(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    return {"answer": scripted.gold(inputs["question"])}


def learns_from_demos(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    return {"answer": scripted.gold(inputs["question"]) if demos else "none"}


class Listening(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, sentence: str) -> None:
        self.told.append(sentence)


def room_of(engine: ScriptedEngine, train: Split, wanted: Headroom) -> tuple[Room, list[tuple[str, Split, Any]]]:
    judged: list[tuple[str, Split, Any]] = []

    def judge(program: Any, split: Split, what: str) -> Evaluation:
        judged.append((what, split, program))
        return evaluate(program, split, scripted.right)

    with dspy.context(lm=dspy.LM("scripted/base", engine=engine, cache=False), adapter=dspy.ChatAdapter()):
        found = look(scripted.Asks(), train, wanted, judge, seed=1, confidence=0.9, needed=0.01)
    return found, judged


def test_what_other_demos_get_right_is_room() -> None:
    found, judged = room_of(ScriptedEngine(learns_from_demos), scripted.split("train", 60), Headroom(20, 3))
    assert (found.own, found.variants, found.any, found.gain) == (0.0, (1.0, 1.0, 1.0), 1.0, 1.0)
    assert not found.nothing
    assert [what for what, _, _ in judged] == ["own prompt", *(f"other prompt {n} of 3" for n in (1, 2, 3))]
    assert "+100.0 points" in found.sentence and found.sentence.endswith("room to climb.")


def test_demos_are_never_among_the_rows_that_are_answered() -> None:
    _, judged = room_of(ScriptedEngine(learns_from_demos), scripted.split("train", 60), Headroom(20, 5))
    asked = {row["question"] for row in judged[0][1].rows}
    shown = [[demo.question for demo in program.predictors()[0].demos] for _, _, program in judged[1:]]
    assert len(asked) == 20
    assert not asked & {question for demos in shown for question in demos}
    assert len({tuple(demos) for demos in shown}) == 5


def test_groups_stay_on_one_side_and_too_few_give_no_bound() -> None:
    train = scripted.split("train", 60, tuple(str(n // 6) for n in range(60)))
    found, judged = room_of(ScriptedEngine(knows_all), train, Headroom(24, 2))
    groups = set(judged[0][1].groups or ())
    others = {group for group, row in zip(train.groups or (), train.rows, strict=True) if row not in judged[0][1].rows}
    assert len(groups) == 4 and not groups & others
    assert found.at_most is None and found.nothing and "at most" not in found.sentence


def test_at_most_half_of_train_is_answered() -> None:
    assert room_of(ScriptedEngine(knows_all), scripted.split("train", 30), Headroom(40, 1))[0].n == 15


def test_nothing_to_gain_skips_the_prompt_stages_and_says_so(tmp_path: Path) -> None:
    engine, watcher = ScriptedEngine(knows_all), Listening()
    defined = scripted.experiment(DEMOS, WEIGHTS, headroom=Headroom(20, 2), train=60)
    result = scripted.run(defined, tmp_path, engine, progress=watcher)
    assert [stage.status for stage in result.stages] == ["done", "skipped", "done"]
    assert "skipped by the look at headroom: 20 examples of train" in result.stages[1].error
    found = json.loads((Path(result.journal) / "headroom.json").read_text())
    assert found["nothing"] and found["spent"]["lm_calls"] == 60
    assert 0 < found["at_most"] < 0.2
    assert watcher.told == [f"Headroom: {found['sentence']}"]


class Renames(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=self.ask(text=question).label)


def knows_all_by_another_name(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    return {"label": scripted.gold(inputs["text"])}


@pytest.mark.filterwarnings("ignore:.*imports 'scripted', a file of the project")
def test_rows_that_no_predictor_can_show_are_no_evidence(tmp_path: Path) -> None:
    engine, watcher = ScriptedEngine(knows_all_by_another_name), Listening()
    defined = scripted.experiment(DEMOS, program=Renames, headroom=Headroom(20, 2), train=60)
    with pytest.warns(UserWarning, match="its output is 'label'"):
        result = scripted.run(defined, tmp_path, engine, progress=watcher)
    assert [stage.status for stage in result.stages] == ["done", "done"]
    assert watcher.told[0].startswith("Headroom: not known, no predictor has both an input and an output")
    assert not (Path(result.journal) / "headroom.json").exists()


def test_room_skips_nothing_and_a_second_run_pays_nothing_for_it(tmp_path: Path) -> None:
    engine = ScriptedEngine(learns_from_demos)
    defined = scripted.experiment(DEMOS, headroom=Headroom(20, 2), train=60)
    assert [stage.status for stage in scripted.run(defined, tmp_path, engine).stages] == ["done", "done"]
    asked = len(engine.requests)
    again = scripted.run(defined, tmp_path, engine)
    assert (len(engine.requests), again.spent.lm_calls) == (asked, 0)


def test_a_budget_that_ends_in_the_look_still_ends_with_a_judged_result(tmp_path: Path) -> None:
    engine, watcher = ScriptedEngine(learns_from_demos), Listening()
    defined = scripted.experiment(DEMOS, headroom=Headroom(20, 2), budget=Budget(lm_calls=170), train=60)
    result = scripted.run(defined, tmp_path, engine, progress=watcher)
    assert watcher.told[0].startswith("Headroom: not known, LM calls: ")
    assert (result.status, result.test is not None, result.spent.lm_calls <= 170) == ("budget", True, True)


@pytest.mark.parametrize(
    ("options", "message"), [({"examples": 19}, "examples = 19"), ({"variants": 0}, "variants = 0")]
)
def test_a_look_that_shows_nothing_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        Headroom(**options)
