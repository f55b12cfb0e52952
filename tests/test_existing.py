"""Where programs that exist are found, and the parameter of `cascade.run`."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import dspy
import pytest
from letters import PROGRAM

import cascade
from cascade.discover import discover
from cascade.errors import ExperimentError
from cascade.existing import find, find_run, of_newest_run
from cascade.settings import LMSpec, Settings
from cascade.testing import ScriptedEndpoint

SOURCE = f"""{PROGRAM}def rows(split):
    return [{{"question": f"{{split}} {{n // 10}} {{n % 10}}", "answer": str(n % 10)}} for n in range(20)]


experiment = Experiment(
    Dataset("x", train=rows("train"), dev=rows("dev"), test=rows("test"), inputs=["question"]), right, Asks,
    stages=[Stage("demos", dspy.LabeledFewShot, k=3)],
)
"""


def answer(_model: str, inputs: Any, demos: int) -> Any:
    question = inputs.get("question", "")
    return {"answer": question[-1] if demos or question[-1] < "3" else "?"}


@pytest.fixture
def settings(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments/letters.py").write_text(SOURCE)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    with ScriptedEndpoint(answer) as endpoint:
        lm = {"default": LMSpec("openai/any", {"api_base": endpoint.url})}
        yield Settings(tmp_path, tmp_path / ".cascade", f"sqlite:///{tmp_path / 'mlflow.db'}", lm=lm)


def test_a_run_in_python_begins_from_what_an_earlier_one_found(settings: Settings) -> None:
    experiment = discover("letters", settings.project)
    first = cascade.run(experiment, settings=settings)
    assert first.best.name == "1-demos"
    for start in (first.run_id, "models:/letters@challenger"):
        again = cascade.run(experiment, start=start, settings=settings)
        assert [stage.name for stage in again.stages] == ["0-baseline", "1-start", "2-demos"]
        assert again.stages[1].taken == first.best.taken
        assert str(again.stages[1].decision.verdict) == "better"
    by_definition = cascade.run(dataclasses.replace(experiment, start=first.run_id), settings=settings)
    assert by_definition.stages[1].taken == first.best.taken

    found = of_newest_run("letters", settings, pytest.fail)
    assert found.origin == f"run {by_definition.run_id}, 1-start"
    assert find_run(f"{first.run_id[-4:]}/baseline", "letters", settings).taken == first.baseline.taken
    assert find(first.run_id, "letters", settings).ours
    assert not find("models:/letters/1", "letters", settings).ours


def test_a_file_is_looked_for_here_and_then_in_the_project(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = dspy.Predict("question -> answer")
    program.save(tmp_path / "old.json")
    (tmp_path / "below").mkdir()
    assert find("old.json", "letters", settings).origin == "old.json"
    monkeypatch.chdir(tmp_path / "below")
    assert find("old.json", "letters", settings).origin == "old.json"
    program.demos = [{"question": "1", "answer": "1"}]
    program.save(tmp_path / "below/old.json")
    assert find("old.json", "letters", settings).origin == "below/old.json"
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere.json"
    program.save(elsewhere)
    assert find(elsewhere, "letters", settings).origin == str(elsewhere)
    with pytest.raises(ExperimentError, match="is no file and no model"):
        find("new.json", "letters", settings)
    assert json.dumps(dict(find("old.json", "letters", settings).taken.state))
