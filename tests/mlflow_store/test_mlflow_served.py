"""Served requests with what people said of them, out of a real store."""

from typing import Any

from mlflow.entities import (
    AssessmentSource,
    Expectation,
    Feedback,
    Span,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.tracing.client import TracingClient

from cascade.mlflow_store.served import reviewed
from cascade.mlflow_store.store import experiment_id

ANN = AssessmentSource("HUMAN", "ann")
JUDGE = AssessmentSource("LLM_JUDGE", "judge")


def trace(uri: str, place: str, number: int, *assessments: Any, kind: str = "served") -> None:
    client, id_ = TracingClient(uri), f"tr-{number:032}"
    info = TraceInfo(
        trace_id=id_, trace_location=TraceLocation.from_experiment_id(place), request_time=1000 + number,
        execution_duration=5, state=TraceState.OK, tags={"cascade.kind": kind, "cascade.version": "7"},
        trace_metadata={"mlflow.trace_schema.version": "3"}, assessments=list(assessments),
    )  # fmt: skip
    client.start_trace(info)
    attributes = {
        "mlflow.traceRequestId": f'"{id_}"',
        "mlflow.spanInputs": '{"question": "q"}',
        "mlflow.spanOutputs": '{"answer": "a"}',
    }
    span = {
        "trace_id": id_, "span_id": id_[-16:], "parent_span_id": None, "name": "program", "start_time_unix_nano": 1,
        "end_time_unix_nano": 2, "status": {"code": "OK", "message": ""}, "attributes": attributes,
    }  # fmt: skip
    client.log_spans(place, [Span.from_dict(span)])


def test_only_what_people_said_is_read(client: Any, uri: str) -> None:
    place = experiment_id(client, uri, "qa")
    trace(uri, place, 1, Feedback(name="outcome", value=True, source=ANN))
    trace(
        uri,
        place,
        2,
        Feedback(name="outcome", value=0.25, source=ANN),
        Expectation(name="answer", value="b", source=ANN),
    )
    trace(uri, place, 3, Feedback(name="outcome", value=True, source=JUDGE))
    trace(uri, place, 4)
    trace(uri, place, 5, Feedback(name="outcome", value=True, source=ANN), kind="else")
    trace(uri, place, 6, Feedback(name="outcome", value="splendid", source=ANN))
    first, second = reviewed(client, uri, "qa")
    assert (first.id[-1], first.outcomes, dict(first.corrections)) == ("1", (1.0,), {})
    assert (second.id[-1], second.outcomes, dict(second.corrections)) == ("2", (0.25,), {"answer": "b"})
    assert (first.version, first.inputs, first.outputs) == ("7", {"question": "q"}, {"answer": "a"})
