"""Served requests, and what people said of them, as traces of MLflow; `served` reads them again.

Invariant: a trace's id is made from the request's, and what was said has an id of its own, so that sending either again
changes nothing.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cascade.mlflow_store import traces
from cascade.mlflow_store.served import KIND, OUTCOME

_SAID = "cascade.said"
"""Metadata of an assessment: the id of what was said."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was served.

    Args:
        request: 32 hex digits.
        at: when it came, seconds since 1970.
        seconds: until it was answered.
        arm, version: who answered, and `model_id` in MLflow.
        inputs, outputs: fields, JSON values.
        error: why it was not answered.
    """

    request: str
    at: float
    seconds: float
    arm: str
    version: str
    model_id: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    error: str = ""

    @property
    def trace_id(self) -> str:
        """`tr-` and the request."""
        return f"tr-{self.request}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Assessed:
    """What a person said of one; see `cascade.production.ab.outcomes.Said`."""

    id: str
    at: float
    value: float | None
    corrections: Mapping[str, Any]
    comment: str
    answered: Answered


def send(uri: str, place: str, answered: Iterable[Answered]) -> None:
    """Write the traces of requests, but those that are there.

    Args:
        uri: of a store that answers.
        place: id of the experiment.
    """
    from mlflow.tracing.client import TracingClient

    client = TracingClient(uri)
    spans = [_begin(client, place, one) for one in answered if _info(client, one.trace_id) is None]
    traces.log_spans(client, place, spans)


def assess(uri: str, place: str, said: Iterable[Assessed]) -> None:
    """Write what people said, but what is there, and the traces that it is said of."""
    from mlflow.entities import AssessmentSource, AssessmentSourceType
    from mlflow.tracing.client import TracingClient

    client, person = TracingClient(uri), AssessmentSource(AssessmentSourceType.HUMAN, "customer")
    for one in said:
        with _refused_alone():
            _assess(client, place, one, person)


def _assess(client: Any, place: str, one: Assessed, person: Any) -> None:
    from mlflow.entities import Expectation, Feedback

    info = _info(client, one.answered.trace_id)
    # Also where it is there: a process that died may have left it without its span.
    span = _begin(client, place, one.answered) if info is None else _span(one.answered)
    traces.log_spans(client, place, [span])
    # Each on its own: a process that died may have sent some of them.
    known = {((there.metadata or {}).get(_SAID), there.name) for there in (info.assessments if info else None) or ()}
    shared: dict[str, Any] = {"source": person, "metadata": {_SAID: one.id}}
    made: list[Any] = [Expectation(name=name, value=value, **shared) for name, value in one.corrections.items()]
    if one.value is not None:
        made.append(Feedback(name=OUTCOME, value=one.value, rationale=one.comment or None, **shared))
    elif one.comment:
        made.append(Feedback(name="comment", value=one.comment, **shared))
    for assessment in made:
        if (one.id, assessment.name) not in known:
            client.log_assessment(one.answered.trace_id, assessment)


@contextlib.contextmanager
def _refused_alone() -> Iterator[None]:
    """What MLflow takes in no case must not keep back what comes after it."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise


def _info(client: Any, trace_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_trace_info(trace_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return None
        raise


def _begin(client: Any, place: str, one: Answered) -> Any:
    """Write the trace; returns the span that belongs to it."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    info = TraceInfo(
        trace_id=one.trace_id,
        trace_location=TraceLocation.from_experiment_id(place),
        request_time=round(one.at * 1000),
        execution_duration=round(one.seconds * 1000),
        state=TraceState.ERROR if one.error else TraceState.OK,
        request_preview=traces.preview(one.inputs),
        response_preview=traces.preview(one.outputs),
        client_request_id=one.request,
        trace_metadata={
            "mlflow.trace_schema.version": "3",
            **({"mlflow.modelId": one.model_id} if one.model_id else {}),
        },
        tags={
            "mlflow.traceName": f"{one.arm} {one.version}",
            "cascade.kind": KIND,
            "cascade.version": one.version,
            "cascade.arm": one.arm,
            "cascade.request": one.request,
        },
    )
    span = _span(one)
    traces.begin(client, info, span)
    return span


def _span(one: Answered) -> Any:
    from mlflow.entities import Span

    attributes = {
        "mlflow.traceRequestId": one.trace_id,
        "mlflow.spanType": "CHAIN",
        "mlflow.spanInputs": one.inputs,
        "mlflow.spanOutputs": one.outputs,
    }
    return Span.from_dict(
        {
            "trace_id": one.trace_id,
            "span_id": one.trace_id[-16:],
            "parent_span_id": None,
            "name": "program",
            "start_time_unix_nano": round(one.at * 1000) * 1_000_000,
            "end_time_unix_nano": round((one.at + one.seconds) * 1000) * 1_000_000,
            "status": {"code": "ERROR" if one.error else "OK", "message": one.error},
            "attributes": {name: json.dumps(value, default=str) for name, value in attributes.items()},
        }
    )
