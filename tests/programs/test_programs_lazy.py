"""A lazy step: nothing runs until a field is read; then once."""

import asyncio
import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy.utils.usage_tracker import track_usage
from step_asking import asking, loud, model

from cascade.errors import BudgetSpent, StepFailed
from cascade.programs import Call, Flow, Lazy, Parallel, Pipeline, Step, Steps
from cascade.programs.lazy import computed_at_once
from cascade.testing import ScriptedEngine

READ: dict[str, Any] = {
    "a field": lambda said: said.answer == "HI",
    "an item": lambda said: said["answer"] == "HI",
    "toDict": lambda said: said.toDict() == {"answer": "HI"},
    "a prediction around it": lambda said: dspy.Prediction(inner=said).toDict() == {"inner": {"answer": "HI"}},
    "a prediction of it": lambda said: dspy.Prediction(**said).answer == "HI",
    "a base": lambda said: dspy.Prediction(said).answer == "HI",
    "==": lambda said: said == dspy.Prediction(answer="HI"),
    "keys": lambda said: said.keys() == ["answer"],
    "in": lambda said: "answer" in said and "other" not in said,
    "len": lambda said: len(said) == 1,
    "get": lambda said: said.get("other", 1) == 1,
    "copy": lambda said: said.copy(more=1).toDict() == {"answer": "HI", "more": 1},
    "a deep copy": lambda said: type(copy.deepcopy(said)) is dspy.Prediction,
    "a pickle": lambda said: pickle.loads(pickle.dumps(said)).answer == "HI",
    "json": lambda said: json.dumps(said.toDict()) == '{"answer": "HI"}',
    "completions": lambda said: said.completions.answer == ["HI"],
    "repr": lambda said: "HI" in repr(said),
    "a metric": lambda said: dspy.evaluate.answer_exact_match(dspy.Example(answer="HI"), said),
    "a field that is not there": lambda said: not hasattr(said, "nothing"),
}


@pytest.mark.parametrize("how", READ)
def test_it_runs_once_when_it_is_read(how: str) -> None:
    with asking() as engine:
        said = Lazy(dspy.Predict("question -> answer"))(question="hi")
        assert isinstance(said, dspy.Prediction)
        assert said.pending
        assert engine.requests == []
        for _ in range(2):
            assert READ[how](said)
        assert len(engine.requests) == 1
        assert not said.pending


def test_it_asks_the_model_of_where_it_was_called_and_writes_into_that_trace() -> None:
    step = Lazy(dspy.Predict("question -> answer"))
    with asking(), dspy.context(lm=model(ScriptedEngine(lambda *_: {"answer": "there"}))):
        said, there = step(question="hi"), dspy.settings.trace
    with asking():
        assert said.answer == "there"
        assert dspy.settings.trace == []
    assert [(who is step.module, out.answer) for who, _, out in there] == [(True, "there")]


