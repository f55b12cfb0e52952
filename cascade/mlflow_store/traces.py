"""Traces of dev examples on each judged program, with their scores, so that MLflow shows two programs side by side.

They are made from the journal's table of examples: no model is called. MLflow's own tracing would send them to its
global store, later and from another thread; here they go to the store that was given, whole and at once.
Invariant: a trace's id is the hash of its run and its content, so that sending it again makes no second one.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade.journal import StageRecord

MOST = 50
"""Traces of one stage: enough to read, and so few that a run does not notice them being written."""
_PREVIEW = 1000
_CLIENT_ID, _NAME = 50, 250
"""Characters that a database takes of an example's id as the request's, and that a page shows of it as a name."""
_NEVER = "unchanged"
"""Verdict of a stage whose program is the incumbent; its traces would be the incumbent's."""


@dataclass(frozen=True)
class Answered:
    """A dev example on one program: the row of `examples.json`, and a time at the stage's end (ms)."""

    run_id: str
    model_id: str
    id: str
    input: Any
    predicted: Any
    expected: Any
    score: float
    feedback: str
    error: str
    tokens: int
    latency: float
    shown_at: int

    @property
    def trace_id(self) -> str:
        """`tr-` and 32 hex digits."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return f"tr-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def answered(
    run_id: str, stage: StageRecord, table: Mapping[str, Sequence[Any]] | None, model_id: str = ""
) -> list[Answered]:
    """The examples of a stage that are traced: the same of all programs judged on the same rows.

    At most `MOST`, drawn by the hash of their ids: a draw that knows the scores would falsify their mean.
    """
    if stage.status != "done" or stage.verdict == _NEVER or not table:
        return []
    rows = [dict(zip(table, cells, strict=True)) for cells in zip(*table.values(), strict=True)]
    drawn = sorted(rows, key=lambda row: hashlib.sha256(str(row["id"]).encode()).digest())[:MOST]
    chosen = {str(row["id"]) for row in drawn}
    names = [name for name in Answered.__dataclass_fields__ if name in table]
    # When each was answered is not known. MLflow lists the newest first: this keeps the order of the rows.
    return [
        Answered(
            run_id=run_id,
            model_id=model_id,
            shown_at=round(stage.ended * 1000) - place,
            **{name: row[name] for name in names},
        )
        for place, row in enumerate(row for row in rows if str(row["id"]) in chosen)
    ]


def digest(examples: Sequence[Answered]) -> str:
    """What tells these traces from others; "" of none."""
    ids = " ".join(example.trace_id for example in examples)
    return hashlib.sha256(ids.encode()).hexdigest()[:16] if ids else ""


def send(uri: str, experiment_id: str, run_id: str, examples: Sequence[Answered], source: str) -> None:
    """Make a run's traces those of `examples`: sends what is missing, deletes what is of an earlier attempt.

    Args:
        uri: of a store that answers.
        source: what judged, shown beside the scores.
    """
    from mlflow.tracing.client import TracingClient

    client = TracingClient(uri)
    wanted = {example.trace_id: example for example in examples}
    there = _there(client, experiment_id, run_id)
    if stale := sorted(there - wanted.keys()):
        client.delete_traces(experiment_id, trace_ids=stale)
    spans = {trace_id: _span(trace_id, example) for trace_id, example in wanted.items()}
    for trace_id in sorted(wanted.keys() - there):
        begin(client, _info(experiment_id, wanted[trace_id], source), [spans[trace_id]])
    log_spans(client, experiment_id, spans.values())


def _there(client: Any, experiment_id: str, run_id: str) -> set[str]:
    found = client.search_traces(locations=[experiment_id], run_id=run_id, max_results=4 * MOST, include_spans=False)
    return {trace.info.trace_id for trace in found}


def begin(client: Any, info: Any, spans: Sequence[Any]) -> None:
    """Make a trace; where the store keeps spans as files, with them."""
    from mlflow.entities import TraceData

    begun = client.start_trace(info)
    if not _spans_in_database(client):
        client._upload_trace_data(begun, TraceData(spans=list(spans)))


def log_spans(client: Any, experiment_id: str, spans: Iterable[Any]) -> None:
    """Write the spans of traces that were begun, where the store has a table for them."""
    if _spans_in_database(client) and (given := list(spans)):
        client.log_spans(experiment_id, given)


def _spans_in_database(client: Any) -> bool:
    """Databricks takes the spans of an experiment as files."""
    return not str(client.tracking_uri).startswith("databricks")


def _info(experiment_id: str, example: Answered, source: str) -> Any:
    from mlflow.entities import (
        AssessmentSource,
        AssessmentSourceType,
        Expectation,
        Feedback,
        TraceInfo,
        TraceLocation,
        TraceState,
    )  # fmt: skip

    judge = AssessmentSource(AssessmentSourceType.CODE, source)
    duration = round(example.latency * 1000)
    why = example.error or example.feedback
    assessments: list[Any] = [Feedback(name="score", value=example.score, source=judge, rationale=why or None)]
    if example.expected not in (None, "", {}):
        assessments.append(Expectation(name="expected", value=example.expected, source=judge))
    return TraceInfo(
        trace_id=example.trace_id,
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=example.shown_at,
        execution_duration=duration,
        state=TraceState.ERROR if example.error else TraceState.OK,
        request_preview=preview(example.input),
        response_preview=preview(example.predicted),
        client_request_id=_name(example.id, _CLIENT_ID),
        trace_metadata={
            "mlflow.sourceRun": example.run_id,
            "mlflow.trace_schema.version": "3",
            **({"mlflow.modelId": example.model_id} if example.model_id else {}),
        },
        tags={"mlflow.traceName": _name(example.id, _NAME), "cascade.example": preview(example.id)},
        assessments=assessments,
    )


def _span(trace_id: str, example: Answered) -> Any:
    from mlflow.entities import Span

    attributes = {
        "mlflow.traceRequestId": trace_id,
        "mlflow.spanType": "CHAIN",
        "mlflow.spanInputs": example.input,
        "mlflow.spanOutputs": example.predicted,
        "tokens": example.tokens,
    }
    began = example.shown_at * 1_000_000
    return Span.from_dict(
        {
            "trace_id": trace_id,
            "span_id": trace_id[-16:],
            "parent_span_id": None,
            "name": "program",
            "start_time_unix_nano": began,
            "end_time_unix_nano": began + round(example.latency * 1000) * 1_000_000,
            "status": {"code": "ERROR" if example.error else "OK", "message": example.error},
            "attributes": {name: json.dumps(value, default=str) for name, value in attributes.items()},
        }
    )


def _name(id_: str, longest: int) -> str:
    """An id; of a long one the beginning and a hash, so that two never become one."""
    digest = hashlib.sha256(id_.encode()).hexdigest()[:8]
    return id_ if len(id_) <= longest else f"{id_[: longest - 9]}-{digest}"


def preview(value: Any) -> str:
    """A value as a preview shows it."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _PREVIEW else text[: _PREVIEW - 1] + "…"
