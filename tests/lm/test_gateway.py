"""The gateway: every call passes it, equal ones are asked once, keys are stored nowhere, and refusals drain."""

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.utils.exceptions import LMError

from cascade.building import Workshop
from cascade.errors import BudgetSpent, Interrupted
from cascade.experiment import Budget, Stage
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.spending import USAGE, Usage
from cascade.stage import optimize
from cascade.testing import ScriptedEngine, ScriptedLMs


class Seat:
    """A gateway in DSPy's seat, with all that hangs on it."""

    def __init__(
        self, folder: Path, budget: Budget | None = None, *, fresh: bool = False, rates: Any = None, **engine: Any
    ) -> None:
        self.engine = ScriptedEngine(engine.pop("answer", scripted.answer), **engine)
        self.lms = ScriptedLMs(scripted.settings_in(folder), self.engine)
        self.ledger = Ledger(folder / "ledger.db")
        self.meter = Meter(budget or Budget())
        self.told: list[str] = []
        salt = "fresh 1" if fresh else ""
        self.gateway = Gateway(self.ledger, self.meter, salt=salt, warn=self.told.append, rates=rates)
        self.folder = folder

    def __enter__(self) -> "Seat":
        self.threads = threading.active_count()
        self._inside = [installed(self.gateway), dspy.context(lm=self.lms["task"], adapter=self.lms.adapter)]
        for manager in self._inside:
            manager.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + 5  # DSPy leaves threads behind when it is stopped; they would reach the next test
        while threading.active_count() > self.threads and time.monotonic() < deadline:
            time.sleep(0.01)
        for manager in reversed(self._inside):
            manager.__exit__(None, None, None)
        self.ledger.close()

    def optimized(self, stage: Stage) -> Any:
        workshop = Workshop(
            factory=scripted.Asks, metric=scripted.right, train=scripted.split("train", 20), lms=self.lms, seed=1,
            log=self.folder / "optimizer.log",
        )  # fmt: skip
        with dspy.context(num_threads=4, max_errors=1000):
            return optimize(stage, scripted.Asks(), workshop)


def evaluated(seat: Seat) -> None:
    examples = scripted.split("train", 25).examples()
    dspy.Evaluate(devset=examples, metric=lambda e, p: e.answer == p.answer, num_threads=8)(scripted.Asks())


def awaited(seat: Seat) -> None:
    async def several() -> None:
        await asyncio.gather(*(scripted.Asks().ask.acall(question=f"awaited {number}") for number in range(6)))

    asyncio.run(several())


COVERED: dict[str, Callable[[Seat], Any]] = {
    "Evaluate": evaluated,
    "MIPROv2": lambda seat: seat.optimized(scripted.FOUR_STAGES[0]),
    "BootstrapFewShot": lambda seat: seat.optimized(Stage("s", dspy.BootstrapFewShot, max_rounds=2)),
    "RandomSearch": lambda seat: seat.optimized(Stage("s", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=2)),
    "BetterTogether": lambda seat: seat.optimized(scripted.FOUR_STAGES[2]),
    "BootstrapFinetune": lambda seat: seat.optimized(scripted.FOUR_STAGES[3]),
    "acall": awaited,
}  # fmt: skip


@pytest.mark.parametrize("work", COVERED.values(), ids=COVERED.keys())
def test_no_call_gets_past(tmp_path: Path, work: Callable[[Seat], Any]) -> None:
    with Seat(tmp_path) as seat:
        work(seat)
        assert len(seat.engine.requests) >= 6
        assert len(seat.engine.requests) == len(seat.ledger) == seat.meter.spent.lm_calls
        assert seat.meter.in_flight == 0
        asked = len(seat.engine.requests)
        work(seat)
        assert len(seat.engine.requests) == asked
        assert seat.meter.spent.lm_calls_cached >= asked


