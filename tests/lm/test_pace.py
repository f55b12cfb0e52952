"""How many calls an endpoint is sent at once."""

import asyncio
import copy
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy
import pytest

from cascade.errors import Interrupted
from cascade.experiment import Budget
from cascade.lm.call import RoleCallback
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.lm.pace import ROUNDS, Pace, Window
from cascade.lm.remote import LONGEST, RemoteLM, rest
from cascade.testing import Reply, ScriptedEndpoint


@pytest.mark.parametrize(
    ("before", "inside", "after"),
    [
        (Window(), 8, Window(4)),
        (Window(), 1, Window(1)),
        (Window(4, answered=9), 4, Window(2)),
        (Window(4), 9, Window(2)),  # more inside than the limit: those that were sent before it was known
        (Window(4), 2, Window(1)),
        (Window(1), 1, Window(1)),
    ],
)
def test_too_much_halves_what_was_sent(before: Window, inside: int, after: Window) -> None:
    assert before.narrowed(inside) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Window(), Window()),
        (Window(2), Window(2, answered=1)),
        (Window(2, answered=2 * ROUNDS - 2), Window(2, answered=2 * ROUNDS - 1)),
        (Window(2, answered=2 * ROUNDS - 1), Window(3)),
        (Window(1, answered=ROUNDS - 1), Window(2)),
    ],
)
def test_enough_answers_let_one_more_in(before: Window, after: Window) -> None:
    assert before.widened() == after


@pytest.mark.parametrize(
    ("window", "inside", "admits"),
    [(Window(), 10_000, True), (Window(2), 1, True), (Window(2), 2, False), (Window(1), 0, True)],
)
def test_a_window_admits_what_is_below_its_limit(window: Window, inside: int, admits: bool) -> None:
    assert window.admits(inside) is admits


@pytest.mark.parametrize(
    ("statuses", "limit", "refusals"),
    [
        ([200] * 8, None, 0),
        ([429] * 8, 4, 8),  # one burst halves once
        ([500] * 8, None, 0),
        ([None] * 8, None, 0),
        ([503, *[200] * 7], 4, 1),
    ],
)
def test_a_burst_counts_once(statuses: list[int | None], limit: int | None, refusals: int) -> None:
    pace = Pace()
    entered = [pace.enter(never) for _ in statuses]
    for ticket, status in zip(entered, statuses, strict=True):
        pace.leave(ticket, status)
    assert (pace.window.limit, pace.refusals, pace.inside) == (limit, refusals, 0)
    assert copy.deepcopy(pace) is pace


def never() -> None:
    """Nothing is refused."""


def narrowed() -> Pace:
    """One whose only place is taken."""
    pace = Pace()
    pace.leave(pace.enter(never), 429)
    pace.enter(never)
    assert not pace.window.admits(pace.inside)
    return pace


