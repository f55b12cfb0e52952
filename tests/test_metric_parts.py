"""Parts of a score: their means with intervals on each stage, in the journal, in MLflow and in reports."""

import re
import shutil
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.comparison import score_interval
from cascade.dataset import Split
from cascade.evaluation import evaluate
from cascade.experiment import Stage
from cascade.journal import Journal
from cascade.metrics import Score, metric
from cascade.mlflow_store import MlflowTracker
from cascade.recording import dev_metrics, figures_on_test
from cascade.recording import test_outcomes as outcomes_of
from cascade.report.document import run_document
from cascade.report.markdown import run_markdown
from cascade.report.page import run_page
from cascade.report.reading import read
from cascade.result import StageResult, Test
from cascade.runner import execute
from cascade.spending import Spent
from cascade.testing import ScriptedEngine

pytestmark = pytest.mark.filterwarnings("ignore:.*imports 'scripted', a file of the project")


@metric
def in_parts(example: Any, prediction: Any) -> Score:
    """Short answers are polite; what is said of numbers is given for every other example alone."""
    right = float(example.answer == prediction.answer)
    odd = {"says/number": 0.25} if int(example.question[-1]) % 2 else {}
    return Score(right, parts={"right": right, "polite": 1.0, **odd})


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("parts")
    defined = scripted.experiment(Stage("demos", dspy.LabeledFewShot, k=4), metric=in_parts, dev=40, test=40)
    return execute(scripted.prepared(defined, folder, ScriptedEngine(scripted.answer)))


def test_each_stage_has_the_mean_and_the_interval_of_each_part(ran: Any) -> None:
    for record in Journal(Path(ran.journal)).stages():
        figures = record.metrics
        assert [figures[f"part_right{end}"] for end in ("", "_ci_low", "_ci_high")] == [
            figures[f"dev_{end}"] for end in ("score", "ci_low", "ci_high")
        ]
        assert figures["part_polite"] == 1
        assert figures["part_says_number"] == 0.25
        found = score_interval([0.25] * 20, confidence=0.9)
        assert (figures["part_says_number_ci_low"], figures["part_says_number_ci_high"]) == (found.low, found.high)


def test_on_test_they_stand_beside_the_score(ran: Any) -> None:
    journal = Journal(Path(ran.journal))
    run, best = journal.run, next(one for one in journal.stages() if one.folder == journal.run.best_stage)
    for key in ("part_right", "part_polite_ci_low", "part_says_number_ci_high"):
        assert best.test_metrics[f"test_{key}"] == run.metrics[f"test_{key}"]
        assert journal.stages()[0].test_metrics[f"test_{key}"] == run.metrics[f"baseline_test_{key}"]
    assert run.metrics["test_part_right"] == run.metrics["test_score"]
    outcomes = journal.read("test.json")
    assert outcomes["parts"]["best"]["right"] == outcomes["best"]
    assert outcomes["parts"]["baseline"]["says/number"][:2] == [None, 0.25]
    assert journal.read("0-baseline/examples.json")["parts"][:2] == [
        {"right": outcome.score, "polite": 1.0, **({"says/number": 0.25} if number else {})}
        for number, outcome in enumerate(ran.baseline.dev.outcomes[:2])
    ]


def test_reports_show_them(ran: Any) -> None:
    run = read(Journal(Path(ran.journal)))
    rows = run_document(run)["metric_parts"]
    assert [(row["stage"], row["part"]) for row in rows][:3] == [
        ("0-baseline", "right"), ("0-baseline", "polite"), ("0-baseline", "says_number")]  # fmt: skip
    assert rows[1]["dev"][0] == rows[1]["test"][0] == 1
    assert re.search(r"\| 0-baseline \| polite \| 100\.0% \\\[\d+–100\\\] \| 100\.0% ", run_markdown(run))
    assert "<h2>Parts of the metric</h2>" in run_page(run)


def test_mlflow_shows_them_on_stage_and_parent(ran: Any, tmp_path: Path, empty_store: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    journal = Journal(Path(ran.journal))
    MlflowTracker(uri).publish(journal)
    client = MlflowClient(uri)
    runs = {run.data.tags.get("cascade.stage", ""): run for run in client.search_runs(["1"])}
    stage, parent = runs["1-demos"].data.metrics, runs[""].data.metrics
    assert stage["part_right"] == stage["dev_score"]
    assert {"part_right_ci_low", "part_polite", "part_says_number_ci_high", "test_part_right"} <= stage.keys()
    assert {"test_part_polite", "baseline_test_part_right_ci_high"} <= parent.keys()
    assert not any("/" in key for key in {**stage, **parent})


def test_a_metric_without_parts_has_no_such_figure(tmp_path: Path) -> None:
    result = scripted.run(scripted.experiment(dev=20, test=20), tmp_path, ScriptedEngine(scripted.answer))
    journal = Journal(Path(result.journal))
    assert not any("part_" in key for key in {**journal.stages()[0].metrics, **journal.run.metrics})
    assert "parts" not in journal.read("0-baseline/examples.json").keys() | journal.read("test.json").keys()


def test_a_failed_example_has_none_of_a_part_and_groups_are_units() -> None:
    def program(question: str) -> Any:
        if question.endswith("7"):
            raise ValueError("broken")
        return dspy.Prediction(answer=scripted.gold(question))

    split: Split = scripted.split("dev", 20, groups=tuple(str(n // 2) for n in range(20)))
    found = evaluate(program, split, in_parts)
    assert found.parts["polite"].count(0.0) == 2
    interval = score_interval(found.scores, groups=split.groups, confidence=0.9)
    figures = dev_metrics(StageResult("0-baseline", "none", "done", Spent(), dev=found, interval=interval))
    assert figures["part_polite"] == 0.9
    assert (figures["part_polite_ci_low"], figures["part_polite_ci_high"]) == (interval.low, interval.high)


def test_what_is_looked_at_on_test_is_named_for_the_stage() -> None:
    from cascade.comparison import compare

    found = evaluate(lambda question: dspy.Prediction(answer="a"), scripted.split("dev", 20), in_parts)
    test = Test(found, found, compare(found.scores, found.scores, confidence=0.9, margin=0.03), False, 1)
    assert figures_on_test(test, "test") == figures_on_test(test, "baseline_test")
    assert set(outcomes_of(test)) == {"id", "baseline", "best", "parts"}