def test_equal_requests_in_flight_are_asked_once(tmp_path: Path) -> None:
    with Seat(tmp_path, latency=0.2) as seat:
        program = scripted.Asks()
        pairs = [(program, dspy.Example(question="same").with_inputs("question"))] * 8
        answers = dspy.Parallel(num_threads=8, disable_progress_bar=True)(pairs)
        assert {prediction.answer for prediction in answers} == {
            scripted.answer("scripted/base", {"question": "same"}, 0)["answer"]
        }
        assert len(seat.engine.requests) == 1
        assert (seat.meter.spent.lm_calls, seat.meter.spent.lm_calls_cached) == (1, 7)


def test_awaited_equal_requests_are_asked_once(tmp_path: Path) -> None:
    async def both() -> None:
        await asyncio.gather(*(scripted.Asks().ask.acall(question="same") for _ in range(4)))

    with Seat(tmp_path, latency=0.1) as seat:
        asyncio.run(both())
        assert len(seat.engine.requests) == 1


def test_when_the_first_of_equal_requests_fails_the_next_one_asks(tmp_path: Path) -> None:
    calls: list[str] = []

    def fails_once(model: str, inputs: Any, demos: int) -> Any:
        calls.append(model)
        time.sleep(0.1)
        if len(calls) == 1:
            raise ConnectionError("lost")
        return {"answer": "a"}

    with Seat(tmp_path, answer=fails_once) as seat:
        program, example = scripted.Asks(), dspy.Example(question="same").with_inputs("question")
        parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True, max_errors=10)
        answers = parallel([(program, example)] * 3)
        assert sum(prediction is not None for prediction in answers) == 2
        assert (len(calls), len(seat.ledger), seat.meter.in_flight) == (2, 1, 0)


DIFFERENT: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.7},
    "rollout": {"temperature": 0.7, "rollout_id": 1},
    "another rollout": {"temperature": 0.7, "rollout_id": 2},
    "max_tokens": {"max_tokens": 7},
}


