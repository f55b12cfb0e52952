"""Prompts of kept programs in MLflow's prompt registry."""

import json
from pathlib import Path
from typing import Any

import mlflow_journals as by_hand
import pytest

from cascade.mlflow_store import MlflowTracker


def versions(client: Any, name: str = "qa-prompt") -> dict[str, Any]:
    """Prompt versions by the stage that they are tagged with."""
    return {version.tags["cascade_stage"]: version for version in client.search_prompt_versions(name)}


def linked(client: Any, stage: str, run: str = "20261122-022000-4f2a") -> Any:
    (found,) = client.search_runs(["1"], f"tags.cascade.stage = '{stage}' and tags.cascade.run_id = '{run}'")
    return json.loads(found.data.tags.get("mlflow.linkedPrompts", "[]"))


def test_what_was_kept_is_a_version(tmp_path: Path, uri: str, client: Any) -> None:
    journal = by_hand.completed(tmp_path)
    MlflowTracker(uri).publish(journal)
    found = versions(client)
    assert sorted(found) == ["0-baseline", "2-together"]
    best = found["2-together"]
    assert "Answer together." in best.template
    assert "**question**: 1+1?" in best.template
    assert best.tags["cascade_run"] == journal.run.id
    assert not any("." in tag for tag in best.tags if tag.startswith("cascade"))
    assert linked(client, "2-together") == [{"name": "qa-prompt", "version": str(best.version)}]
    assert linked(client, "1-instructions") == []
    assert [prompt.name for prompt in client.search_prompts("experiment_id = '1'")] == ["qa-prompt"]


def test_the_same_text_is_one_version(tmp_path: Path, uri: str, client: Any) -> None:
    tracker = MlflowTracker(uri)
    tracker.publish(by_hand.completed(tmp_path))
    before = {stage: version.version for stage, version in versions(client).items()}
    tracker.publish(by_hand.completed(tmp_path, id="20261122-03"))
    assert {stage: version.version for stage, version in versions(client).items()} == before
    assert linked(client, "2-together", "20261122-03") == linked(client, "2-together")


def test_long_texts_that_begin_alike_are_versions_of_their_own(tmp_path: Path, uri: str, client: Any) -> None:
    journal = by_hand.unfinished(tmp_path, "running")
    for number, end in enumerate("ab"):
        name = ("baseline", "instructions")[number]
        program = by_hand.state(60_000 * "ab " + end)
        by_hand.write_stage(journal, by_hand.stage_record(number, name, kept="new"), program)
    MlflowTracker(uri).publish(journal)
    assert sorted(versions(client)) == ["0-baseline", "1-instructions"]


def test_several_predictors_have_a_prompt_each(tmp_path: Path, uri: str, client: Any) -> None:
    journal = by_hand.unfinished(tmp_path, "running")
    two = {"router.answer": by_hand.state("Route.")["answer"], "answer": by_hand.state("Say.")["answer"], "index": [1]}
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions"), two)
    MlflowTracker(uri, model_prefix="main.ml.").publish(journal)
    names = ["main.ml.qa-prompt-answer", "main.ml.qa-prompt-router-answer"]
    assert [entry["name"] for entry in linked(client, "1-instructions", journal.run.id)] == names[::-1]
    assert ["Say." in version.template for name in names for version in versions(client, name).values()] == [
        True,
        False,
    ]


def test_a_name_that_is_a_models_is_said_and_the_run_is_sent(tmp_path: Path, uri: str, client: Any) -> None:
    client.create_registered_model("qa-prompt")
    MlflowTracker(uri).publish(by_hand.completed(tmp_path))
    (run,) = client.search_runs(["1"], "tags.cascade.stage = '2-together'")
    assert run.data.tags["cascade.no_prompt"] == "qa-prompt is a model's name."
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize("prefix", ["", "/Shared/"])
def test_an_experiment_may_stand_in_a_folder(tmp_path: Path, uri: str, client: Any, prefix: str) -> None:
    MlflowTracker(uri, experiment_prefix=prefix).publish(by_hand.unfinished(tmp_path, "running"))
    experiment = client.get_experiment_by_name(f"{prefix}qa")
    assert experiment.artifact_location.startswith(tmp_path.as_uri())
