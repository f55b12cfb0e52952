"""What a person sees in MLflow's pages, on a real server with a database, in a real browser.

Pictures of the pages go to the folder that PICTURES names, else to pytest's own.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chromium
import dspy
import pytest
import scripted
from servers import mlflow_server

from cascade.experiment import Stage
from cascade.journal import Journal, journals
from cascade.mlflow_store import MlflowTracker, links, store
from cascade.report.tracker import ReportTracker
from cascade.testing import ScriptedEngine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STAGES = ["0-baseline", "1-labels", "2-demos"]


@dataclass
class Shown:
    """Two runs in MLflow, and a browser."""

    url: str
    client: Any
    page: chromium.Page
    journal: Journal
    pictures: Path

    def link(self, path: str) -> str:
        return f"{self.url}/{path}"

    def run_id(self, stage: str = "") -> str:
        """Of the newer run, or of one of its stages."""
        notes = self.journal.read("published.json")
        return str(notes["stages"][stage]["run_id"] if stage else notes["run_id"])

    def picture(self, name: str) -> None:
        assert self.page.picture(self.pictures / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("pages")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    pictures = Path(os.environ.get("PICTURES") or folder / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium.browser(folder / "profile") as page, mlflow_server(folder) as url:
        page.size(1600, 900)
        for labels in (2, 4):
            run(folder, url, labels)
        with store.reaching(url, "", ""):
            client = store.connect(url)
        yield Shown(url, client, page, next(iter(journals(folder / ".cascade", "qa"))), pictures)


def run(folder: Path, url: str, labels: int) -> None:
    stages = (Stage("labels", dspy.LabeledFewShot, k=labels), Stage("demos", dspy.BootstrapFewShot))
    defined = scripted.experiment(*stages, name="qa", hypothesis="Do demos help?", plateau=scripted.PATIENT)
    scripted.run(defined, folder, ScriptedEngine(scripted.answer), tracker=ReportTracker(MlflowTracker(url)))


def test_a_missing_browser_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"apt-get install chromium$"), chromium.browser(tmp_path):
        pass


def test_the_stages_of_two_runs_stand_in_their_order_with_score_and_verdict(shown: Shown) -> None:
    text = shown.page.open(shown.link(links.view_path("1", "stages")), *STAGES, "dev_score", "6 matching runs")
    assert re.findall(r"^\d-\w+$", text, re.MULTILINE) == sorted(2 * STAGES)
    for stage in shown.journal.stages():
        assert str(round(stage.metrics["dev_score"], 4)) in text
        assert stage.verdict in text
    for column in ("cascade.verdict", "cascade.kept", "cascade.next", "gain", "lm_calls", "seconds"):
        assert column in text
    shown.picture("stages")


def test_runs_are_compared_by_their_scores_on_test(shown: Shown) -> None:
    text = shown.page.open(shown.link(links.view_path("1", "cascades")), "test_score", "2 matching runs")
    assert str(round(shown.journal.run.metrics["test_score"], 4)) in text
    assert text.count("completed") == 2
    shown.picture("runs")


def test_charts_stand_in_one_order(shown: Shown) -> None:
    names = [f"\n{name}\n" for name in ("Scores", "dev_score", "gain", "Cost", "lm_calls", "seconds")]
    text = shown.page.open(shown.link(links.view_path("1", "stages", charts=True)), *names, "lm_calls vs. dev_score")
    places = [text.index(name) for name in names]
    assert places == sorted(places)
    shown.picture("charts")


def test_a_stage_tells_its_decision_and_leads_to_traces_and_prompt(shown: Shown) -> None:
    path = f"#/experiments/1/runs/{shown.run_id('1-labels')}?workflowType=machine_learning"
    stage = shown.journal.stages()[1]
    text = shown.page.open(shown.link(path), "Traces beside 0-baseline", "qa-prompt (v", "x-dev")
    assert f"{stage.verdict} → {stage.next}." in text
    assert stage.reason[:60] in text
    shown.picture("stage")


def test_traces_pair_the_same_examples_with_their_scores(shown: Shown) -> None:
    path = links.traces_path("1", shown.run_id("1-labels"), shown.run_id("0-baseline"))
    text = shown.page.open(shown.link(path), "compare to", "40 of 40", "expected", "score")
    assert text.count("dev ") > 3
    assert text.count("tr-") == 2 * len(re.findall(r"^dev \d+$", text, re.MULTILINE))
    shown.picture("traces")


def test_a_model_has_its_scores_on_dev_and_its_description(shown: Shown) -> None:
    best = shown.journal.run.best_stage
    model = shown.journal.read("published.json")["stages"][best]["model_id"]
    path = f"#/experiments/1/models/{model}?workflowType=machine_learning"
    text = shown.page.open(shown.link(path), best, "dev_score", "test_score", "x-dev", "x-test")
    assert str(round(shown.journal.run.metrics["test_score"], 4)) in text
    shown.picture("model")


def test_a_prompt_has_its_versions(shown: Shown) -> None:
    text = shown.page.open(shown.link("#/prompts/qa-prompt"), "Version 1", "Instructions", "cascade_stage")
    assert shown.journal.run.id in text
    shown.picture("prompt")


def test_the_report_is_shown_among_the_artifacts(shown: Shown) -> None:
    path = f"#/experiments/1/runs/{shown.run_id()}/artifacts/report.html?workflowType=machine_learning"
    shown.page.open(shown.link(path), "report.html", "decisions.json")
    # The frame is closed to the page around it, but the page made what it shows.
    shown.page.find("Score by stage", "fetch(document.querySelector('iframe')?.src).then(made => made.text())")
    shown.picture("report")