def test_what_differs_is_asked_apart_and_rollouts_are_distinct(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        for config in DIFFERENT.values():
            for _ in range(2):
                dspy.Predict("question -> answer", **config)(question="same")
        assert len(seat.engine.requests) == len(seat.ledger) == len(DIFFERENT)


def test_what_a_request_does_not_show_is_part_of_the_key(tmp_path: Path) -> None:
    ledger, meter = Ledger(tmp_path / "ledger.db"), Meter(Budget())
    request = {"model": "embedded/x", "messages": [{"role": "user", "content": "hi"}]}
    keys = {Gateway(ledger, meter, lambda model, i=i: f"{model} weights {i}").cache_key(request) for i in range(3)}
    assert len(keys) == 3
    assert Gateway(ledger, meter).cache_key(request) == Gateway(ledger, meter).cache_key(
        dict(reversed(request.items()))
    )


@pytest.mark.parametrize("name", ["api_key", "headers", "extra_headers", "_fn_identifier"])
def test_no_key_and_no_header_is_part_of_the_key(tmp_path: Path, name: str) -> None:
    gateway = Gateway(Ledger(tmp_path / "ledger.db"), Meter(Budget()))
    request = {"model": "openai/x", "messages": []}
    assert gateway.cache_key({**request, name: "sk-one"}) == gateway.cache_key(request)
    assert gateway.cache_key({**request, "api_base": "http://other"}) != gateway.cache_key(request)


@pytest.mark.parametrize("failure", [ConnectionError("lost"), ValueError("wrong"), KeyboardInterrupt("now")])
def test_a_failed_call_frees_its_place_and_is_not_stored(tmp_path: Path, failure: BaseException) -> None:
    def fails(model: str, inputs: Any, demos: int) -> Any:
        raise failure

    with Seat(tmp_path, answer=fails) as seat:
        for _ in range(3):
            with pytest.raises((LMError, type(failure))):
                scripted.Asks()(question="hi")
        assert seat.meter.in_flight == 0
        assert len(seat.ledger) == 0
        assert seat.meter.spent.lm_calls == 0


def test_an_answer_that_does_not_parse_was_answered_and_is_billed_once(tmp_path: Path) -> None:
    with Seat(tmp_path, answer=lambda model, inputs, demos: "no format at all") as seat:
        for _ in range(2):
            with pytest.raises(Exception, match="answer"):
                scripted.Asks()(question="hi")
        assert (len(seat.engine.requests), len(seat.ledger), seat.meter.in_flight) == (1, 1, 0)


def test_a_cap_stops_evaluation_with_threads_exactly(tmp_path: Path) -> None:
    with Seat(tmp_path, Budget(lm_calls=7), latency=0.01) as seat:
        with pytest.raises(BudgetSpent, match="LM calls: 7 of 7"):
            evaluated(seat)
        seat.meter.drain()
        assert len(seat.engine.requests) == len(seat.ledger) == 7


def test_an_interrupt_stops_evaluation_and_keeps_what_was_answered(tmp_path: Path) -> None:
    seat: Seat

    def interrupts(model: str, inputs: Any, demos: int) -> Any:
        if len(seat.engine.requests) == 5:
            seat.meter.interrupt("by hand")
        return {"answer": "a"}

    seat = Seat(tmp_path, answer=interrupts)
    with seat:
        with pytest.raises(Interrupted, match="by hand"):
            evaluated(seat)
        seat.meter.drain()
        assert 5 < len(seat.engine.requests) == len(seat.ledger) < 25
        assert seat.meter.in_flight == 0


def test_embeddings_pass_by(tmp_path: Path) -> None:
    with Seat(tmp_path, Budget(lm_calls=1)) as seat:
        embedder = dspy.Embedder(_embedded, caching=True)
        assert embedder(["one", "two"]).shape == (2, 3)
        request = {"model": "text-embedding", "_fn_identifier": "dspy.clients.embedding._cached_compute_embeddings"}
        assert seat.gateway.get(request) is None
        seat.gateway.put(request, [1.0])
        assert (len(seat.ledger), seat.meter.spent.lm_calls, seat.meter.in_flight) == (0, 0, 0)


def _embedded(texts: list[str]) -> Any:
    import numpy as np

    return np.ones((len(texts), 3))


@pytest.mark.parametrize("error", [None, ValueError("inside"), BudgetSpent("inside")])
def test_dspy_s_cache_is_back_afterwards(tmp_path: Path, error: BaseException | None) -> None:
    before, callbacks = dspy.cache, list(dspy.settings.callbacks)
    seat = Seat(tmp_path)
    try:
        with installed(seat.gateway):
            assert dspy.cache is seat.gateway
            if error:
                raise error
    except (ValueError, BudgetSpent):
        pass
    assert dspy.cache is before
    assert dspy.settings.callbacks == callbacks


def test_a_thread_that_outlives_the_run_reaches_no_model(tmp_path: Path) -> None:
    """DSPy leaves the threads of a stopped evaluation running; with DSPy's own cache back they would call for free."""
    go_on, ended = threading.Event(), []

    def late() -> None:
        go_on.wait(5)
        try:
            scripted.Asks()(question="late")
        except Interrupted as error:
            ended.append(str(error))

    with Seat(tmp_path) as seat:
        straggler = threading.Thread(target=contextvars.copy_context().run, args=(late,))
        seat.threads += 1
        straggler.start()
    go_on.set()
    straggler.join()
    assert ended == ["the run is over"]
    assert seat.engine.requests == []


def test_leaving_waits_for_calls_that_are_under_way(tmp_path: Path) -> None:
    seat = Seat(tmp_path, latency=0.3)
    with seat:
        asking = threading.Thread(
            target=contextvars.copy_context().run, args=(lambda: scripted.Asks()(question="slow"),)
        )
        seat.threads += 1
        asking.start()
        while not seat.meter.in_flight:
            time.sleep(0.005)
        cache = dspy.cache
    assert dspy.cache is not cache
    assert len(seat.engine.requests) == 1
    assert seat.meter.spent.lm_calls == 1
    asking.join()


def test_calls_are_billed_to_the_role_that_asked(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        scripted.Asks()(question="hi")
        with dspy.context(lm=seat.lms["prompt"]):
            scripted.Asks()(question="ho")
        bare = dspy.LM("scripted/own", engine=seat.engine)
        with dspy.context(lm=bare.copy()):
            scripted.Asks()(question="ha")
        assert seat.meter.by_role == {"task": 1, "prompt": 1, "program": 1}


class Rated:
    """Half a dollar a token; two gigabytes of weights."""

    usd: float | None = 0.5

    def price(self, model: str, input_tokens: int, output_tokens: int) -> float | None:
        return None if self.usd is None else self.usd * (input_tokens + output_tokens)

    def weights_gb(self, model: str) -> float | None:
        return 2.0


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.25), (None, 0.25), (0.5, None)])
def test_an_answer_costs_what_settings_say_today(tmp_path: Path, before: float | None, after: float | None) -> None:
    """An answer in the ledger costs nothing again, but serving it would cost today's price."""
    usages, rates = [], Rated()
    with Seat(tmp_path, rates=rates) as seat:
        for rates.usd in (before, after):
            usages.append(usage := Usage())
            token = USAGE.set(usage)
            scripted.Asks()(question="hi")
            USAGE.reset(token)
        assert len(seat.engine.requests) == 1
        spent = seat.meter.spent
    tokens = usages[0].input_tokens + usages[0].output_tokens
    assert spent.cost_usd == usages[0].cost_usd == (None if before is None else before * tokens)
    assert usages[1].cost_usd == (after * tokens if after else usages[0].cost_usd)
    assert usages[0].weights_gb == usages[1].weights_gb == 2.0 * tokens


