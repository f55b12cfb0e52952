"""A program of several steps through a whole cascade: checked, optimized, registered without pickle, loaded, drawn."""

import json
import shutil
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from program_cases import CASES

from cascade.building import Workshop
from cascade.check import build_program
from cascade.checks import examine
from cascade.discover import discover
from cascade.errors import ExperimentError
from cascade.experiment import Stage
from cascade.mlflow_store import MlflowTracker, load_program
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.program import snapshot
from cascade.programs import Pipeline
from cascade.stage import Bench, optimize
from cascade.testing import ScriptedEngine, ScriptedLMs

EXPERIMENT = '''"""Does looking first help?"""

import dspy

from cascade import Dataset, Experiment, Stage, metric
from cascade.programs import Loop, Parallel, Pipeline, Router, Vote


def retrieve(question: str):
    return {"passages": [f"a passage on {question}"]}


def kind(question: str) -> str:
    return "hard" if question[-1] in "13579" else "easy"


def answering():
    return Pipeline(
        "question -> answer",
        look=Parallel(found=retrieve, known=dspy.Predict("question -> memory")),
        route=Router(kind, {
            "easy": dspy.Predict("question, memory -> notes"),
            "hard": dspy.ChainOfThought("question, passages: list[str] -> notes"),
        }),
        answer=Vote([dspy.Predict("question, notes -> answer"), dspy.Predict("question -> answer")]),
    )


@metric
def right(example, prediction):
    return prediction.answer == example.answer


def rows(split, n):
    return [{"question": f"{split} {i}", "answer": f"{split} {i}"[-1]} for i in range(n)]


experiment = Experiment(
    dataset=Dataset("fan", train=rows("train", 30), dev=rows("dev", 30), test=rows("test", 30), inputs=("question",)),
    metric=right, program=answering,
    stages=[Stage("demos", dspy.BootstrapFewShot), Stage("nearest", dspy.LabeledFewShot, k=2)],
)
'''


def answers(model: str, inputs: Any, demos: int) -> Any:
    """Right where it was shown how."""
    return {"answer": inputs.get("question", "?")[-1] if demos else "?", "notes": "some", "memory": "little"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "fan.py").write_text(EXPERIMENT)
    return tmp_path


def test_it_runs_and_comes_back_from_the_registry_without_pickle(
    project: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    uri = f"sqlite:///{shutil.copy(empty_store, project / 'mlflow.db')}"
    engine = ScriptedEngine(answers)
    ready = scripted.prepared(discover("fan", project), project, engine)
    assert [found.sentence for found in examine(ready) if found.severity != "note"] == []
    result = scripted.execute(ready, tracker=MlflowTracker(uri))
    assert [stage.status for stage in result.stages] == ["done"] * 3
    settings = scripted.settings_in(project, tracking_uri=uri)
    loaded = load_program("models:/fan@challenger", settings, lms=lambda made: ScriptedLMs(made, engine))
    assert loaded(question="new 7").answer == "7"
    assert loaded.fields({"question": "new 8"})["answer"] == "8"


STAGES = {
    "BootstrapFewShot": Stage("s", dspy.BootstrapFewShot),
    "NearestDemos": Stage("s", NearestDemos, refit=False),
    "BootstrapFinetune": Stage("s", BootstrapFinetune),
    "Ensemble": Stage("s", dspy.Ensemble),
}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("of", ["Parallel in a pipeline", "Vote"])
def test_cascade_s_own_optimizers_take_it(name: str, of: str, tmp_path: Path) -> None:
    case = CASES[of]
    lms = ScriptedLMs(
        scripted.settings_in(tmp_path), ScriptedEngine(lambda *asked: {"answer": "a", "passages": '["x"]'})
    )
    rows = scripted.split("train", 12)
    other = case.make()
    other.predictors()[0].demos = [{"question": "q", "answer": "a"}]
    judge = scripted.metric(lambda example, prediction: True)
    shop = Workshop(case.make, judge, rows, lms, 3, tmp_path / "log", [case.make(), other])
    with dspy.context(lm=lms["task"], adapter=lms.adapter, num_threads=2, max_errors=99):
        made = optimize(STAGES[name], case.make(), shop, Bench())
        state = snapshot(made)
        assert json.dumps(state.to_json())
        assert made(question="q").answer
    assert len(state.state) >= len(case.make().predictors())


def test_what_does_not_fit_is_told_with_the_program_s_name() -> None:
    def broken() -> Any:
        return Pipeline("question -> answer", a=dspy.Predict("x -> answer"))

    with pytest.raises(ExperimentError, match=r"^program = broken: Step 'a' needs 'x'"):
        build_program(scripted.experiment(program=broken))
