"""A cached step: least recently used, one computation for equal inputs, never a stale answer."""

import asyncio
import copy
import json
import pickle
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from step_asking import asking, model

from cascade.errors import BudgetSpent, ProgramError
from cascade.programs import Cached, Step
from cascade.programs.cache import Cache, Limits, weight
from cascade.programs.keys import Unkeyed, key_of
from cascade.testing import ScriptedEngine


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def cached(**limits: Any) -> Cached:
    return Cached(dspy.Predict("question -> answer"), **limits)


def test_a_kept_answer_costs_no_call_and_its_trace_comes_with_it() -> None:
    step = cached()
    with asking() as engine:
        first, second = step(question="hi"), step(question="hi")
        trace = dspy.settings.trace
    assert (first.answer, second.answer, len(engine.requests)) == ("HI", "HI", 1)
    assert [(who is step.module, inputs, said.answer) for who, inputs, said in trace] == [
        (True, {"question": "hi"}, "HI")
    ] * 2
    assert (step.stats.hits, step.stats.misses, step.stats.hit_rate) == (1, 1, 0.5)


def test_who_changes_an_answer_changes_no_other() -> None:
    step = cached()
    with asking():
        step(question="hi").answer = "spoilt"
        second = step(question="hi")
        second["answer"] = "spoilt too"
        assert step(question="hi").answer == "HI"
        assert dspy.settings.trace[-1][2].answer == "HI"


@pytest.mark.parametrize(
    "change",
    [
        lambda step: setattr(step.module, "demos", [dspy.Example(question="a", answer="b")]),
        lambda step: setattr(step.module, "signature", step.module.signature.with_instructions("Other.")),
        lambda step: step.module.update_config(max_tokens=7),
        lambda step: step.set_lm(dspy.settings.lm.copy(model="scripted/trained-1")),
        lambda step: step.set_lm(dspy.settings.lm.copy(rollout_id=1, temperature=1.0)),
        lambda step: step.set_lm(model(ScriptedEngine(lambda *_: {"answer": "of other weights"}))),
    ],
    ids=["demos", "instructions", "options", "model", "rollout", "weights of the same name"],
)
def test_a_changed_step_is_asked_again(change: Any) -> None:
    step = cached()
    with asking():
        step(question="hi")
        change(step)
        step(question="hi")
    assert (step.stats.hits, step.stats.misses) == (0, 2)


def test_a_compiled_part_is_a_part() -> None:
    inner = dspy.ChainOfThought("question -> answer")
    step = Cached(inner)
    inner._compiled = True
    with asking():
        step(question="hi")
        inner.predict.demos = [dspy.Example(question="a", answer="b")]
        step(question="hi")
        assert [who is inner.predict for who, *_ in dspy.settings.trace] == [True, True]
    assert step.stats.misses == 2


@pytest.mark.parametrize("context", [{"adapter": dspy.JSONAdapter()}, {"cascade_rollout": 1}])
def test_what_the_context_adds_is_asked_again(context: dict[str, Any]) -> None:
    step = cached()
    with asking(lambda _: '{"answer": "x"}\n[[ ## answer ## ]]\nx\n[[ ## completed ## ]]'):
        step(question="hi")
        with dspy.context(**context):
            step(question="hi")
        with dspy.context(adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):  # set up as the first
            step(question="hi")
    assert (step.stats.hits, step.stats.misses) == (1, 2)


def test_copies_are_empty_and_the_state_holds_nothing_of_it() -> None:
    step = cached(size=3)
    with asking():
        step(question="hi")
    for twin in (step.deepcopy(), copy.deepcopy(step), step.reset_copy(), pickle.loads(pickle.dumps(step.cache))):
        assert twin.stats.size == 0
    assert step.stats.size == 1
    assert json.dumps(step.dump_state()) == json.dumps(
        {"module": Cached(dspy.Predict("question -> answer")).module.dump_state()}
    )


KEYS = st.integers(0, 6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.one_of(st.none(), st.integers(3, 12)), st.lists(st.tuples(KEYS, st.integers(0, 3))))
def test_it_keeps_what_a_simple_model_keeps(size: int, age: int | None, calls: list[tuple[int, int]]) -> None:
    clock = Clock()
    computed: list[int] = []
    step = Cached(Step(lambda n: computed.append(n) or n, gives="m"), size=size, age=age, clock=clock)
    kept: OrderedDict[int, float] = OrderedDict()  # the simple model
    hits = expired = evicted = 0
    for n, pause in calls:
        clock.now += pause
        there = n in kept and (age is None or clock.now - kept[n] < age)
        before = len(computed)
        assert step(n=n).m == n
        assert (len(computed) == before) == there
        hits += there
        expired += n in kept and not there
        if not there:
            kept.pop(n, None)
            kept[n] = clock.now
        kept.move_to_end(n)
        while len(kept) > size:
            kept.popitem(last=False)
            evicted += 1
        assert step.stats.size == len(kept)
    assert (step.stats.hits, step.stats.expired, step.stats.evicted) == (hits, expired, evicted)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.lists(st.text(max_size=20), max_size=30))
def test_it_is_never_larger_than_it_may_be(size_bytes: int, texts: list[str]) -> None:
    cache = Cache(Limits(size_bytes=size_bytes))
    for text in texts:
        kept, flight = cache.look(text)
        if flight:
            cache.land(text, flight, text)
        assert cache.stats.size_bytes <= size_bytes
        assert cache.stats.size_bytes == sum(weight(one) for one in cache._kept)
        assert kept in (None, text)