def test_an_example_s_usage_counts_answers_from_the_ledger_with_the_time_they_took(tmp_path: Path) -> None:
    def used() -> Usage:
        usage = Usage()
        with dspy.context(**{USAGE: usage}):
            scripted.Asks()(question="hi")
        return usage

    with Seat(tmp_path, latency=0.1) as seat:
        paid, free = used(), used()
        assert len(seat.engine.requests) == 1
    assert (paid.calls, free.calls) == (1, 1)
    assert paid.input_tokens == free.input_tokens > 0
    assert paid.ledger_seconds == 0
    assert 0.1 <= free.ledger_seconds < 2


def test_fresh_pays_again_but_not_twice(tmp_path: Path) -> None:
    with Seat(tmp_path) as seat:
        scripted.Asks()(question="hi")
    with Seat(tmp_path, fresh=True) as seat:
        scripted.Asks()(question="hi")
        scripted.Asks()(question="hi")
        assert (len(seat.engine.requests), seat.meter.spent.lm_calls_cached) == (1, 1)


class _Server(BaseHTTPRequestHandler):
    keys: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).keys.append(self.headers.get("Authorization", ""))
        message = {"role": "assistant", "content": "[[ ## answer ## ]]\nwarm\n\n[[ ## completed ## ]]"}
        body = json.dumps({
            "id": "1", "object": "chat.completion", "created": 1, "model": "x",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        }).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    _Server.keys = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict")
@pytest.mark.parametrize("engine", ["auto", "litellm"])
def test_a_key_reaches_the_provider_and_nothing_else(tmp_path: Path, server: ThreadingHTTPServer, engine: str) -> None:
    canary = "sk-canary-4711"
    base = f"http://127.0.0.1:{server.server_address[1]}/v1"
    options: dict[str, Any] = {} if engine == "litellm" else {"headers": {"X-Also": canary}}
    with Seat(tmp_path) as seat:
        lm = dspy.LM("openai/x", engine=engine, api_base=base, api_key=canary, num_retries=0, **options)
        for _ in range(2):
            with dspy.context(lm=lm):
                assert scripted.Asks()(question="how is it?").answer == "warm"
        assert _Server.keys == [f"Bearer {canary}"]
        assert (seat.meter.spent.lm_calls, seat.meter.spent.input_tokens, seat.meter.spent.output_tokens) == (1, 11, 3)
        other = lm.copy(api_key="sk-another")
        with dspy.context(lm=other):
            scripted.Asks()(question="how is it?")
        assert len(_Server.keys) == 1
    for path in tmp_path.iterdir():
        assert canary.encode() not in path.read_bytes(), path
    assert b"warm" in (tmp_path / "ledger.db").read_bytes()
