"""The meter: caps, reservation, what is held back, and stopping everything."""

import contextvars
import copy
import threading
import time
from typing import Any

import pytest

from cascade.errors import BudgetSpent, Interrupted, Stop
from cascade.experiment import Budget
from cascade.lm.meter import Meter
from cascade.spending import Spent


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def answered(meter: Meter, calls: int, tokens: int = 0, cost: float | None = 0.0, role: str = "task") -> None:
    for _ in range(calls):
        meter.reserve()
        meter.bill(role, tokens, 0, cost)


CAPS = [
    (Budget(), Spent(), dict(calls=50, tokens=9, cost=1.0), ""),
    (Budget(lm_calls=3), Spent(), dict(calls=2), ""),
    (Budget(lm_calls=3), Spent(), dict(calls=3), "LM calls: 3 of 3"),
    (Budget(lm_calls=3), Spent(lm_calls=3), dict(calls=0), "LM calls: 3 of 3"),
    (Budget(lm_calls=3), Spent(lm_calls_cached=9), dict(calls=2), ""),
    (Budget(tokens=10), Spent(), dict(calls=1, tokens=9), ""),
    (Budget(tokens=10), Spent(), dict(calls=2, tokens=5), "tokens: 10 of 10"),
    (Budget(tokens=10), Spent(output_tokens=4, input_tokens=6), dict(calls=0), "tokens: 10 of 10"),
    (Budget(usd=0.5), Spent(), dict(calls=1, cost=0.25), ""),
    (Budget(usd=0.5), Spent(), dict(calls=2, cost=0.25), "dollars: 0.5000 of 0.5"),
    (Budget(usd=0.5), Spent(cost_usd=0.5), dict(calls=0), "dollars: 0.5000 of 0.5"),
    (Budget(minutes=2), Spent(seconds=119), dict(calls=1), ""),
    (Budget(minutes=2), Spent(seconds=121), dict(calls=0), "minutes: 2 are over"),
]


@pytest.mark.parametrize(("budget", "before", "used", "told"), CAPS)
def test_the_call_that_would_break_a_cap_is_refused(
    budget: Budget, before: Spent, used: dict[str, Any], told: str
) -> None:
    meter = Meter(budget, before=before, clock=Clock())
    answered(meter, **used)
    if not told:
        meter.reserve()
        return
    with pytest.raises(BudgetSpent) as caught:
        meter.reserve()
    assert str(caught.value) == told


def test_calls_in_flight_count_against_the_cap() -> None:
    meter = Meter(Budget(lm_calls=2))
    meter.reserve()
    meter.reserve()
    with pytest.raises(BudgetSpent, match="LM calls: 2 of 2"):
        meter.reserve()


def test_a_call_that_failed_gives_its_place_back_and_costs_nothing() -> None:
    meter = Meter(Budget(lm_calls=1))
    meter.reserve()
    meter.release()
    answered(meter, 1)
    assert meter.spent.lm_calls == 1


def test_spent_adds_what_earlier_attempts_spent_and_the_clock() -> None:
    clock = Clock()
    meter = Meter(Budget(), before=Spent(1, 2, 3, 4, 0.5, 6.0), clock=clock)
    clock.now += 10
    meter.reserve()
    meter.bill("prompt", 30, 40, 0.25)
    meter.hit()
    assert meter.spent == Spent(2, 3, 33, 44, 0.75, 16.0)
    assert meter.by_role == {"prompt": 1}


def test_an_unknown_price_is_not_zero() -> None:
    meter = Meter(Budget())
    answered(meter, 1, cost=None)
    assert meter.spent.cost_usd is None


def test_after_the_first_refusal_answers_from_the_ledger_are_refused_too() -> None:
    meter = Meter(Budget(lm_calls=1))
    answered(meter, 1)
    meter.hit()
    with pytest.raises(BudgetSpent):
        meter.reserve()
    for refused in (meter.hit, meter.check, meter.reserve):
        with pytest.raises(BudgetSpent):
            refused()
    assert meter.stopping
    assert meter.spent.lm_calls_cached == 1


HELD = [
    (Budget(lm_calls=10), Spent(lm_calls=6), 4, dict(tokens=0), "LM calls: 4 of 10, 6 kept for dev and test"),
    (Budget(tokens=100), Spent(input_tokens=30, output_tokens=30), 4, dict(tokens=10), "tokens: 40 of 100, 60 kept for dev and test"),
    (Budget(usd=1.0), Spent(cost_usd=0.5), 2, dict(cost=0.25), "dollars: 0.5000 of 1.0, 0.5 kept for dev and test"),
]  # fmt: skip


