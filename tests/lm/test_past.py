"""What goes past the gateway is seen: counted, billed, told once, and put right where it can be."""

import asyncio
import contextvars
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.utils.dummies import DummyLM
from test_gateway import Seat

from cascade.errors import BudgetSpent
from cascade.experiment import Budget
from cascade.lm.call import RoleCallback
from cascade.spending import USAGE, Usage
from cascade.testing import AsyncScriptedEngine

SENTENCE = "went past the ledger (cache=False"


def bare(seat: Seat, **options: Any) -> Any:
    """An LM that a program makes itself, without our callback."""
    return dspy.LM(
        "scripted/own", engine=seat.engine, async_engine=AsyncScriptedEngine(seat.engine), num_retries=0, **options
    )


PAST: dict[str, Any] = {
    "an LM of settings, copied without a cache": lambda seat: seat.lms["task"].copy(cache=False),
    "an LM of the program's own": lambda seat: bare(seat, cache=False),
    "an LM that DSPy does not cache": lambda _: DummyLM([{"answer": "a"}] * 9),
}


@pytest.mark.parametrize("lm", PAST.values(), ids=PAST.keys())
def test_a_call_past_the_gateway_is_counted_billed_and_told_once(tmp_path: Path, lm: Any) -> None:
    with Seat(tmp_path) as seat:
        usage = Usage()
        with dspy.context(lm=lm(seat), **{USAGE: usage}):
            for _ in range(3):
                scripted.Asks()(question="hi")
        assert seat.gateway.past == seat.meter.spent.lm_calls == 3
        assert (len(seat.ledger), seat.meter.in_flight) == (0, 0)
        assert (usage.calls, usage.cost_usd, seat.meter.spent.cost_usd) == (3, None, None)
        assert [SENTENCE in sentence for sentence in seat.told] == [True]


