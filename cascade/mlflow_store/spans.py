"""A trace of a program in MLflow, with spans nested as the program is.

Invariant: what is sent was shortened, and keys taken out of it, when it was recorded (`cascade.tracing`); a trace's id
is the hash of its content, so that sending it again makes no second one.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cascade.mlflow_store.links import trace_link
from cascade.mlflow_store.store import connect, experiment_id, reaching
from cascade.programs.recording import Span
from cascade.tracing import nested

_KINDS = {"lm": "CHAT_MODEL", "tool": "TOOL", "predictor": "LLM", "module": "CHAIN"}
_NEXT = "What was asked is in the ledger: do it again once MLflow answers."


def show(uri: str, experiment: str, spans: Sequence[Span], name: str) -> str:
    """Send a trace of every outermost span, and return the link to the first.

    Args:
        uri: of the store.
        experiment: its name in MLflow; it is created where it is not there.
        spans: of `cascade.tracing.Trace`.
        name: shown as the trace's, such as a row's id.

    Raises:
        TrackingError: MLflow could not be written.
    """
    with reaching(uri, "could not be written", _NEXT):
        from mlflow.tracing.client import TracingClient

        place = experiment_id(connect(uri), uri, experiment)
        client = TracingClient(uri)
        sent = [_send(client, place, root.span, _below(root), name) for root in nested(spans)]
    return trace_link(uri, place, sent[0]) if sent else ""


def _below(node: Any) -> list[Span]:
    return [node.span, *(span for inner in node.inside for span in _below(inner))]


def _send(client: Any, place: str, root: Span, spans: Sequence[Span], name: str) -> str:
    from cascade.mlflow_store.traces import begin, log_spans

    text = json.dumps([span.to_json() for span in spans], sort_keys=True, default=str)
    trace_id = f"tr-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    if client.search_traces(locations=[place], filter_string=f"trace.client_request_id = '{trace_id}'", max_results=1):
        return trace_id
    made = [_span(trace_id, span) for span in spans]
    begin(client, _info(place, trace_id, root, name), made)
    log_spans(client, place, made)
    return trace_id


def _info(place: str, trace_id: str, root: Span, name: str) -> Any:
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    return TraceInfo(
        trace_id=trace_id,
        trace_location=TraceLocation.from_experiment_id(place),
        request_time=round(root.began * 1000),
        execution_duration=round((root.seconds or 0.0) * 1000),
        state=TraceState.ERROR if root.error else TraceState.OK,
        request_preview=json.dumps(root.inputs, ensure_ascii=False, default=str)[:1000],
        response_preview=json.dumps(root.outputs, ensure_ascii=False, default=str)[:1000],
        client_request_id=trace_id,
        trace_metadata={"mlflow.trace_schema.version": "3"},
        tags={"mlflow.traceName": name[:250], "cascade.kind": "trace"},
    )


def _span(trace_id: str, span: Span) -> Any:
    from mlflow.entities import Span as Made

    tokens = dict(zip(("input_tokens", "output_tokens"), span.tokens, strict=True)) if span.tokens else {}
    attributes = {
        "mlflow.traceRequestId": trace_id,
        "mlflow.spanType": _KINDS[span.kind],
        "mlflow.spanInputs": span.inputs,
        "mlflow.spanOutputs": span.outputs,
        **({"mlflow.chat.tokenUsage": {**tokens, "total_tokens": sum(tokens.values())}} if tokens else {}),
        **({"step": span.step} if span.step else {}),
        **({"predictor": span.path} if span.path else {}),
        **({"version": span.version} if span.version else {}),
    }
    began = round(span.began * 1e9)
    return Made.from_dict(
        {
            "trace_id": trace_id,
            "span_id": span.id[:16],
            "parent_span_id": span.parent[:16] or None,
            "name": span.name,
            "start_time_unix_nano": began,
            "end_time_unix_nano": began + round((span.seconds or 0.0) * 1e9),
            "status": {"code": "ERROR" if span.error else "OK", "message": span.error},
            "attributes": {key: json.dumps(value, default=str) for key, value in attributes.items()},
        }
    )
