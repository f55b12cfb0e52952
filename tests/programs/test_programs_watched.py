"""Profiles and traces: what a program does, with nothing built into it."""

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy
import pytest
from rich.console import Console
from step_asking import asking

from cascade.errors import CascadeError, ProgramError
from cascade.programs import Cached, Contract, Guarded, Lazy, Parallel, Pipeline, Step, profile
from cascade.tracing import nested, trace

Predict = dspy.Predict


def program() -> Pipeline:
    return Pipeline(
        "question -> answer",
        fan=Parallel(web=Predict("question -> found"), own=dspy.ChainOfThought("question -> known")),
        answer=Predict("question, found, known -> answer"),
    )


def test_a_row_for_each_step_and_each_predictor() -> None:
    with asking(), profile(ours := program()) as p:
        for n in range(3):
            ours(question=f"hello {n}")
    rows = {row.name: row for row in p.rows()}
    assert list(rows) == ["program", "fan", "fan.web", "fan.own", "answer"]
    assert {row.calls for row in rows.values()} == {3}
    assert [row.lm_calls for row in rows.values()] == [9, 6, 3, 3, 3]
    assert (rows["program"].share, rows["fan.web"].chars_in) == (1.0, 3 * len("hello 0"))
    assert rows["program"].input_tokens == sum(rows[name].input_tokens or 0 for name in ("fan", "answer")) > 0
    assert all(0 <= row.own_seconds <= row.seconds and row.p50 <= row.p95 for row in rows.values())
    assert [row.name for row in p.rows("predictor")][1:] == ["fan.web", "fan.own.predict", "answer"]
    frame = p.table()
    assert list(frame["name"]) == list(rows)
    assert frame["lm_calls"].sum() == 24
    assert json.loads(json.dumps(p.to_json()))["by_step"][0]["name"] == "program"
    with pytest.raises(ProgramError, match="by 'model'"):
        p.rows("model")  # type: ignore[arg-type]


def test_a_program_that_is_no_flow_has_rows_too() -> None:
    class Plain(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.ChainOfThought("question -> answer")

        def forward(self, question: str) -> Any:
            return self.ask(question=question)

    with asking(), profile(ours := Plain()) as p:
        ours(question="hi")
    assert [row.name for row in p.rows()] == ["program", "ask", "ask.predict"]


def test_threads_and_awaited_calls_are_counted_each_once() -> None:
    ours, begun = program(), threading.Barrier(8)

    def ask(n: int) -> None:
        begun.wait(10)
        ours(question=str(n))

    async def many() -> None:
        await asyncio.gather(*(ours.acall(question=str(n)) for n in range(8)))

    with asking() as engine, profile(ours) as p:
        with ThreadPoolExecutor(8) as pool:
            for job in [pool.submit(copy_context().run, ask, n) for n in range(8)]:
                job.result(10)
        asyncio.run(many())
    rows = p.rows()
    assert {row.calls for row in rows} == {16}
    assert rows[0].lm_calls == len(engine.requests) == 48


def test_only_the_program_is_watched_and_who_watched_before_still_hears() -> None:
    other, heard = Predict("question -> answer"), []

    class Before(dspy.utils.callback.BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append(instance)

    with asking(callbacks=[Before()]), dspy.track_usage() as usage, profile(ours := program()) as p:
        other(question="hi")
        ours(question="hi")
    assert p.rows()[0].lm_calls == 3
    assert heard[0] is other
    assert usage.get_total_tokens()


def test_a_lazy_step_is_not_read_by_who_watches() -> None:
    ours = Lazy(Predict("question -> answer"))
    with asking() as engine, trace(ours) as t:
        said = ours(question="hi")
        assert (engine.requests, t.spans[0].outputs) == ([], "not computed yet")
        assert said.answer == "HI"
    assert [(span.kind, span.parent == t.spans[0].id) for span in t.spans[:2]] == [
        ("module", False),
        ("predictor", True),
    ]


def test_spans_are_nested_as_the_program_is_and_say_versions_and_errors() -> None:
    def breaks(question: str) -> Any:
        raise ValueError("no\nnetwork")

    ours = Pipeline(
        look=Guarded(Step(breaks), fallback={"seen": "nothing"}),
        answer=Contract(Cached(Predict("seen -> answer")), version="7"),
    )
    with asking(), trace(ours) as t:
        ours(question="hi")
        ours(question="ho")
    first, second = nested(t.spans)
    shape = [(one.span.name, [inner.span.name for inner in one.inside]) for one in first.inside]
    assert shape == [("look", ["module", "fallback_Exception"]), ("answer", ["module"])]
    assert first.inside[0].inside[0].span.error == "ValueError: no network"
    assert (first.inside[1].span.version, first.span.error) == ("7", "")
    cached = [one.inside[1].inside[0] for one in (first, second)]
    assert [len(one.inside) for one in cached] == [1, 0]  # the second answer was kept


def test_keys_are_taken_out_and_texts_shortened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_API_KEY", "very-secret-0123456789")
    ours = Pipeline(answer=Predict("question -> answer"))
    with asking(), trace(ours, longest=50) as t:
        ours(question="my key is very-secret-0123456789 " + "x" * 500)
    t.write(tmp_path / "trace.jsonl")
    text = (tmp_path / "trace.jsonl").read_text("utf-8")
    assert "very-secret" not in text
    assert "***" in text
    spans = [json.loads(line) for line in text.splitlines()]
    assert len(spans) == 3
    key = "very-secret-0123456789"

    def refused(question: str) -> Any:
        raise ValueError(f"401 for {key}")

    ours = Guarded(Parallel(a=refused, b=Step(lambda: 1, gives="n")), skip=True)
    with asking(), trace(ours) as t:
        said = ours(question="hi")
    assert key not in json.dumps([t.to_json(), said.toDict()])
    assert said.failed == {"module.a": "ValueError: 401 for ***"}
    assert len(spans[0]["inputs"]["question"]) == 50
    with pytest.raises(CascadeError, match="cannot be written"):
        t.write(tmp_path / "no" / "folder")


def test_the_tree_in_a_terminal() -> None:
    ours = Pipeline(look=Step(lambda question: {"seen": [question] * 50}), answer=Predict("seen: list[str] -> answer"))
    with asking(lambda _: {"answer": "fine"}), trace(ours) as t:
        ours(question="hi")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(t.tree())
    lines = console.export_text().splitlines()
    assert [line.lstrip(" │├└─").split("  ")[0] for line in lines] == ["Pipeline", "look", "answer", "scripted/base"]
    assert "answer=fine" in lines[2]
    assert "tokens" in lines[3]
    assert max(map(len, lines)) < 200


def test_what_fails_is_raised_and_recorded() -> None:
    ours = Pipeline(one=Step(lambda question: 1 / 0, gives="n"))
    with trace(ours) as t, pytest.raises(ZeroDivisionError):
        ours(question="hi")
    assert [span.error for span in t.spans] == ["ZeroDivisionError: division by zero"] * 2
    assert [row.errors for row in t.profile.rows()] == [1, 1]
