"""The same dev examples on incumbent and candidate, as traces with their scores."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlflow_journals as by_hand
import pytest

from cascade.mlflow_store import MlflowTracker, traces

ROWS = {
    "input": ["1+1?", {"a": 1}], "predicted": ["two", "five"], "score": [1.0, 0.0], "expected": ["two", "four"],
    "feedback": ["", "no"], "id": ["dev-0001", "dev-0002"], "error": ["", ""], "tokens": [9, 9], "latency": [0.1, 0.2],
}  # fmt: skip


def table(count: int) -> dict[str, list[Any]]:
    rows = {name: [cells[0]] * count for name, cells in ROWS.items()}
    return {**rows, "id": [f"dev-{n:04}" for n in range(count)], "score": [n % 2 for n in range(count)]}


def shown(client: Any, stage: str) -> dict[str, Any]:
    """Traces of a stage's run by example."""
    (run,) = client.search_runs(["1"], f"tags.cascade.stage = '{stage}'")
    found = client.search_traces(locations=["1"], run_id=run.info.run_id, max_results=500)
    return {trace.info.tags["cascade.example"]: trace for trace in found}


@pytest.fixture
def journal(tmp_path: Path, uri: str) -> Any:
    journal = by_hand.unfinished(tmp_path, "running")
    MlflowTracker(uri).publish(journal)
    return journal


def test_the_same_examples_of_both_programs_with_their_scores(journal: Any, client: Any) -> None:
    before, after = shown(client, "0-baseline"), shown(client, "1-instructions")
    assert list(before) == list(after) == ["dev-0001", "dev-0002"]
    lost = after["dev-0002"]
    assert {one.name: one.value for one in lost.info.assessments} == {"score": 0.0, "expected": "four"}
    assert [one.rationale for one in lost.info.assessments if one.name == "score"] == ["no"]
    assert (lost.info.execution_duration, lost.info.request_preview, lost.info.response_preview) == (
        200, "2+2?", "five",
    )  # fmt: skip
    (model,) = (one for one in client.search_logged_models(["1"]) if one.name == "1-instructions")
    assert lost.info.trace_metadata["mlflow.modelId"] == model.model_id
    (span,) = lost.data.spans
    assert (span.inputs, span.outputs, span.trace_id) == ("2+2?", "five", lost.info.trace_id)


def test_the_stage_links_to_its_traces_beside_the_incumbents(journal: Any, client: Any) -> None:
    runs = {run.data.tags.get("cascade.stage"): run for run in client.search_runs(["1"])}
    ids = [runs[stage].info.run_id for stage in ("1-instructions", "0-baseline")]
    page = "#/experiments/1/runs/{}/traces?workflowType=machine_learning&compareToRunUuid={}".format(*ids)
    notes = {stage: run.data.tags["mlflow.note.content"].splitlines() for stage, run in runs.items()}
    assert notes["1-instructions"][1] == f"[Traces beside `0-baseline`]({page})"
    assert notes["0-baseline"][1].startswith("[Traces](#/")


def test_traces_of_an_earlier_attempt_make_way(journal: Any, client: Any, uri: str) -> None:
    before = shown(client, "1-instructions")
    changed = {**ROWS, "predicted": ["two", "four"], "score": [1.0, 1.0]}
    journal.write("1-instructions/examples.json", changed)
    MlflowTracker(uri).publish(journal)
    after = shown(client, "1-instructions")
    assert after.keys() == before.keys()
    assert {trace.info.response_preview for trace in after.values()} == {"two", "four"}
    assert len({trace.info.trace_id for trace in (*before.values(), *after.values())}) == 3


def test_a_stage_that_comes_to_have_none_loses_its_traces(journal: Any, client: Any, uri: str) -> None:
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions", verdict="unchanged"))
    MlflowTracker(uri).publish(journal)
    assert shown(client, "1-instructions") == {}
    (run,) = client.search_runs(["1"], "tags.cascade.stage = '1-instructions'")
    assert "Traces" not in run.data.tags["mlflow.note.content"]


def test_what_was_cut_off_is_completed_and_nothing_comes_twice(journal: Any, client: Any, uri: str) -> None:
    whole = {name: trace.to_dict() for name, trace in shown(client, "1-instructions").items()}
    client.delete_traces("1", trace_ids=[whole["dev-0001"]["info"]["trace_id"]])
    (journal.folder / "published.json").unlink()
    MlflowTracker(uri).publish(journal)
    again = {name: trace.to_dict() for name, trace in shown(client, "1-instructions").items()}
    assert json.dumps(facts(again)) == json.dumps(facts(whole))


def facts(found: dict[str, Any]) -> list[Any]:
    return [
        (trace["info"]["trace_id"], trace["info"]["request_time"], sorted(one["assessment_name"] for one in
         trace["info"]["assessments"]), len(trace["data"]["spans"]))
        for _, trace in sorted(found.items())
    ]  # fmt: skip


def test_long_ids_fit_into_every_database_and_stay_apart(journal: Any, client: Any, uri: str) -> None:
    """PostgreSQL refuses what is longer than its column, and with it the whole run."""
    ids = ["https://example.org/tickets/" + 5000 * "9" + end for end in "ab"]
    journal.write("1-instructions/examples.json", {**ROWS, "id": ids})
    MlflowTracker(uri).publish(journal)
    (run,) = client.search_runs(["1"], "tags.cascade.stage = '1-instructions'")
    found = [trace.info for trace in client.search_traces(locations=["1"], run_id=run.info.run_id)]
    assert len({one.client_request_id for one in found}) == 2
    assert all(len(one.client_request_id) <= 50 and len(one.tags["mlflow.traceName"]) <= 250 for one in found)


def test_a_stage_has_so_many_and_all_stages_the_same() -> None:
    stage = by_hand.stage_record(1, "instructions")
    drawn = traces.answered("ab", stage, table(200))
    assert len(drawn) == traces.MOST
    assert [example.id for example in drawn] == sorted(example.id for example in drawn)
    worse = {**table(200), "score": [0.0] * 200, "predicted": ["other"] * 200}
    assert [example.id for example in traces.answered("cd", stage, worse)] == [example.id for example in drawn]
    assert {example.score for example in drawn} == {0, 1}


@pytest.mark.parametrize(
    ("changes", "rows"), [({"verdict": "unchanged"}, ROWS), ({"status": "failed"}, ROWS), ({}, None)]
)
def test_what_was_not_judged_anew_has_none(changes: dict[str, Any], rows: Any) -> None:
    stage = dataclasses.replace(by_hand.stage_record(1, "instructions"), **changes)
    assert traces.answered("ab", stage, rows) == []


@pytest.mark.parametrize(
    ("kept", "expected"),
    [(("new", "incumbent"), "1-a"), (("incumbent", "incumbent"), "0-baseline"), (("new", "new"), "2-b")],
)
def test_the_incumbent_is_the_last_that_was_kept(kept: tuple[str, str], expected: str) -> None:
    from cascade.mlflow_store.content import incumbent

    stages = [by_hand.stage_record(0, "baseline", "none")]
    stages += [by_hand.stage_record(n, name, kept=how) for n, (name, how) in enumerate(zip("ab", kept, strict=True), 1)]
    stages += [by_hand.stage_record(3, "failed", status="failed", kept="new"), by_hand.stage_record(4, "last")]
    assert incumbent(stages[-1], stages) == expected
    assert incumbent(stages[0], stages) == ""
