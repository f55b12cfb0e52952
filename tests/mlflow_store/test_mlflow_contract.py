"""Every name that other tools read from MLflow, checked from outside."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow_journals as by_hand
import pytest
from servers import mlflow_server, postgres

from cascade.mlflow_store import MlflowTracker, content, store

PARENT_TAGS = {
    "cascade.kind": "cascade",
    "cascade.signature": "9f2c1ab0",
    "cascade.dataset": "qa@0123456789ab",
    "cascade.status": "completed",
    "cascade.git_sha": "0" * 40,
    "cascade.best_stage": "2-together",
    "cascade.proven": "true",
    "cascade.run_id": "20261122-022000-4f2a",
    "mlflow.runName": None,
    "mlflow.note.content": None,
}
DONE = {
    "cascade.stage": "2-together",
    "cascade.lever": "both",
    "cascade.aim": "better",
    "cascade.verdict": "better",
    "cascade.kept": "new",
    "cascade.next": "continue",
    "cascade.stage_status": "done",
    "mlflow.runName": "2-together",
    "mlflow.runColor": None,
    "mlflow.note.content": None,
}
STAGE_TAGS = {
    "2-together": DONE,
    "0-baseline": {"cascade.stage": "0-baseline", "cascade.lever": "none", "cascade.stage_status": "done"},
    "3-demos": {"cascade.stage": "3-demos", "cascade.lever": "prompt", "cascade.stage_status": "skipped"},
    "4-weights": {"cascade.stage": "4-weights", "cascade.lever": "weights", "cascade.stage_status": "failed"},
}
DONE_FILES = {"program.json", "prompts.md", "prompts.diff.md", "examples.json", "candidates.jsonl", "decision.json"}
STAGE_FILES = {
    "2-together": DONE_FILES,
    "0-baseline": DONE_FILES - {"candidates.jsonl"},
    "3-demos": set(),
    "4-weights": set(),
}
TABLE = ["input", "predicted", "score", "expected", "feedback", "id", "error", "tokens", "latency"]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[tuple[str, Any]]:
    """One store for all tests that only read: a file, and a real server with a database behind it."""
    folder = tmp_path_factory.mktemp("published")
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
        else:
            uri = stack.enter_context(mlflow_server(folder, stack.enter_context(postgres())))
        MlflowTracker(uri).publish(by_hand.completed(folder))
        with store.reaching(uri, "could not be opened", ""):
            yield uri, store.connect(uri)


@pytest.fixture
def uri(published: tuple[str, Any]) -> str:
    return published[0]


@pytest.fixture
def client(published: tuple[str, Any]) -> Any:
    return published[1]


@pytest.fixture
def runs(client: Any) -> dict[str, Any]:
    return read(client)


def read(client: Any) -> dict[str, Any]:
    experiment = client.get_experiment_by_name("qa")
    found = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("cascade.stage", "parent"): run for run in found}


def test_one_parent_and_one_nested_run_a_stage(runs: dict[str, Any]) -> None:
    parent = runs.pop("parent")
    assert parent.info.run_name.endswith(" cascade")
    assert sorted(runs) == ["0-baseline", "1-instructions", "2-together", "3-demos", "4-weights"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}


def test_tags_of_runs(runs: dict[str, Any]) -> None:
    for name, expected in {"parent": PARENT_TAGS, **STAGE_TAGS}.items():
        tags = runs[name].data.tags
        assert {key: tags[key] for key in expected if expected[key] is not None} == {
            key: value for key, value in expected.items() if value is not None
        }
        assert all(tags[key] for key in expected if expected[key] is None)


def test_run_status_and_times(runs: dict[str, Any]) -> None:
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {
        "parent": "FINISHED", "0-baseline": "FINISHED", "1-instructions": "FINISHED", "2-together": "FINISHED",
        "3-demos": "FINISHED", "4-weights": "FAILED",
    }  # fmt: skip
    assert runs["parent"].info.start_time == by_hand.STARTED * 1000
    assert runs["2-together"].info.end_time == (by_hand.STARTED + 29) * 1000


def test_metrics_of_runs(runs: dict[str, Any], client: Any) -> None:
    parent = runs["parent"].data.metrics
    assert {name: parent[name] for name in by_hand.RUN_METRICS} == by_hand.RUN_METRICS
    assert {name: parent[name] for name in by_hand.SPENT} == by_hand.SPENT
    assert parent.keys() == {*by_hand.RUN_METRICS, *by_hand.SPENT, "best_dev_score"}
    stage = runs["2-together"].data.metrics
    assert stage.keys() == {*by_hand.STAGE_METRICS, *by_hand.TEST_METRICS, "candidate_score"}
    assert runs["0-baseline"].data.metrics["dev_score"] == 0.6123
    assert runs["4-weights"].data.metrics == {"lm_calls": 7, "seconds": 2.0}
    assert runs["3-demos"].data.metrics == {}


@pytest.mark.parametrize(
    ("run", "metric", "steps"),
    [
        ("2-together", "candidate_score", {0: 0.3, 1: 0.4, 2: 0.5}),
        ("parent", "best_dev_score", {0: 0.6123, 1: 0.6123, 2: 0.8}),
        ("2-together", "dev_score", {0: 0.8}),
        ("2-together", "test_score", {0: 0.7}),
        ("2-together", "seconds", {0: 3.25}),
    ],
)
def test_metrics_by_step_are_logged_once(
    runs: dict[str, Any], client: Any, run: str, metric: str, steps: dict[int, float]
) -> None:
    history = client.get_metric_history(runs[run].info.run_id, metric)
    assert sorted((point.step, point.value) for point in history) == sorted(steps.items())


def test_params_of_runs(runs: dict[str, Any]) -> None:
    assert runs["parent"].data.params == {
        "seed": "1", "plateau.patience": "2", "budget.lm_calls": "5000", "lm.task": "openai/fake", "rows.dev": "40",
    }  # fmt: skip
    assert runs["2-together"].data.params == {"optimizer": "MIPROv2", "auto": "light"}


def test_inputs_of_runs(runs: dict[str, Any]) -> None:
    assert inputs(runs["parent"]) == {
        ("train", "qa-train", "train0123456"), ("dev", "qa-dev", "dev012345678"), ("test", "qa-test", "test01234567"),
    }  # fmt: skip
    assert inputs(runs["1-instructions"]) == {("dev", "qa-dev", "dev012345678")}
    assert {context for context, _, _ in inputs(runs["2-together"])} == {"dev", "test"}


def inputs(run: Any) -> set[tuple[str, str, str]]:
    given = run.inputs.dataset_inputs
    return {(one.tags[0].value, one.dataset.name, one.dataset.digest) for one in given}


def test_artifacts_of_runs(runs: dict[str, Any], client: Any) -> None:
    for name, expected in STAGE_FILES.items():
        assert {file.path for file in client.list_artifacts(runs[name].info.run_id)} == expected
    assert {file.path for file in client.list_artifacts(runs["parent"].info.run_id)} == {"decisions.json"}


def test_examples_are_a_table(runs: dict[str, Any], uri: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    run = runs["2-together"]
    table = client.load_table(run.info.experiment_id, "examples.json", [run.info.run_id])
    assert list(table.columns) == TABLE
    assert list(table["predicted"]) == ["two", "five"]


def test_a_model_of_each_done_stage(runs: dict[str, Any], client: Any) -> None:
    models = client.search_logged_models([runs["parent"].info.experiment_id])
    by_name = {model.name: model for model in models}
    assert sorted(by_name) == ["0-baseline", "1-instructions", "2-together"]
    assert len(models) == 3
    best = by_name["2-together"]
    assert best.source_run_id == runs["2-together"].info.run_id
    assert [output.model_id for output in runs["2-together"].outputs.model_outputs] == [best.model_id]
    figures = {(metric.key, metric.dataset_name, metric.dataset_digest): metric.value for metric in best.metrics}
    assert figures[("dev_score", "qa-dev", "dev012345678")] == 0.8
    assert figures[("test_score", "qa-test", "test01234567")] == 0.7
    assert str(best.status) == "READY"
    assert best.params["optimizer"] == "MIPROv2"


def test_the_best_program_is_the_challenger(runs: dict[str, Any], client: Any) -> None:
    version = client.get_model_version_by_alias("qa", "challenger")
    assert version.run_id == runs["2-together"].info.run_id
    assert version.tags["cascade.model_id"] == runs["2-together"].outputs.model_outputs[0].model_id
    assert version.description == "2-together is better: +20 points on test."
    assert {key: version.tags[key] for key in ("cascade.run_id", "cascade.stage", "cascade.proven")} == {
        "cascade.run_id": "20261122-022000-4f2a", "cascade.stage": "2-together", "cascade.proven": "true",
    }  # fmt: skip


def test_the_experiment_says_what_it_is_about(runs: dict[str, Any], client: Any) -> None:
    tags = client.get_experiment_by_name("qa").tags
    assert tags["mlflow.note.content"].startswith("Does it shout?\n\nFile: `experiments/qa.py`")
    assert {"mlflow.sharedViewState.cascades", "mlflow.sharedViewState.stages"} <= tags.keys()


def test_a_note_says_verdict_interval_and_spend_first(runs: dict[str, Any]) -> None:
    assert runs["2-together"].data.tags["mlflow.note.content"].splitlines()[0] == (
        "**better → continue.** dev 80.0% [50.0%, 70.0%], gain +10.0 [+2.0, +18.0] points, 120 LM calls, $0.0123, 3 s."
    )
    assert runs["4-weights"].data.tags["mlflow.note.content"] == "**failed.** 7 LM calls, 2 s.\n\nValueError: no rows"
    assert runs["3-demos"].data.tags["mlflow.note.content"] == "**skipped.**\n\nplateau"
    assert runs["parent"].data.tags["mlflow.note.content"].splitlines()[0] == (
        "**completed.** best `2-together`, test 70.0% [60.0%, 80.0%], gain +20.0 [+10.0, +30.0] points, "
        "proven on test, 500 LM calls, $0.05, 20 s."
    )


def test_a_stage_that_aims_at_cheaper_says_what_it_saved(tmp_path: Path) -> None:
    figures = {**by_hand.STAGE_METRICS, "serving_cost": 0.00001234567, "incumbent_serving_cost": 0.00004938268}
    params = {"optimizer": "BootstrapFinetune", "aim": "cheaper", "margin": "0.05"}
    run, stage = (
        by_hand.run_record(tmp_path),
        by_hand.stage_record(3, "distilled", "weights", params=params, metrics=figures),
    )
    tags = content.stage_tags(run, stage)
    assert tags["cascade.aim"] == "cheaper"
    assert ", gain +10.0 [+2.0, +18.0] points, serving cost -75 %, 120 LM calls" in tags["mlflow.note.content"]
    assert content.stage_metrics(run, stage)["serving_cost"] == 0.00001235
