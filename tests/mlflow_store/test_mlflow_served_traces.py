"""Served requests and what was said of them, written to a real store and read again as `cascade harvest` does."""

from dataclasses import replace
from typing import Any

import pytest
from mlflow.tracing.client import TracingClient

from cascade.mlflow_store.served import reviewed
from cascade.mlflow_store.served_traces import Answered, Assessed, assess, send
from cascade.mlflow_store.store import experiment_id


def answered(number: int, **more: Any) -> Answered:
    facts: dict[str, Any] = {"inputs": {"question": "q"}, "outputs": {"answer": "a"}, **more}
    return Answered(f"{number:032x}", 1_700_000_000.0 + number, 0.25, "challenger", "3", "", **facts)


def said(number: int, value: float | None = 1.0, **more: Any) -> Assessed:
    facts: dict[str, Any] = {"corrections": {}, "comment": "", "answered": answered(number), **more}
    return Assessed(f"said-{number}", 1_700_000_100.0, value, **facts)


@pytest.fixture
def place(client: Any, uri: str) -> str:
    return experiment_id(client, uri, "qa")


def test_a_trace_says_who_answered_what(client: Any, uri: str, place: str) -> None:
    send(uri, place, [answered(1), answered(2, outputs={}, error="it failed")])
    send(uri, place, [answered(1)])  # nothing is there twice
    found = {trace.info.trace_id: trace for trace in TracingClient(uri).search_traces(locations=[place])}
    assert sorted(found) == [f"tr-{number:032x}" for number in (1, 2)]
    first = found[answered(1).trace_id]
    tags = {name: value for name, value in first.info.tags.items() if name.startswith("cascade.")}
    assert tags == {
        "cascade.kind": "served", "cascade.version": "3", "cascade.arm": "challenger", "cascade.request": f"{1:032x}",
    }  # fmt: skip
    (root,) = first.data.spans
    assert (root.inputs, root.outputs) == ({"question": "q"}, {"answer": "a"})
    assert (first.info.request_time, first.info.execution_duration) == (1_700_000_001_000, 250)
    assert str(found[answered(2).trace_id].info.state) == "ERROR"


def test_what_was_said_stands_on_the_trace_once(client: Any, uri: str, place: str) -> None:
    send(uri, place, [answered(1)])  # this one was sampled
    told = [said(1), said(2, 0.25, corrections={"answer": "b", "tags": ["x", "y"]}), said(3, None, comment="rude")]
    assess(uri, place, told)
    assess(uri, place, told)
    first, second = reviewed(client, uri, "qa")
    assert (first.outcomes, dict(first.inputs), dict(first.outputs)) == ((1.0,), {"question": "q"}, {"answer": "a"})
    assert (second.outcomes, dict(second.corrections)) == ((0.25,), {"answer": "b", "tags": ["x", "y"]})
    third = TracingClient(uri).get_trace_info(answered(3).trace_id)
    assert [(one.name, one.feedback.value) for one in third.assessments] == [("comment", "rude")]


def test_a_trace_that_lost_its_span_gets_it_back(client: Any, uri: str, place: str) -> None:
    from cascade.mlflow_store import served_traces

    served_traces._begin(TracingClient(uri), place, answered(1))
    assess(uri, place, [said(1)])
    (found,) = reviewed(client, uri, "qa")
    assert dict(found.inputs) == {"question": "q"}


def test_what_was_sent_in_part_is_completed(client: Any, uri: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died between the correction and the outcome."""
    told, write = said(1, 0.0, corrections={"answer": "b"}), TracingClient.log_assessment

    def die(self: Any, trace: str, assessment: Any) -> Any:
        if assessment.name == "outcome":
            raise KeyboardInterrupt
        return write(self, trace, assessment)

    with monkeypatch.context() as context:
        context.setattr(TracingClient, "log_assessment", die)
        with pytest.raises(KeyboardInterrupt):
            assess(uri, place, [told])
    assess(uri, place, [told])
    assess(uri, place, [told])
    (found,) = reviewed(client, uri, "qa")
    assert (found.outcomes, dict(found.corrections)) == ((0.0,), {"answer": "b"})


def test_people_who_say_different_things_are_both_heard(client: Any, uri: str, place: str) -> None:
    assess(uri, place, [said(1, 1.0), replace(said(1, 0.0), id="another")])
    (found,) = reviewed(client, uri, "qa")
    assert sorted(found.outcomes) == [0.0, 1.0]