def test_a_call_without_a_cache_is_seen_too(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        seat.lms["task"]("hi", cache=False)
        assert (seat.gateway.past, len(seat.told)) == (1, 1)
        assert seat.meter.spent.input_tokens > 0


def test_an_awaited_call_past_the_gateway_is_seen(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        with dspy.context(lm=seat.lms["task"].copy(cache=False)):
            asyncio.run(scripted.Asks().ask.acall(question="hi"))
        assert seat.gateway.past == seat.meter.spent.lm_calls == 1


def works(seat: Seat) -> None:
    scripted.Asks()(question="sync")
    asyncio.run(scripted.Asks().ask.acall(question="awaited"))
    pairs = [(scripted.Asks(), dspy.Example(question=f"{number}").with_inputs("question")) for number in range(6)]
    dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)


@pytest.mark.parametrize("own", [False, True])
def test_calls_through_the_gateway_are_not_taken_for_others(tmp_path: Path, own: bool) -> None:
    with Seat(tmp_path) as seat, dspy.context(lm=bare(seat) if own else seat.lms["task"]):
        for _ in range(2):
            works(seat)
        assert (seat.gateway.past, seat.told) == (0, [])
        assert seat.meter.spent.lm_calls == len(seat.engine.requests) == len(seat.ledger) == 8
        assert seat.meter.in_flight == 0


def test_both_kinds_in_one_program_are_told_apart(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        through, past = bare(seat), bare(seat, cache=False)
        for number in range(3):
            through(f"question {number}")
            past(f"question {number}")
            through(f"question {number}")
        assert (seat.gateway.past, len(seat.ledger), seat.meter.spent.lm_calls) == (3, 3, 6)


def test_a_cap_stops_calls_past_the_gateway_one_late(tmp_path: Path) -> None:
    with Seat(tmp_path, Budget(lm_calls=3)) as seat:
        lm = bare(seat, cache=False)
        for _ in range(3):
            lm("hi")
        with pytest.raises(BudgetSpent, match="LM calls: 3 of 3"):
            lm("hi")
        assert len(seat.engine.requests) == 4
        assert seat.meter.spent.lm_calls == 4


def test_who_tracks_usage_goes_on_to_be_told(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat, dspy.track_usage() as tracked:
        scripted.Asks()(question="hi")
        seat.lms["task"]("ho", cache=False)
        assert list(tracked.get_total_tokens()) == ["scripted/base"]
    outside = dspy.track_usage()
    with outside as tracked, Seat(tmp_path / "other") as seat:
        scripted.Asks()(question="hi")
        seat.lms["task"]("ho", cache=False)
        assert seat.gateway.past == 1
        assert tracked.get_total_tokens()["scripted/base"]["completion_tokens"] > 0


def test_where_predictions_carry_their_usage_they_still_do(tmp_path: Path) -> None:
    with dspy.context(track_usage=True), Seat(tmp_path):
        prediction = scripted.Asks()(question="hi")
        assert prediction.get_lm_usage()["scripted/base"]["prompt_tokens"] > 0


def test_the_seat_is_taken_back_and_that_is_told(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
        scripted.Asks()(question="hi")
        assert dspy.cache is seat.gateway
        assert seat.gateway.past == seat.meter.spent.lm_calls == 1
        assert len([sentence for sentence in seat.told if "replaced dspy.cache during the run" in sentence]) == 1
        scripted.Asks()(question="hi")
        assert len(seat.ledger) == 1
        seat.gateway.keep_seat()
        assert len(seat.told) == 2


def test_a_call_that_ends_after_the_run_does_not_take_the_seat(tmp_path: Path) -> None:
    before = dspy.cache
    with Seat(tmp_path) as seat:
        context = contextvars.copy_context()
    context.run(seat.gateway.went_past, "scripted/own", {})
    assert dspy.cache is before


def test_an_lm_of_the_program_s_own_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fails(model: str, inputs: Any, demos: int) -> Any:
        raise ConnectionError("lost")

    with Seat(tmp_path, answer=fails) as seat, dspy.context(lm=bare(seat)):
        for _ in range(3):
            with pytest.raises(Exception, match="lost"):
                scripted.Asks()(question="hi")
        assert seat.meter.in_flight == 0
        assert seat.gateway.door.needed


def test_callbacks_cost_nothing_as_long_as_they_are_not_needed(tmp_path: Path) -> None:
    """DSPy's own price for having any callback is larger than all that the gateway does."""
    seen: list[str] = []

    class Seen(RoleCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            seen.append("start")

        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            seen.append("end")

    mine = Seen("mine")
    with dspy.context(callbacks=[mine]), Seat(tmp_path) as seat:
        door = seat.gateway.door
        assert dspy.settings.callbacks.__add__([]) == [mine]  # what DSPy asks for
        assert list(dspy.settings.callbacks) == [mine, door]
        scripted.Asks()(question="hi")
        assert seen == ["start", "end"]
        bare(seat)("hi")
        assert dspy.settings.callbacks.__add__([]) == [mine, door]


def test_a_call_inside_a_call_leaves_the_outer_one_as_it_was(tmp_path: Path) -> None:
    seat: Seat

    def nested(model: str, inputs: Any, demos: int) -> Any:
        if inputs["question"] == "outer":
            with dspy.context(lm=seat.lms["prompt"]):
                return {"answer": scripted.Asks()(question="inner").answer + "!"}
        return {"answer": "inner answer"}

    with Seat(tmp_path, answer=nested) as seat:
        assert scripted.Asks()(question="outer").answer == "inner answer!"
        assert seat.meter.by_role == {"task": 1, "prompt": 1}
        assert (seat.meter.in_flight, len(seat.ledger), seat.gateway.past) == (0, 2, 0)


def test_many_equal_awaited_requests_end(tmp_path: Path) -> None:
    """They wait in threads of the pool that the answer needs too; so not all of them wait."""

    async def several() -> None:
        await asyncio.gather(*(scripted.Asks().ask.acall(question="same") for _ in range(40)))

    with Seat(tmp_path, latency=0.05) as seat:
        ended = threading.Event()

        def work() -> None:
            asyncio.run(several())
            ended.set()

        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        assert ended.wait(30)
        thread.join()
        assert len(seat.ledger) == 1
        assert seat.meter.in_flight == 0
        assert seat.meter.spent.lm_calls + seat.meter.spent.lm_calls_cached == 40