@pytest.mark.parametrize(("budget", "held", "allowed", "each", "told"), HELD)
def test_what_is_held_back_is_there_afterwards(
    budget: Budget, held: Spent, allowed: int, each: dict[str, Any], told: str
) -> None:
    meter = Meter(budget)
    with meter.holding(held):
        answered(meter, allowed, **each)
        with pytest.raises(BudgetSpent) as caught:
            meter.reserve()
    assert str(caught.value) == told
    assert not meter.stopping
    answered(meter, 1, **each)


def test_minutes_are_held_back_too() -> None:
    clock = Clock()
    meter = Meter(Budget(minutes=10), clock=clock)
    with meter.holding(Spent(seconds=120)):
        clock.now += 479
        meter.check()
        clock.now += 2
        with pytest.raises(BudgetSpent, match=r"minutes: 10 are over, 2\.0 kept for dev and test"):
            meter.check()
    meter.check()
    clock.now += 120
    assert meter.stopping


def test_time_that_ran_out_is_told_apart_from_a_call_that_was_refused() -> None:
    clock = Clock()
    meter = Meter(Budget(minutes=1), clock=clock)
    with meter.holding(Spent(seconds=30)):
        answered(meter, 1)
        assert meter.late == ""
        clock.now += 31
        meter.check(minutes=False)
        assert meter.late == "minutes: 1 are over, 0.5 kept for dev and test"
        with pytest.raises(BudgetSpent):
            meter.reserve()
        with pytest.raises(BudgetSpent):
            meter.check(minutes=False)


def test_holding_waits_for_what_is_in_flight() -> None:
    meter = Meter(Budget(lm_calls=5))
    landed: list[float] = []

    def land() -> None:
        time.sleep(0.1)
        landed.append(1)
        meter.bill("task", 1, 1, 0.0)

    with meter.holding(Spent()):
        meter.reserve()
        threading.Thread(target=land).start()
    assert landed == [1]


def test_a_thread_that_outlives_what_was_stopped_cannot_spend_what_was_held() -> None:
    """DSPy leaves the threads of a stopped evaluation running; they wake up when the refusal is over."""
    meter, refused = Meter(Budget(lm_calls=10)), []
    go_on = threading.Event()

    def late() -> None:
        go_on.wait(5)
        for ask in (meter.reserve, meter.hit):
            try:
                ask()
            except BudgetSpent as error:
                refused.append(str(error))

    with meter.holding(Spent(lm_calls=8)):
        straggler = threading.Thread(target=contextvars.copy_context().run, args=(late,))
        straggler.start()
        answered(meter, 2)
        with pytest.raises(BudgetSpent):
            meter.reserve()
    go_on.set()
    straggler.join()
    assert refused == ["LM calls: 2 of 10, 8 kept for dev and test"] * 2
    answered(meter, 8)
    assert meter.spent.lm_calls == 10


def test_a_thread_that_outlives_what_ended_by_itself_may_go_on() -> None:
    meter = Meter(Budget(lm_calls=10))
    with meter.holding(Spent(lm_calls=8)):
        context = contextvars.copy_context()
    context.run(answered, meter, 1)
    assert meter.spent.lm_calls == 1


def test_drain_gives_up_after_its_time() -> None:
    meter = Meter(Budget())
    meter.reserve()
    started = time.monotonic()
    meter.drain(0.05)
    assert 0.04 < time.monotonic() - started < 5


def test_an_interrupt_refuses_everything_and_outlives_holding() -> None:
    meter = Meter(Budget())
    with meter.holding(Spent()):
        meter.interrupt("stopped by hand")
        for refused in (meter.reserve, meter.hit, meter.check):
            with pytest.raises(Interrupted, match="stopped by hand"):
                refused()
    assert meter.interrupted
    assert meter.stopping


def test_an_order_to_stop_is_no_exception_that_a_library_may_swallow() -> None:
    meter = Meter(Budget())
    meter.interrupt("stopped by hand")
    with pytest.raises(Stop) as caught:
        meter.reserve()
    assert not isinstance(caught.value, Exception)


def test_a_meter_is_never_copied() -> None:
    meter = Meter(Budget())
    assert copy.deepcopy({"meter": meter})["meter"] is meter


def test_many_threads_never_get_more_places_than_the_cap() -> None:
    meter, got = Meter(Budget(lm_calls=37)), []

    def ask() -> None:
        try:
            while True:
                meter.reserve()
                time.sleep(0.0005)
                meter.bill("task", 1, 1, 0.0)
                got.append(1)
        except BudgetSpent:
            pass

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == meter.spent.lm_calls == 37