def test_who_waits_for_a_place_gets_the_next(tmp_path: Path) -> None:
    pace, waiting = narrowed(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        entered = pool.submit(pace.enter, waiting.set)
        assert waiting.wait(30) and not entered.done()
        pace.leave(1, 200)
        assert entered.result(30) == 1 and pace.inside == 1


def test_who_waits_for_a_place_is_interrupted() -> None:
    pace, meter = narrowed(), Meter(Budget())
    with ThreadPoolExecutor(1) as pool:
        entered = pool.submit(pace.enter, meter.check)
        meter.interrupt("Ctrl-C")
        with pytest.raises(Interrupted, match="Ctrl-C"):
            entered.result(30)
    assert pace.inside == 1


def test_who_must_not_wait_does_not() -> None:
    pace = narrowed()
    pace.enter(never, wait=False)
    assert pace.inside == 2


def test_awaited_calls_are_expected_one_a_place() -> None:
    pace = narrowed()
    assert not pace.expect()
    pace.leave(1, 200)
    assert [pace.expect(), pace.expect()] == [True, False]
    pace.forget()
    assert pace.expect()


@pytest.mark.parametrize(("said", "seconds"), [(None, [1, 2, 4, 8]), (0.5, [0.5] * 4), (3_600, [LONGEST] * 4)])
def test_a_call_rests_as_it_is_told_or_twice_as_long_each_time(said: float | None, seconds: list[float]) -> None:
    error = Exception()
    error.retry_after = said  # type: ignore[attr-defined]
    assert [rest(error, attempt) for attempt in range(4)] == seconds


class Limiter:
    """Takes two requests at once, and none once it is shut."""

    def __init__(self, retry_after: str = "0.02") -> None:
        self.headers = {"Retry-After": retry_after}
        self.inside = self.refused = 0
        self.shut = False
        self.said_no = threading.Event()
        self._lock = threading.Lock()

    def reply(self, _number: int, _inputs: Mapping[str, str]) -> Reply | None:
        with self._lock:
            if self.inside < 2 and not self.shut:
                self.inside += 1
                return None
            self.refused += 1
        self.said_no.set()
        return Reply(429, headers=self.headers)

    def answer(self, _model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str]:
        time.sleep(0.005)
        with self._lock:
            self.inside -= 1
        return {"answer": inputs["question"].upper()}


@contextmanager
def behind(folder: Path, limiter: Limiter, retries: int = 50) -> Iterator[tuple[Gateway, Pace]]:
    pace = Pace()
    with (
        ScriptedEndpoint(limiter.answer, reply=limiter.reply) as endpoint,
        Ledger(folder / "ledger.db") as ledger,
        installed(Gateway(ledger, Meter(Budget()))) as gateway,
    ):
        callbacks = [RoleCallback("task", pace)]
        lm = RemoteLM("openai/any", pace=pace, retries=retries, callbacks=callbacks, api_base=endpoint.url, api_key="k")
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
            yield gateway, pace


def ask(question: str) -> str:
    return str(dspy.Predict("question -> answer")(question=question).answer)


def test_all_are_answered_by_an_endpoint_that_takes_two_at_once(tmp_path: Path) -> None:
    limiter, questions = Limiter(), [f"q{n % 40}" for n in range(80)]  # each is asked twice, also at once
    with behind(tmp_path, limiter) as (gateway, pace), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(copy_context().run, ask, question) for question in questions]
        assert [answer.result(60) for answer in answers] == [question.upper() for question in questions]
        assert gateway.meter.spent.lm_calls == 40 and gateway.meter.in_flight == 0
        assert pace.refusals == limiter.refused > 0 and pace.window.limit is not None
        assert pace.inside == 0


def test_awaited_calls_are_paced_too(tmp_path: Path) -> None:
    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(dspy.Predict("question -> answer").acall(question=f"q{n}") for n in range(40)))

    limiter = Limiter()
    with behind(tmp_path, limiter) as (gateway, pace):
        answers = asyncio.run(all_of_them())
        assert [answer.answer for answer in answers] == [f"Q{n}" for n in range(40)]
        assert gateway.meter.spent.lm_calls == 40 and pace.inside == 0 and pace.window.limit is not None


def test_a_call_that_rests_is_not_in_flight_and_stops_with_the_run(tmp_path: Path) -> None:
    limiter = Limiter(retry_after="30")
    limiter.shut = True
    with behind(tmp_path, limiter) as (gateway, _pace), ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        answer = pool.submit(copy_context().run, ask, "q")
        assert limiter.said_no.wait(60)
        gateway.meter.drain(20)
        assert gateway.meter.in_flight == 0
        gateway.meter.interrupt("Ctrl-C")
        with pytest.raises(Interrupted, match="Ctrl-C"):
            answer.result(60)
        assert time.monotonic() - began < 30


def test_what_is_saved_is_a_plain_lm() -> None:
    lm = RemoteLM("openai/any", pace=Pace(), retries=5, api_base="http://localhost:1/v1", api_key="k")
    loaded = dspy.LM.load_state(lm.dump_state())
    assert (type(loaded), loaded.model, loaded.num_retries) == (dspy.LM, "openai/any", 5)
    assert copy.deepcopy(lm).pace is lm.pace is lm.copy(model="openai/other").pace
