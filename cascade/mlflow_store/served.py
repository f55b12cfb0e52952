"""Traces of requests that were served, with what people said of the answers.

A served trace has the tag `cascade.kind` = `served`, the version and the request in `cascade.version` and
`cascade.request`, the input fields as inputs of its root span and the output fields as its outputs. Assessments by
people (source `HUMAN`): feedback `outcome`, from 0 to 1, and expectations named after output fields, which correct
them.

Invariant: what no person said is not read: neither a judge's scores nor code's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.mlflow_store.store import experiment_id

KIND = "served"
OUTCOME = "outcome"
_PAGE = 500


@dataclass(frozen=True)
class Reviewed:
    """A request that a person looked at.

    Args:
        id: of the trace.
        at: when it was asked, in ms since 1970.
        outcomes: what people said it was worth, from 0 to 1.
        corrections: right values by output field.
    """

    id: str
    at: int
    version: str
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    outcomes: tuple[float, ...]
    corrections: Mapping[str, Any]


def reviewed(client: Any, uri: str, experiment: str) -> list[Reviewed]:
    """All served requests that a person assessed, oldest first.

    Args:
        client: an `MlflowClient`.
        experiment: its name in MLflow.
    """
    from mlflow.tracing.client import TracingClient

    place = experiment_id(client, uri, experiment)
    found = (_read(trace) for trace in _served(TracingClient(uri), place))
    return sorted((one for one in found if one.outcomes or one.corrections), key=lambda one: (one.at, one.id))


def _served(client: Any, place: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_traces(
            locations=[place], filter_string=f"tags.`cascade.kind` = '{KIND}'", max_results=_PAGE, page_token=token
        )
        yield from page
        if not (token := page.token):
            return


def _read(trace: Any) -> Reviewed:
    root = next((span for span in trace.data.spans if span.parent_id is None), None)
    people = [one for one in trace.info.assessments or () if one.source.source_type == "HUMAN"]
    people = [one for one in people if getattr(one, "valid", True) is not False]  # superseded by a later one
    outcomes = (_outcome(one.feedback.value) for one in people if one.feedback is not None and one.name == OUTCOME)
    return Reviewed(
        id=trace.info.trace_id,
        at=int(trace.info.request_time),
        version=trace.info.tags.get("cascade.version", ""),
        inputs=_fields(root.inputs if root else None),
        outputs=_fields(root.outputs if root else None),
        outcomes=tuple(value for value in outcomes if value is not None),
        corrections={one.name: one.expectation.value for one in people if one.expectation is not None},
    )


def _outcome(value: Any) -> float | None:
    """From 0 to 1; None for what is neither a truth nor such a number."""
    if isinstance(value, bool | int | float) and 0 <= value <= 1:
        return float(value)
    return None


def _fields(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
