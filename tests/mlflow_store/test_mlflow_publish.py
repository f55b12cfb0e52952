"""Sending again, after changes, after crashes, and to stores that are not there."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow_journals as by_hand
import pytest

from cascade.errors import TrackingError
from cascade.journal import Journal
from cascade.mlflow_store import MlflowTracker, store
from cascade.mlflow_store.names import Names
from cascade.mlflow_store.publication import Publication
from cascade.sources import siblings

CRASHES = (9, 12, 14, 16, 21, 28, 56, 58, 60)
"""Of the 60 calls that write: each kind once, on the run, a stage, a model, a prompt, the registry."""


def everything(client: Any) -> dict[str, Any]:
    """All that a store shows, in a form that can be compared."""
    experiments = [one.experiment_id for one in client.search_experiments() if one.name != "Default"]
    runs = client.search_runs(experiments)
    return {
        "runs": {run.info.run_id: run.to_dictionary() for run in runs},
        "points": {
            run.info.run_id: sorted(
                (key, point.step, point.value, point.timestamp)
                for key in run.data.metrics
                for point in client.get_metric_history(run.info.run_id, key)
            )
            for run in runs
        },
        "models": {model.model_id: model.to_dictionary() for model in client.search_logged_models(experiments)},
        "versions": [dict(version) for version in client.search_model_versions()],
    }


def counts(client: Any) -> tuple[int, ...]:
    return tuple(len(client_part) for client_part in everything(client).values())


def test_sending_twice_changes_nothing(tmp_path: Path, uri: str, client: Any) -> None:
    journal, tracker = by_hand.completed(tmp_path), MlflowTracker(uri)
    tracker.publish(journal)
    before = everything(client)
    tracker.publish(journal)
    assert everything(client) == before


def test_sending_again_without_notes_finds_everything(tmp_path: Path, uri: str, client: Any) -> None:
    journal, tracker = by_hand.completed(tmp_path), MlflowTracker(uri)
    tracker.publish(journal)
    client.delete_registered_model_alias("qa", "challenger")
    before = everything(client)
    (journal.folder / "published.json").write_text("{broken")
    tracker.publish(journal)
    assert everything(client) == before


def test_what_a_database_refuses_is_sent_as_its_escape(tmp_path: Path, uri: str, client: Any) -> None:
    """SQLite refuses half a character, PostgreSQL a NUL, and both a param of any name; models and files have them."""
    broken = "a\0b \ud83d"
    journal = by_hand.unfinished(tmp_path, "running", hypothesis=broken, summary=broken)
    options = {"optimizer": broken, "größe": "1"}
    record = by_hand.stage_record(1, "instructions", params=options, reason=broken)
    by_hand.write_stage(journal, record, by_hand.state(broken))
    cells = {
        "input": {"question": broken},
        "predicted": broken,
        "expected": broken,
        "feedback": broken,
        "error": broken,
    }
    table = {"id": [broken], "score": [0.0], "tokens": [1], "latency": [0.1], **{k: [v] for k, v in cells.items()}}
    journal.write("1-instructions/examples.json", table)
    MlflowTracker(uri).publish(journal)
    (run,) = client.search_runs(["1"], "tags.cascade.stage = '1-instructions'")
    (trace,) = client.search_traces(locations=["1"], run_id=run.info.run_id)
    shown = {
        **run.data.params,
        **run.data.tags,
        "preview": trace.info.response_preview,
        "id": trace.info.client_request_id,
    }
    assert run.data.params["gr__e"] == "1"
    assert shown["preview"] == shown["id"] == shown["optimizer"] == "a\\u0000b \\ud83d"


def test_a_resumed_run_goes_on_in_the_same_runs(tmp_path: Path, uri: str, client: Any) -> None:
    journal, tracker = by_hand.unfinished(tmp_path, "interrupted"), MlflowTracker(uri)
    tracker.publish(journal)
    before = everything(client)
    notes = json.loads((journal.folder / "published.json").read_text())
    journal.update(status="running", params={**journal.run.params, "budget.lm_calls": "9000"})
    tracker.publish(journal)
    parent = client.get_run(notes["run_id"])
    assert parent.info.status == "RUNNING"
    assert json.loads(parent.data.tags["cascade.changed_params"]) == {"budget.lm_calls": "9000"}
    by_hand.write_stage(journal, by_hand.stage_record(2, "together", "both"))
    journal.update(status="completed", best_stage="2-together", ended=by_hand.STARTED + 99)
    tracker.publish(journal)
    after = everything(client)
    assert after["runs"].keys() > before["runs"].keys()
    assert len(after["runs"]) == len(before["runs"]) + 1
    assert client.get_run(notes["run_id"]).info.status == "FINISHED"
    assert client.get_run(notes["run_id"]).info.end_time == (by_hand.STARTED + 99) * 1000


def test_a_changed_record_updates_its_run(tmp_path: Path, uri: str, client: Any) -> None:
    journal, tracker = by_hand.unfinished(tmp_path, "running"), MlflowTracker(uri)
    failed = by_hand.stage_record(2, "weights", "weights", "failed", reason="ValueError")
    by_hand.write_stage(journal, failed)
    tracker.publish(journal)
    before = everything(client)
    noted = json.loads((journal.folder / "published.json").read_text())["stages"]
    by_hand.write_stage(journal, by_hand.stage_record(2, "weights", "weights"))
    better = by_hand.stage_record(1, "instructions", test_metrics=by_hand.TEST_METRICS)
    by_hand.write_stage(journal, dataclasses.replace(better, metrics={**better.metrics, "lm_calls": 240}))
    tracker.publish(journal)
    after = everything(client)
    assert after["runs"].keys() == before["runs"].keys()
    assert len(after["models"]) == len(before["models"]) + 1
    weights, instructions = (client.get_run(noted[name]["run_id"]) for name in ("2-weights", "1-instructions"))
    assert weights.info.status == "FINISHED"
    assert weights.data.tags["cascade.stage_status"] == "done"
    assert instructions.data.metrics["lm_calls"] == 240
    assert instructions.data.metrics["test_score"] == 0.7
    assert [point.value for point in client.get_metric_history(instructions.info.run_id, "dev_score")] == [0.6123]


def test_a_changed_program_is_a_new_model_in_place_of_the_old(tmp_path: Path, uri: str, client: Any) -> None:
    journal, tracker = by_hand.unfinished(tmp_path, "running"), MlflowTracker(uri)
    tracker.publish(journal)
    before = everything(client)["models"]
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions"), by_hand.state("Answer better."))
    tracker.publish(journal)
    after = everything(client)["models"]
    assert len(after) == len(before) == 2
    assert len(after.keys() & before.keys()) == 1
    new = client.get_logged_model(*(after.keys() - before.keys()))
    assert {metric.key for metric in new.metrics} >= {"dev_score", "dev_ci_low", "dev_ci_high"}


class Crashing:
    """A client whose process dies just before its `calls`-th call that writes."""

    def __init__(self, client: Any, calls: int) -> None:
        self.client, self.left = client, calls
        self.made: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        reads = ("get", "search", "list", "tracking")
        return found if name.startswith(reads) or not callable(found) else self._counted(found)

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            self.made.append(call.__name__)
            return call(*args, **kwargs)

        return counted


@pytest.mark.parametrize("calls", CRASHES)
def test_a_crash_between_any_two_calls_makes_nothing_twice(tmp_path: Path, uri: str, client: Any, calls: int) -> None:
    journal = by_hand.unfinished(tmp_path, "completed")
    with store.reaching(uri, "", ""), pytest.raises(KeyboardInterrupt):
        Publication(Crashing(client, calls), uri, journal, lambda _: None, Names()).send()
    MlflowTracker(uri).publish(journal)
    shown = everything(client)
    assert (len(shown["runs"]), len(shown["models"]), len(shown["versions"])) == (3, 2, 1)
    assert {run["info"]["status"] for run in shown["runs"].values()} == {"FINISHED"}
    assert len(client.search_prompt_versions("qa-prompt")) == 2
    assert all(len(points) == len({point[:2] for point in points}) for points in shown["points"].values())
    assert client.get_model_version_by_alias("qa", "challenger").version == shown["versions"][0]["version"]


@pytest.mark.parametrize(
    "down",
    [
        "http://user:canary@127.0.0.1:9",
        "postgresql://me:canary@127.0.0.1:9/mlflow",
        "sqlite:///{folder}/file/mlflow.db",
    ],
)
def test_a_store_that_is_down_is_said_at_once_and_gets_everything_later(
    tmp_path: Path, uri: str, client: Any, down: str
) -> None:
    journal = by_hand.unfinished(tmp_path, "completed")
    (tmp_path / "file").write_text("not a folder")
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        MlflowTracker(down.format(folder=tmp_path)).publish(journal)
    assert time.monotonic() - started < 6
    message = str(caught.value)
    assert message.startswith("MLflow at '")
    assert "127.0.0.1:9" in message or "file/mlflow.db" in message
    assert message.endswith("keeps everything; it is sent by the next run.")
    assert "canary" not in message
    assert "\n" not in message
    tracker = MlflowTracker(uri)
    assert not tracker.is_current(journal)
    assert tracker.catch_up([journal]) == 1
    assert tracker.is_current(journal)
    assert tracker.catch_up([journal]) == 0
    assert counts(client) == (3, 3, 2, 1)


def test_another_store_gets_everything_too(tmp_path: Path, uri: str, empty_store: Path) -> None:
    journal = by_hand.unfinished(tmp_path, "completed")
    MlflowTracker(uri).publish(journal)
    (tmp_path / "other").mkdir()
    other = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'other' / 'mlflow.db')}"
    assert not MlflowTracker(other).is_current(journal)
    MlflowTracker(other).publish(journal)
    with store.reaching(other, "", ""):
        assert counts(store.connect(other)) == (3, 3, 2, 1)


def test_a_deleted_experiment_is_said_with_the_way_back(tmp_path: Path, uri: str, client: Any) -> None:
    client.delete_experiment(client.create_experiment("qa"))
    with pytest.raises(TrackingError, match="mlflow experiments restore -x 1"):
        MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed"))


@pytest.mark.parametrize(
    "line", ["import helpers", "from helpers import shout", "from . import helpers", "import experiments.other"]
)
def test_a_program_that_needs_its_project_is_shown_without_a_model(
    tmp_path: Path, uri: str, client: Any, line: str
) -> None:
    journal = by_hand.unfinished(tmp_path, "completed")
    (tmp_path / "helpers.py").write_text("shout = str.upper\n")
    source = tmp_path / "experiments" / "qa.py"
    source.write_text(f"{line}\nimport json\nimport dspy\nimport cascade\n" + by_hand.FACTORY)
    assert siblings(source) != []
    MlflowTracker(uri).publish(journal)
    assert counts(client) == (3, 3, 0, 0)
    runs = client.search_runs(["1"], "tags.cascade.stage = '1-instructions'")
    assert "the program is loaded elsewhere" in runs[0].data.tags["cascade.no_model"]
    assert runs[0].data.metrics["dev_score"] == 0.6123


def test_only_weights_that_a_stage_trained_are_shipped(tmp_path: Path, uri: str, client: Any) -> None:
    journal = by_hand.unfinished(tmp_path, "completed", lms={"task": "embedded/base"})
    trained = tmp_path / "base-0123456789ab.gguf"
    trained.write_bytes(b"weights")
    tuned = "embedded/base-0123456789ab"
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions", lms={"answer": tuned}))
    MlflowTracker(uri, weights={tuned: trained, "embedded/base": tmp_path / "base.gguf"}.get).publish(journal)
    files = {
        model.name: sorted(path.name for path in Path(model.artifact_location.removeprefix("file://")).rglob("*"))
        for model in client.search_logged_models(["1"])
    }
    assert "base-0123456789ab.gguf" in files["1-instructions"]
    assert "base-0123456789ab.gguf" not in files["0-baseline"]
    assert all({"loader.py", "config.json", "state.json", "qa.py", "MLmodel"} <= set(names) for names in files.values())
    assert not any(name.endswith((".pkl", ".pickle")) for names in files.values() for name in names)


def test_what_is_written_beside_a_sending_is_sent_next_time(tmp_path: Path, uri: str, client: Any) -> None:
    journal, tracker = by_hand.unfinished(tmp_path, "running"), MlflowTracker(uri)
    sending = Publication(client, uri, journal, lambda _: None, Names())
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions", reason="late"))
    by_hand.write_stage(journal, by_hand.stage_record(2, "demos"))
    with store.reaching(uri, "", ""):
        sending.send()
    assert not tracker.is_current(journal)
    tracker.publish(journal)
    notes = {run.data.tags["mlflow.note.content"].splitlines()[-1] for run in client.search_runs(["1"])}
    assert "late" in notes
    assert counts(client) == (4, 4, 3, 0)


def test_two_trackers_at_once_make_nothing_twice(tmp_path: Path, uri: str, client: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    journal = by_hand.unfinished(tmp_path, "completed")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: MlflowTracker(uri).publish(Journal(journal.folder)), range(2)))
    assert counts(client) == (3, 3, 2, 1)


@pytest.mark.parametrize(
    "case",
    [
        ("running", "RUNNING", False),
        ("interrupted", "KILLED", False),
        ("failed", "FAILED", False),
        ("budget", "FINISHED", True),
    ],
)
def test_how_a_run_ended(tmp_path: Path, uri: str, client: Any, case: tuple[str, str, bool]) -> None:
    status, shown, registered = case
    MlflowTracker(uri, model_prefix="team-").publish(by_hand.unfinished(tmp_path, status))
    (parent,) = client.search_runs(["1"], "tags.cascade.kind = 'cascade'")
    assert parent.info.status == shown
    assert parent.data.tags["cascade.status"] == status
    assert [model.name for model in client.search_registered_models()] == (["team-qa"] if registered else [])