class ReadsOne(Flow):
    """Asks both and reads one; the other is for who wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.brief, self.full = dspy.Predict("question -> answer"), Lazy(dspy.Predict("question -> answer"))

    def steps(self, **fields: Any) -> Steps:
        brief = yield Call("brief", self.brief, fields)
        full = yield Call("full", self.full, fields)
        return {"answer": brief.answer, "full": full}


def test_a_flow_hands_it_on_unread_and_its_trace_finds_home() -> None:
    with asking() as engine:
        program = ReadsOne()
        said = program(question="hi")
        assert len(engine.requests) == 1
        assert [who for who, *_ in dspy.settings.trace] == [program.brief]
        assert said.full.answer == "HI"
        assert [who for who, *_ in dspy.settings.trace] == [program.brief, program.full.module]


def test_it_goes_with_parallel() -> None:
    with asking() as engine:
        said = Parallel(a=Lazy(dspy.Predict("question -> a")), b=dspy.Predict("question -> b"))(question="hi")
        assert (said.b, said.a) == ("HI", "HI")
        run = dspy.Parallel(num_threads=2, disable_progress_bar=True)
        before = len(engine.requests)
        lazies = run([(Lazy(dspy.Predict("question -> a")), {"question": str(n)}) for n in range(4)])
        assert len(engine.requests) == before
        assert [one.a for one in lazies] == ["0", "1", "2", "3"]


def test_many_threads_read_one_computation() -> None:
    calls: list[int] = []
    begun = threading.Barrier(8)

    def slow(n: int) -> Any:
        calls.append(n)
        return {"m": n}

    said = Lazy(Step(slow))(n=1)

    def read() -> int:
        begun.wait(10)
        return int(said.m)

    with ThreadPoolExecutor(8) as pool:
        assert [job.result(10) for job in [pool.submit(read) for _ in range(8)]] == [1] * 8
    assert calls == [1]


def test_it_is_awaited_without_blocking() -> None:
    async def run() -> Any:
        opened = asyncio.Event()

        async def slow(n: int) -> Any:
            await opened.wait()
            return {"m": n}

        said = await Lazy(Step(slow)).acall(n=1)
        assert said.pending
        waits = [asyncio.ensure_future(said._acomputed()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(StepFailed, match="Await it first"):
            said.m  # noqa: B018
        opened.set()
        return [(await one).m for one in waits], said.m, (await said).m

    assert asyncio.run(run()) == ([1, 1, 1], 1, 1)


def test_awaited_it_uses_the_context_of_the_call() -> None:
    async def run() -> Any:
        with asking(lambda _: {"answer": "there"}):
            said, there = await Lazy(dspy.Predict("question -> answer")).acall(question="hi"), dspy.settings.trace
        return (await said).answer, len(there)

    assert asyncio.run(run()) == ("there", 1)


@pytest.mark.parametrize("error", [ValueError("broken"), AttributeError("no such attribute")])
def test_an_error_is_raised_at_every_reading(error: Exception) -> None:
    calls: list[int] = []

    def fails(n: int) -> Any:
        calls.append(n)
        raise error

    said = Lazy(Step(fails))(n=1)
    for _ in range(2):
        with pytest.raises((ValueError, StepFailed), match=str(error)):
            said.m  # noqa: B018
    assert calls == [1]


def test_an_order_to_stop_is_raised_and_the_next_reading_asks_again() -> None:
    stops = [BudgetSpent("a cap")]

    def once(n: int) -> Any:
        if stops:
            raise stops.pop()
        return {"m": n}

    said = Lazy(Step(once))(n=1)
    with pytest.raises(BudgetSpent):
        said.m  # noqa: B018
    assert said.m == 1


def test_what_reads_itself_is_an_error_and_no_deadlock() -> None:
    held: list[Any] = []
    said = Lazy(Step(lambda n: {"m": held[0].m}))(n=1)
    held.append(said)
    with pytest.raises(StepFailed, match="read by what computes it"):
        said.m  # noqa: B018


def test_usage_is_counted_where_it_was_called() -> None:
    with asking(loud, track_usage=False):
        with track_usage() as tracker:
            said = Lazy(dspy.Predict("question -> answer"))(question="hi")
            assert not tracker.usage_data
            assert said.answer == "HI"
        assert tracker.usage_data


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_program_that_is_lazy_runs_after_its_group_is_over(timeout: float | None) -> None:
    """What ended is not given up: its steps may still be asked."""
    lazy = Lazy(Pipeline(first=Step(lambda text: text.upper(), gives="loud")))
    program = Parallel(one=lazy, two=Step(lambda text: 2 * text, gives="n"), timeout=timeout)
    for said in (program(text="abc"), asyncio.run(program.acall(text="abc"))):
        assert (said.loud, said.n) == ("ABC", "abcabc")


def test_where_a_trace_is_taken_before_the_answer_is_read_it_is_computed_at_once() -> None:
    """As in fine-tuning, which learns from the trace of a run; steps inside stay unread."""
    whole, part = Lazy(dspy.Predict("question -> answer")), ReadsOne()
    with asking(), computed_at_once(whole, whole, part):
        assert not whole(question="hi").pending
        assert [who for who, *_ in dspy.settings.trace] == [whole.module]
        assert part(question="hi").full.pending
    with asking() as engine:
        assert whole(question="hi").pending
    assert engine.requests == []
