"""The report is written before the journal is shown to another tracker, and costs a run nothing."""

import re
from pathlib import Path

import pytest
import report_journals as by_hand
import scripted

from cascade.errors import Interrupted, TrackingError
from cascade.experiment import Budget, Headroom, Stage
from cascade.journal import Journal
from cascade.mlflow_store.publication import digests
from cascade.report.reading import read
from cascade.report.tracker import ReportTracker
from cascade.testing import ScriptedEngine

STAGES = (Stage("demos", scripted.dspy.BootstrapFewShot), Stage("weights", scripted.dspy.BootstrapFinetune))


class Behind:
    """Notes what it was shown."""

    def __init__(self, refuses=False):
        self.reports, self.refuses, self.caught_up = [], refuses, []

    def publish(self, journal):
        path = journal.folder / "report.html"
        self.reports.append(path.read_text("utf-8") if path.exists() else "")
        if self.refuses:
            raise TrackingError("away")

    def catch_up(self, journals):
        self.caught_up += list(journals)
        return len(self.caught_up)


def run(folder, tracker, engine=None, **options):
    defined = scripted.experiment(*options.pop("stages", STAGES), **options)
    return scripted.run(defined, folder, engine or ScriptedEngine(scripted.answer), tracker=tracker)


def test_a_tracker_is_shown_the_report_of_what_is_in_the_journal(tmp_path):
    behind = Behind()
    result = run(tmp_path, ReportTracker(behind))
    assert f"<title>x {result.run_id}: Best: {result.best.name}," in behind.reports[-1]
    assert behind.reports[-1] == (Path(result.journal) / "report.html").read_text("utf-8")
    assert behind.reports[0].startswith("<!doctype html>")


def test_the_report_is_the_same_until_the_journal_changes(tmp_path):
    journal = by_hand.completed(tmp_path)
    ReportTracker().publish(journal)
    before = digests(journal)
    ReportTracker().publish(journal)
    assert digests(journal) == before


def test_a_report_that_cannot_be_written_keeps_nothing_from_the_tracker_behind(tmp_path):
    journal, behind = by_hand.completed(tmp_path), Behind()
    (journal.folder / "groups.json").write_text("{")
    with pytest.raises(TrackingError, match=r"report.html of .* could not be written: CascadeError: .*groups.json"):
        ReportTracker(behind).publish(journal)
    assert behind.reports == [""]


def test_a_tracker_behind_that_refuses_is_heard(tmp_path):
    journal = by_hand.completed(tmp_path)
    with pytest.raises(TrackingError, match="away"):
        ReportTracker(Behind(refuses=True)).publish(journal)
    assert (journal.folder / "report.html").exists()


def test_catching_up_is_left_to_the_tracker_behind(tmp_path):
    journal, behind = by_hand.completed(tmp_path), Behind()
    assert ReportTracker(behind).catch_up([journal]) == 1
    assert (ReportTracker().catch_up([journal]), behind.caught_up) == (0, [journal])


def test_a_run_that_is_interrupted_leaves_its_report(tmp_path):
    class Tired(ScriptedEngine):
        def complete(self, request):
            if len(self.requests) > 60:
                raise KeyboardInterrupt
            return super().complete(request)

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        run(tmp_path, ReportTracker(), Tired(scripted.answer))
    (folder,) = (tmp_path / ".cascade" / "runs" / "x").iterdir()
    page = (folder / "report.html").read_text("utf-8")
    assert "Best so far: 0-baseline" in page
    assert "To go on: <code>cascade run x</code>." in page


def test_a_run_that_fails_or_spends_its_budget_leaves_its_report(tmp_path):
    def down(model, inputs, demos):
        raise ConnectionError("the model is down")

    with pytest.raises(Exception, match="down"):
        run(tmp_path / "failed", ReportTracker(), ScriptedEngine(down))
    (folder,) = (tmp_path / "failed" / ".cascade" / "runs" / "x").iterdir()
    assert "the model is down" in (folder / "report.html").read_text("utf-8")
    result = run(tmp_path / "budget", ReportTracker(), budget=Budget(lm_calls=150))
    assert result.status == "budget"
    page = (Path(result.journal) / "report.html").read_text("utf-8")
    assert "stopped because its budget was spent" in page
    assert re.search(r"Skipped by the decision after 1-demos|LM calls: \d+ of 150", page)


def test_the_journal_keeps_groups_serving_costs_and_scores_on_test(tmp_path):
    rows = {
        name: [{**row, "who": f"{name} {number // 2}"} for number, row in enumerate(scripted.rows(name, 60))]
        for name in ("train", "dev", "test")
    }
    data = scripted.Dataset("x", **rows, inputs=("question",), group="who")
    result = run(tmp_path, ReportTracker(), dataset=data, headroom=Headroom(20, 1))
    kept = read(Journal(Path(result.journal)))
    assert len(set(kept.groups["dev"].values())) == len(set(kept.groups["test"].values())) == 30
    assert set(kept.groups["dev"]) == {outcome.id for outcome in result.best.dev.outcomes}
    assert list(kept.test_scores.best) == result.test.best.scores
    assert list(kept.test_scores.baseline) == result.test.baseline.scores
    assert kept.test_scores.id == tuple(outcome.id for outcome in result.test.best.outcomes)
    baseline = result.baseline.dev.per_example
    assert kept.baseline.serving["input_tokens"] == baseline.input_tokens > 0
    assert "cost_usd" not in kept.baseline.serving
    assert kept.headroom


def test_rows_of_test_are_not_in_the_journal(tmp_path):
    result = run(tmp_path, ReportTracker())
    found = [
        path for path in Path(result.journal).rglob("*") if path.is_file() and '"test 1"' in path.read_text("utf-8")
    ]
    assert found == []