@pytest.mark.parametrize("limits", [{"size": 0}, {"age": 0.0}, {"size_bytes": -1}])
def test_a_cache_that_keeps_nothing_is_an_error(limits: dict[str, Any]) -> None:
    with pytest.raises(ProgramError, match=r"Cached\(…, .*\) keeps nothing"):
        cached(**limits)


@settings(max_examples=200)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_equal_values_have_equal_keys(value: Any) -> None:
    assert key_of(copy.deepcopy(value)) == key_of(value)
    assert hash(key_of(value)) == hash(key_of(copy.deepcopy(value)))


class Point(BaseModel):
    x: int


class Place(BaseModel):
    x: int


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), ("1", 1), ([1], (1,)), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (Point(x=1), Place(x=1)),
     (Point(x=1), Point(x=2)), (dspy.Example(a=1), dspy.Prediction(a=1)), (None, "None")],
)  # fmt: skip
def test_different_values_have_different_keys(one: Any, other: Any) -> None:
    assert (type(one), key_of(one)) != (type(other), key_of(other))


def test_what_cannot_be_compared_is_computed_each_time() -> None:
    with pytest.raises(Unkeyed):
        key_of({"f": lambda: 1})
    step = Cached(Step(lambda f: f(), gives="n"))
    assert [step(f=lambda: 1).n, step(f=lambda: 2).n] == [1, 2]
    assert (step.stats.unkeyed, step.stats.size) == (2, 0)


class Gate:
    """A function that waits until it is let through, and counts who came in."""

    def __init__(self, outcome: Any = "done") -> None:
        self.outcome, self.entered = outcome, 0
        self.inside, self.open = threading.Event(), threading.Event()

    def __call__(self, n: int) -> Any:
        self.entered += 1
        self.inside.set()
        assert self.open.wait(10)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return {"said": self.outcome}


def at_once(step: Cached, gate: Gate, others: int) -> list[Any]:
    """Outcomes of one call that computes and `others` that came meanwhile."""

    def call() -> Any:
        try:
            return step(n=1).said
        except BaseException as error:
            return error

    with ThreadPoolExecutor(others + 1) as pool:
        first = pool.submit(copy_context().run, call)
        assert gate.inside.wait(10)
        begun = threading.Barrier(others + 1)

        def later() -> Any:
            begun.wait(10)
            return call()

        rest = [pool.submit(copy_context().run, later) for _ in range(others)]
        begun.wait(10)
        gate.open.set()
        return [job.result(10) for job in (first, *rest)]


def test_equal_inputs_at_once_are_computed_once() -> None:
    gate = Gate()
    step = Cached(Step(gate))
    assert at_once(step, gate, 7) == ["done"] * 8
    assert gate.entered == 1
    assert (step.stats.misses, step.stats.hits + step.stats.waited) == (1, 7)


def test_an_error_is_given_to_all_who_waited_and_is_not_kept() -> None:
    gate = Gate(ValueError("broken"))
    step = Cached(Step(gate))
    flight_errors = at_once(step, gate, 3)
    assert {str(error) for error in flight_errors} == {"broken"}
    gate.outcome = "done"
    assert step(n=1).said == "done"


def test_an_order_to_stop_is_for_who_was_given_it() -> None:
    stopped = BudgetSpent("a cap")
    gate = Gate(stopped)

    def once(n: int) -> Any:
        try:
            return gate(n)
        finally:
            gate.outcome = "done"

    step = Cached(Step(once))
    outcomes = at_once(step, gate, 3)
    assert outcomes[0] is stopped
    assert outcomes[1:] == ["done"] * 3
    assert step.stats.misses == 2


def test_a_step_that_asks_itself_is_not_stuck() -> None:
    step: Cached = Cached(Step(lambda n: {"m": step(n=n).m if len(seen.append(n) or seen) < 2 else n}))
    seen: list[int] = []
    assert step(n=1).m == 1


def test_it_is_awaited_once_for_equal_inputs() -> None:
    step = cached()

    async def many() -> list[Any]:
        return await asyncio.gather(*(step.acall(question="hi") for _ in range(8)))

    with asking() as engine:
        assert [said.answer for said in asyncio.run(many())] == ["HI"] * 8
        assert step(question="hi").answer == "HI"
    assert len(engine.requests) == 1
    assert step.stats.waited == 7


def test_who_is_cancelled_takes_nobody_along() -> None:
    async def run() -> Any:
        opened, inside = asyncio.Event(), asyncio.Event()

        async def slow(n: int) -> Any:
            inside.set()
            await opened.wait()
            return {"m": n}

        step = Cached(Step(slow))
        first = asyncio.create_task(step.acall(n=1))
        await inside.wait()
        waiter, patient = asyncio.create_task(step.acall(n=1)), asyncio.create_task(step.acall(n=1))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.sleep(0)
        first.cancel()
        opened.set()
        return (await patient).m, first, waiter

    said, first, waiter = asyncio.run(run())
    assert said == 1
    assert first.cancelled()
    assert waiter.cancelled()


def test_bootstrapping_sees_the_calls_of_kept_answers() -> None:
    rows = [dspy.Example(question=f"q{n % 2}", answer="x").with_inputs("question") for n in range(4)]
    with asking() as engine:
        step = cached()
        made = dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=4).compile(step, trainset=rows)
    assert len(made.module.demos) == 4
    assert len(engine.requests) == 2
