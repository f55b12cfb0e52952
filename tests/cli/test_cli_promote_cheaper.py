"""A program that was to be cheaper, from its stage through MLflow to the gate: non-inferior on test, or refused."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from conftest import Project
from letters import EXPERIMENT

from cascade.mlflow_store.store import connect
from cascade.mlflow_store.versions import Version, Versions
from cascade.production.promoting import Entry, PromotionLog
from cascade.testing import ScriptedEngine, ScriptedLMs

pytestmark = pytest.mark.usefixtures("store")

DISTILLED = """stages=[
    Stage("demos", dspy.LabeledFewShot, k=4),
    Stage("distilled", dspy.BootstrapFinetune, aim="cheaper", margin=0.1, exclude_demos=True),
]"""
PRICES = {"scripted/base": 4e-6, "scripted/small": 1e-6}


def answer(model: str, inputs: Mapping[str, str], demos: int, *, loses: str) -> Mapping[str, str]:
    """The teacher needs demos, the student training; on test the student misses questions that end with `loses`."""
    question = inputs.get("question", "")
    knows = "small-trained" in model or (demos and "small" not in model)
    missed = "trained" in model and question.startswith("test") and question[-1] in loses
    return {"answer": question[-1] if knows and question[-1] < "9" and not missed else "?"}


def distil(project: Project, loses: str, prices: Mapping[str, float]) -> Any:
    """Version 1 serves; version 2 was distilled from it. Returns the commands over the same models."""
    project.write("pyproject.toml", '[tool.cascade]\nlm = { task = "scripted/base", student = "scripted/small" }\n')
    for split in ("train", "dev", "test"):
        rows = [{"question": f"{split} {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(100)]
        project.write(f"datasets/letters/{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    engine = ScriptedEngine(partial(answer, loses=loses))
    cascade = partial(project.cascade, lms=lambda settings: ScriptedLMs(settings, engine, usd_a_token=prices))
    assert cascade("run", "letters").code == 0
    assert cascade("promote", "letters").code == 0
    project.write(
        "experiments/letters.py", EXPERIMENT.replace('stages=[Stage("demos", dspy.LabeledFewShot, k=4)]', DISTILLED)
    )
    done = cascade("run", "letters", "--json")
    assert json.loads(done.out)["best_stage"] == "2-distilled", done.err
    return cascade


def versions(project: Project) -> Versions:
    return Versions(connect(f"sqlite:///{project.folder / 'mlflow.db'}"), "letters")


def challenger(project: Project) -> Version:
    return versions(project).numbered(versions(project).aliases()["challenger"])


def last(project: Project) -> Entry:
    return PromotionLog.of(project.folder / ".cascade", "letters").entries()[-1]


def test_it_passes_by_not_being_worse_and_costing_less(project: Project) -> None:
    cascade = distil(project, "", PRICES)
    tags = challenger(project).tags
    assert (tags["cascade.aim"], tags["cascade.margin"]) == ("cheaper", "0.1")
    done = cascade("promote", "letters")
    assert done.code == 0, done.err
    assert "Version 2 of letters serves. Test 90.0% → 90.0%" in done.out
    assert "within the margin of 10.0 points, and serving costs $0.00" in done.out
    assert versions(project).aliases() == {"champion": "2", "previous": "1"}
    figures = last(project).figures
    assert figures["path"] == "cheaper" and figures["gain"] == 0 and figures["gain_ci_low"] > -0.1
    assert figures["serving_cost"] < figures["reference_serving_cost"] / 2 and figures["serving_unit"] == "dollars"


@pytest.mark.parametrize(
    ("loses", "why"),
    [("7", "it may be worse by more than the margin of 10.0 points"), ("78", "more than the margin of 10.0 points")],
)
def test_it_is_refused_where_it_loses_more_than_the_margin(project: Project, loses: str, why: str) -> None:
    cascade = distil(project, loses, PRICES)
    done = cascade("promote", "letters")
    assert done.code == 3 and "Version 2 is not promoted. Test 90.0% → " in done.err and why in done.err
    assert versions(project).aliases() == {"champion": "1", "challenger": "2"}
    assert (last(project).event, last(project).granted, last(project).figures["path"]) == ("judged", False, "cheaper")


def test_it_is_refused_where_it_is_not_cheaper_any_more(project: Project) -> None:
    """Prices rose after it was made: what serving costs is reckoned when the gate looks."""
    distil(project, "", PRICES)
    dear = ScriptedEngine(partial(answer, loses=""))
    rates = {"scripted/base": 1e-6, "scripted/small": 8e-6}
    done = project.cascade("promote", "letters", lms=lambda settings: ScriptedLMs(settings, dear, usd_a_token=rates))
    assert done.code == 3 and "it aims to be cheaper, but serving costs $" in done.err
    assert not dear.requests


@pytest.mark.slow
def test_a_night_takes_it_by_the_same_path(project: Project) -> None:
    cascade = distil(project, "", PRICES)
    versions(project).point("challenger", "")
    done = cascade("nightly", "letters", "--promote")
    assert done.code == 0, done.err
    assert "of letters serves now." in done.out and "within the margin of 10.0 points" in done.out
    assert versions(project).aliases()["previous"] == "1"
