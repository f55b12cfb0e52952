"""The one place that every LM call passes: it answers from the ledger, meters, and can stop everything.

It takes the seat of DSPy's cache, which DSPy asks before each call and tells after it; nothing of DSPy is patched and
LMs stay plain `dspy.LM`s. `Cache.get` and `put` are no documented contract: DSPy is pinned, and
`tests/lm/test_gateway.py` fails if a call ever gets past.

Invariant: a request is answered by a model at most once; equal requests in flight wait for the first.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import orjson
from dspy.clients.cache import Cache, _transform_value
from dspy.clients.call_result import CACHE_FORMAT, attributes
from dspy.clients.legacy_outputs import plain

from cascade.lm.call import CALL, Call, Door
from cascade.lm.ledger import Answer, Ledger
from cascade.lm.meter import Meter
from cascade.spending import ROLLOUT, USAGE

_SECRET_OR_TRANSIENT = ("api_key", "_fn_identifier", "extra_headers", "headers")


class Gateway(Cache):  # type: ignore[misc]
    """DSPy's cache, kept in the ledger and watched by the meter.

    Args:
        identity: what a request does not show of a model's answer: weights, quantisation, grammar.
        fresh: do not read answers that were in the ledger before.
    """

    def __init__(
        self, ledger: Ledger, meter: Meter, identity: Callable[[str], str] = lambda _: "", *, fresh: bool = False
    ) -> None:
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        self.ledger = ledger
        self.meter = meter
        self._identity = identity
        self._salt = f"fresh {time.time_ns()}" if fresh else ""
        self._flying: dict[str, threading.Event] = {}
        self._flying_lock = threading.Lock()

    def cache_key(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> str:
        """Hash of the request, its endpoint and the model's identity; never of a key or a header."""
        del ignored_args_for_cache_key
        shown = {name: _transform_value(value) for name, value in request.items() if name not in _SECRET_OR_TRANSIENT}
        shown["_identity"] = self._identity(_model(request)) + self._salt
        if rollout := dspy.settings.get(ROLLOUT):
            shown["_rollout"] = rollout
        return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS, default=repr)).hexdigest()

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:  # noqa: ARG002
        """The answer in the ledger, or None when the call may be sent.

        Raises:
            Stop: the call may not be sent.
        """
        if _is_embedding(request):
            return None
        call = CALL.get() or Call("program")
        call.key = self.cache_key(request)
        while True:
            if answer := self.ledger.find(call.key):
                self.meter.hit()
                _count(answer, answer.seconds)
                return _load(answer)
            if waiting := self._take_off(call.key):
                waiting.wait(timeout=1.0)
            else:
                break
        try:
            self.meter.reserve()
        except BaseException:
            self._land(call.key)
            raise
        call.started = time.perf_counter()
        call.release = lambda: self._abandon(call.key)
        return None

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,
    ) -> None:
        """Commit a model's answer, then bill it."""
        del ignored_args_for_cache_key, enable_memory_cache
        if _is_embedding(request):
            return
        call = CALL.get() or Call("program", key=self.cache_key(request))
        seconds = time.perf_counter() - call.started if call.started else 0.0
        answer = _answer(value, seconds, priced_at_zero=_model(request).startswith("embedded/"))
        self.ledger.add(call.key, answer, model=_model(request), role=call.role)
        call.release = None
        self.meter.bill(call.role, answer.input_tokens, answer.output_tokens, answer.cost_usd)
        _count(answer, 0.0)
        self._land(call.key)

    def _abandon(self, key: str) -> None:
        self.meter.release()
        self._land(key)

    def _take_off(self, key: str) -> threading.Event | None:
        with self._flying_lock:
            flying = self._flying.get(key)
            if flying is None:
                self._flying[key] = threading.Event()
            return flying

    def _land(self, key: str) -> None:
        with self._flying_lock:
            landed = self._flying.pop(key, None)
        if landed:
            landed.set()


@contextmanager
def installed(gateway: Gateway) -> Iterator[Gateway]:
    """Seat `gateway` as DSPy's cache; on leaving, the one before sits there again."""
    before, door = dspy.cache, Door()
    dspy.cache = gateway
    try:
        with dspy.context(callbacks=[*dspy.settings.callbacks, door]):
            yield gateway
    finally:
        door.close()
        dspy.cache = before


def _model(request: dict[str, Any]) -> str:
    inner = request.get("request")
    return str(request.get("model") or (inner or {}).get("model") or "")


def _is_embedding(request: dict[str, Any]) -> bool:
    return "embedding" in str(request.get("_fn_identifier", "")).lower()


def _answer(value: Any, seconds: float, *, priced_at_zero: bool) -> Answer:
    if isinstance(value, dict) and value.get("_dspy_format") == CACHE_FORMAT:
        kind, record, cost = "lm15", value, value.get("cost")
    elif hasattr(value, "model_dump"):
        kind, record, cost = "litellm", plain(value), getattr(value, "_hidden_params", {}).get("response_cost")
    else:
        kind, record, cost = "json", plain(value), None
    usage = (record.get("usage") if isinstance(record, dict) else None) or {}
    tokens = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    return Answer(kind, record, *tokens, 0.0 if priced_at_zero else cost, seconds)


def _load(answer: Answer) -> Any:
    if answer.kind != "litellm":
        return answer.record
    return attributes({**answer.record, "usage": {}})


def _count(answer: Answer, ledger_seconds: float) -> None:
    if usage := USAGE.get():
        usage.add(answer.input_tokens, answer.output_tokens, answer.cost_usd, ledger_seconds)
