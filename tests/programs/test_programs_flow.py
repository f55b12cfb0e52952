"""What every flow does: it names its steps, carries the caller's context, and stops when it is told to."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest

from cascade.errors import BudgetSpent, DatasetError, ModelError, ProgramError, StepFailed
from cascade.programs import (
    Call,
    Discard,
    Failed,
    Flow,
    Pipeline,
    Step,
    Together,
    gives_of,
    step_of,
    takes_of,
    watching,
)
from cascade.testing import ProgramCase

CASE = ProgramCase(lambda: None)


class Group(Flow):
    """Calls functions at once and gives what came of them."""

    def __init__(self, *functions: Callable[..., Any], timeout: float | None = None) -> None:
        super().__init__()
        self.parts = [Step(function, gives="said") for function in functions]
        self.timeout = timeout

    def steps(self, **fields: Any) -> Any:
        calls = [Call(f"part{place}", part, {}, self.timeout) for place, part in enumerate(self.parts)]
        return {"said": (yield Together(tuple(calls)))}


def both_ways(program: Any, **fields: Any) -> list[Any]:
    return [program(**fields), asyncio.run(program.acall(**fields))]


def test_steps_of_a_group_run_at_once() -> None:
    meeting = threading.Barrier(3, timeout=20)
    for found in both_ways(Group(*[lambda: meeting.wait() >= 0] * 3)):
        assert [one.said for one in found.said] == [True] * 3


def test_a_step_that_fails_in_a_group_is_data_and_the_others_are_kept() -> None:
    def broken() -> None:
        raise KeyError("x")

    for found in both_ways(Pipeline(group=Group(lambda: 1, broken))):
        good, failed = found.said
        assert good.said == 1
        assert isinstance(failed, Failed)
        assert (failed.step, failed.reason) == ("group.part1", "KeyError: 'x'")


def test_a_step_that_fails_alone_raises_its_own_error_which_names_it() -> None:
    error = ValueError("no")

    def broken(text: str) -> None:
        raise error

    program = Pipeline(outer=Pipeline(inner=Step(broken, gives="x")))
    with pytest.raises(ValueError, match="no") as caught:
        program(text="t")
    assert caught.value is error
    assert error.__notes__ == ["In step 'outer.inner'."]
    assert step_of(error) == "outer.inner"
    assert step_of(ValueError()) == ""


def test_a_step_can_be_caught_where_it_is_called() -> None:
    class Tries(Flow):
        def __init__(self) -> None:
            super().__init__()
            self.step = Step(lambda: 1 / 0, gives="x")

        def steps(self, **fields: Any) -> Any:
            try:
                return (yield Call("step", self.step, {}))
            except ZeroDivisionError as error:
                return {"x": 0, "why": step_of(error)}

    assert [dict(one) for one in both_ways(Tries())] == [{"x": 0, "why": "step"}] * 2


def test_a_late_step_failed_and_calls_no_further_step() -> None:
    asked, go_on, over = [], threading.Event(), threading.Event()

    class Slow(Flow):
        def __init__(self) -> None:
            super().__init__()
            self.first = Step(lambda: go_on.wait(20), gives="x")
            self.second = Step(lambda: asked.append(1) or 1, gives="y")

        def steps(self, **fields: Any) -> Any:
            try:
                yield Call("first", self.first, {})
                return (yield Call("second", self.second, {}))
            finally:
                over.set()

    class Outer(Group):
        def __init__(self) -> None:
            super().__init__(lambda: 1, timeout=0.05)
            self.parts.append(Slow())

    for run in (Outer(), lambda: asyncio.run(Outer().acall())):
        go_on.clear(), over.clear()
        said = run().said
        assert said[0].said == 1
        assert said[1].reason == "TimeoutError: Step 'part1' took over 0.05 s."
        go_on.set()
        assert over.wait(20)
    assert asked == []


def test_one_that_hangs_holds_up_no_other_and_no_loop() -> None:
    """`asyncio.to_thread` would have few threads, and wait for all of them at the end."""
    go_on = threading.Event()
    program = Group(*[lambda: go_on.wait(20)] * 40, lambda: 1, timeout=1.0)
    began = time.monotonic()
    said = asyncio.run(program.acall()).said
    assert time.monotonic() - began < 10
    assert [one.reason.partition(":")[0] for one in said[:-1]] == ["TimeoutError"] * 40
    assert said[-1].said == 1
    go_on.set()


@pytest.mark.parametrize("error", [DatasetError("no corpus"), ModelError("no weights")])
def test_an_error_of_cascade_itself_is_no_data(error: Exception) -> None:
    def broken() -> None:
        raise error

    group = Group(lambda: 1, broken)
    for run in (group, lambda: asyncio.run(group.acall())):
        with pytest.raises(type(error)) as caught:
            run()
        assert step_of(caught.value) == "part1"


def test_an_order_to_stop_is_no_data_and_waits_for_what_is_in_flight_only() -> None:
    stopped, seen = threading.Event(), list[str]()

    def spent() -> None:
        stopped.set()
        raise BudgetSpent("calls")

    def first() -> str:
        stopped.wait(20)
        time.sleep(0.5)
        seen.append("first")
        return "x"

    other = Pipeline(first=Step(first, gives="x"), second=Step(lambda x: seen.append("second"), gives="y"))
    program = Group(spent)
    program.parts.append(other)
    with pytest.raises(BudgetSpent):
        program()
    with pytest.raises(BudgetSpent):
        asyncio.run(program.acall())
    assert seen == ["first", "first"]


def test_context_reaches_every_step() -> None:
    def seen() -> Any:
        return dspy.settings.get("of_the_caller")

    with dspy.context(of_the_caller="here"):
        for found in both_ways(Group(seen, seen)):
            assert [one.said for one in found.said] == ["here", "here"]


def test_a_step_s_changes_to_the_context_stay_with_it() -> None:
    class Sets(dspy.Module):
        def forward(self) -> Any:
            before = dspy.settings.get("mark")
            with dspy.context(mark=1):
                return dspy.Prediction(before=before)

    program = Pipeline(a=Sets(), b=Sets())
    assert [one.before for one in both_ways(program)] == [None, None]


class Twice(Flow):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def steps(self, **fields: Any) -> Any:
        first, second = yield Together((Call("a", self.ask, fields), Call("b", self.ask, {"question": "other"})))
        yield Discard((first,))
        return second


def test_what_was_discarded_teaches_nothing() -> None:
    with CASE.lm():
        with dspy.context(trace=[]):
            Twice()(question="q")
            assert [inputs for _, inputs, _ in dspy.settings.trace] == [{"question": "other"}]
        with dspy.context(trace=None):
            Twice()(question="q")
            assert dspy.settings.trace is None
        with dspy.context(trace=[], max_trace_size=1):
            Pipeline(a=dspy.Predict("question -> x"), b=dspy.Predict("question -> y"))(question="q")
            assert [list(said.keys()) for *_, said in dspy.settings.trace] == [["y"]]


def test_a_flow_that_fails_leaves_the_trace_up_to_there() -> None:
    def broken(x: str) -> None:
        raise LookupError

    with CASE.lm(), dspy.context(trace=[]):
        with pytest.raises(LookupError):
            Pipeline(a=dspy.Predict("question -> x"), b=Step(broken, gives="y"))(question="q")
        assert len(dspy.settings.trace) == 1


def test_watchers_see_each_step_by_its_path_with_its_outcome() -> None:
    seen: list[Any] = []

    @contextmanager
    def watch(visit: Any) -> Iterator[None]:
        yield
        seen.append((visit.step, isinstance(visit.outcome, Failed), dict(visit.call.fields)))

    def broken(n: int) -> None:
        raise LookupError

    program = Pipeline(a=Step(lambda text: 1, gives="n"), group=Pipeline(b=Step(broken, gives="x")))
    with watching(watch), pytest.raises(LookupError):
        program(text="t")
    with watching(watch):
        program.without("group")(text="t")
    assert seen == [("a", False, {"text": "t"}), ("group.b", True, {"n": 1}), ("group", True, {"n": 1}),
                    ("a", False, {"text": "t"})]  # fmt: skip


def test_watchers_see_the_steps_of_dspy_s_own_threads_and_of_awaited_ones() -> None:
    seen: list[str] = []

    @contextmanager
    def watch(visit: Any) -> Iterator[None]:
        yield
        seen.append(visit.step)

    program = Group(lambda: 1, lambda: 2)
    with watching(watch):
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(program, {})] * 2)
        asyncio.run(program.acall())
    assert sorted(seen) == ["part0"] * 3 + ["part1"] * 3


def test_a_group_of_none_is_answered() -> None:
    assert Group()().said == ()


def test_usage_of_all_branches_is_counted() -> None:
    with CASE.lm(), dspy.context(track_usage=True):
        found = Twice()(question="q")
    assert found.get_lm_usage()["scripted/base"]["completion_tokens"] > 0


WRONG = [
    (lambda: 3, None, "Step .* returned int where a dict was wanted|function <lambda> returned int where a dict"),
    (lambda: (1, 2, 3), ("a", "b"), "returned tuple where a tuple of a, b was wanted"),
]


@pytest.mark.parametrize(("function", "gives", "said"), WRONG)
def test_a_function_that_returns_no_fields_is_told(function: Any, gives: Any, said: str) -> None:
    with pytest.raises(StepFailed, match=said):
        Step(function, gives)()


def test_a_function_may_be_awaitable_or_return_several() -> None:
    async def late(text: str) -> tuple[str, int]:
        await asyncio.sleep(0)
        return text, len(text)

    async def inside() -> Any:
        return Step(late, gives=("text", "n"))(text="ab")

    for found in [*both_ways(Step(late, gives=("text", "n")), text="ab"), asyncio.run(inside())]:
        assert dict(found) == {"text": "ab", "n": 2}
    assert dict(Step(lambda: {"a": 1})()) == {"a": 1}


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(ProgramError, match="3 is no function and no module"):
        Step(3)  # type: ignore[arg-type]


class Typed(dspy.Module):
    def forward(self, question: str, k: int = 3) -> Any:
        return dspy.Prediction(answer=question * k)


class Anything(dspy.Module):
    def forward(self, **fields: Any) -> Any:
        return dspy.Prediction(**fields)


def look(query: str) -> str:
    """Look it up."""
    return query


PORTS = [
    (dspy.Predict("question, n: int -> answer, k: bool"), {"question": True, "n": True}, ["answer", "k"]),
    (dspy.ChainOfThought("question -> answer"), {"question": True}, ["reasoning", "answer"]),
    (dspy.ReAct("question -> answer", tools=[look]), {"question": True}, ["trajectory", "reasoning", "answer"]),
    (dspy.Predict("question, more: Optional[str] -> answer"), {"question": True, "more": False}, ["answer"]),
    (Typed(), {"question": True, "k": False}, None),
    (Anything(), None, None),
    (Step(look, gives="found"), {"query": True}, ["found"]),
    (Step(lambda **any: any), None, None),
    (Step(max), None, None),
]


@pytest.mark.parametrize(("module", "takes", "gives"), PORTS)
def test_what_a_module_takes_and_gives_is_found(module: Any, takes: Any, gives: Any) -> None:
    found, given = takes_of(module), gives_of(module)
    assert (None if found is None else {name: port.sure for name, port in found.items()}) == takes
    assert (None if given is None else list(given)) == gives


def test_types_are_told_where_signatures_have_them() -> None:
    module = dspy.Predict("question, n: int -> answer: list[str]")
    assert (takes_of(module) or {})["n"].type is int
    assert (gives_of(module) or {})["answer"].type == list[str]
