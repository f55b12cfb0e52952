"""The one place that every LM call passes: it answers from the ledger, meters, and can stop everything.

It takes the seat of DSPy's cache, which DSPy asks before each call and tells after it; nothing of DSPy is patched and
LMs stay plain `dspy.LM`s. `Cache.get` and `put` are no documented contract: DSPy is pinned, and
`tests/lm/test_gateway.py` fails if a call ever gets past.

Invariant: a request is answered by a model at most once, whichever process asks; equal requests in flight wait for the
first.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dspy
import orjson
from dspy.clients.cache import Cache, _transform_value

from cascade.errors import Interrupted, LedgerError
from cascade.lm.answers import Answer, from_dspy, to_dspy
from cascade.lm.call import ANSWERED, CALL, Call, Callbacks, Door, Witness
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.spending import JUDGING, ROLLOUT, USAGE, Rates

PATIENCE = 300.0
"""Seconds after which a question is asked although somebody else, who is alive, is still asking it."""
_SECRET_OR_TRANSIENT = frozenset(("api_key", "_fn_identifier", "extra_headers", "headers", "timeout", "num_retries"))
_PLAIN = frozenset((str, int, float, bool, list, type(None)))


class Gateway(Cache):  # type: ignore[misc]
    """DSPy's cache, kept in the ledger and watched by the meter.

    Args:
        identity: what a request does not show of a model's answer: weights, quantisation, grammar.
        salt: part of every key; a new one pays for every answer again.
        warn: told, once each, what went past the gateway.
        rates: what is known of prices and weights; a price that it names goes before DSPy's.
    """

    def __init__(
        self,
        ledger: Ledger,
        meter: Meter,
        identity: Callable[[str], str] = lambda _: "",
        *,
        salt: str = "",
        warn: Callable[[str], None] = lambda _: None,
        rates: Rates | None = None,
    ) -> None:
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        self.ledger = ledger
        self.meter = meter
        self.door = Door()
        self.seated = False
        self.patience = PATIENCE
        self.past = 0
        self.failure: LedgerError | None = None
        self._identity = identity
        self._salt = salt
        self._warn = warn
        self._rates = rates

    def cache_key(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> str:
        """Hash of the request, its endpoint and the model's identity; never of a key, a header or a time-out."""
        del ignored_args_for_cache_key
        shown = {
            name: value if type(value) in _PLAIN else _transform_value(value)
            for name, value in request.items()
            if name not in _SECRET_OR_TRANSIENT
        }
        shown["_identity"] = self._identity(_model(request)) + self._salt
        if rollout := dspy.settings.get(ROLLOUT):
            shown["_rollout"] = rollout
        return hashlib.sha256(_canonical(shown)).hexdigest()

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:  # noqa: ARG002
        """The answer in the ledger, or None when the call may be sent.

        Raises:
            Stop: the call may not be sent.
        """
        if _is_embedding(request):
            return None
        call = CALL.get()
        if call is None:
            self.door.needed = True  # of an LM that the program made itself: this call ends unseen, the next will not
        try:
            return self._found_or_begun(request, self.cache_key(request), call)
        except LedgerError as error:
            raise self._stopped_by(error) from error

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,
    ) -> None:
        """Commit a model's answer, then bill it.

        Raises:
            Stop: it could not be committed.
        """
        del ignored_args_for_cache_key, enable_memory_cache
        if _is_embedding(request):
            return
        model, call = _model(request), CALL.get()
        if call is None:
            call = Call("program")
            ANSWERED.set(True)
        call.key = call.key or self.cache_key(request)
        seconds = time.perf_counter() - call.started if call.started else 0.0
        answer = self._priced(model, from_dspy(value, seconds, free=model.startswith("embedded/")))
        try:
            self.ledger.add(call.key, answer, model=model, role=call.role)
        except LedgerError as error:
            raise self._stopped_by(error) from error
        reserved, call.release = call.release is not None, None
        if call.claimed:
            self.ledger.unclaim(call.key)
        self.meter.bill(call.role, answer.input_tokens, answer.output_tokens, answer.cost_usd, places=int(reserved))
        self._count(model, answer)

    def keep_seat(self) -> None:
        """Sit down again where something else took the seat, such as `dspy.configure_cache` in a program."""
        if self.seated and dspy.cache is not self:
            dspy.cache = self
            self._warn(
                "Something replaced dspy.cache during the run, so LM calls went past the ledger and the budget; the "
                "ledger is back in its place. Call dspy.configure_cache before the run, or not at all."
            )

    def went_past(self, model: str, usage: dict[str, Any]) -> None:
        """Count a call that a model answered without the gateway being asked; raises `Stop` once a cap is reached."""
        self.past += 1
        if self.past == 1:
            self._warn(
                f"An LM call to {model!r} went past the ledger (cache=False, or an LM that DSPy does not cache): such "
                "calls are paid for again in every run, and a cap stops them late. Remove cache=False."
            )
        self.keep_seat()
        tokens = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        if used := dspy.settings.get(USAGE):
            used.add(*tokens, None)
        call = CALL.get()
        self.meter.bill_unasked(call.role if call else "program", *tokens)

    def _found_or_begun(self, request: dict[str, Any], key: str, call: Call | None) -> Any:
        """The recorded answer, or None once it is this call that asks."""
        claims, until = self.ledger.claims, 0.0
        claimed = call is not None and claims.take(key)
        value = None
        try:
            while (value := self._recorded(key, request)) is None and call and not claimed:
                until = until or time.monotonic() + self.patience
                if not claims.wait(key, until - time.monotonic(), pooled=_is_awaited(request)):
                    break
                self.meter.check()
                claimed = claims.take(key)
            if value is None:
                if call and call.pace:
                    call.entered = call.pace.enter(self.meter.check, wait=not _is_awaited(request))
                self.meter.reserve(places=int(call is not None))
                if call:
                    call.claimed, call.started, call.release = claimed, time.perf_counter(), self._abandon
                claimed = False  # it is the call's from here on
        finally:
            if claimed:
                claims.free(key)
            if call:
                call.key = key
        return value

    def _recorded(self, key: str, request: dict[str, Any]) -> Any:
        answer = self.ledger.find(key)
        value = to_dspy(answer, lm=_is_lm(request)) if answer else None
        if answer and value is not None:
            self.meter.hit()
            model = _model(request)
            self._count(model, self._priced(model, answer), answer.seconds)
        return value

    def _priced(self, model: str, answer: Answer) -> Answer:
        """The answer at the price that settings name, also where the ledger has it from a time of another price."""
        cost = self._rates.price(model, answer.input_tokens, answer.output_tokens) if self._rates else None
        return answer if cost is None else replace(answer, cost_usd=cost)

    def _count(self, model: str, answer: Answer, ledger_seconds: float = 0.0) -> None:
        if usage := dspy.settings.get(USAGE):
            size = self._rates.weights_gb(model) if self._rates else None
            usage.add(
                answer.input_tokens,
                answer.output_tokens,
                answer.cost_usd,
                weights_gb=None if size is None else size * (answer.input_tokens + answer.output_tokens),
                ledger_seconds=ledger_seconds,
            )

    def _abandon(self, call: Call) -> None:
        self.meter.release()
        if call.claimed:
            self.ledger.unclaim(call.key)

    def _stopped_by(self, error: LedgerError) -> Interrupted:
        """Nothing more is paid for once answers cannot be kept; optimizers would swallow the error itself."""
        self.failure = self.failure or error
        self.meter.interrupt(str(error))
        return Interrupted(str(error))


@contextmanager
def installed(gateway: Gateway) -> Iterator[Gateway]:
    """Seat `gateway` as DSPy's cache; on leaving, the one before sits there again."""
    before, gateway.door = dspy.cache, Door()
    dspy.cache, gateway.seated = gateway, True
    # Looking for a name that is not there costs DSPy an exception, so names that every call asks for are there.
    context: dict[str, Any] = {"cascade_hold": None, ROLLOUT: 0, USAGE: None, JUDGING: False}
    context["callbacks"] = Callbacks(dspy.settings.callbacks, gateway.door)
    if not dspy.settings.track_usage:  # else DSPy would track nothing for who asked for it
        context["usage_tracker"] = Witness(dspy.settings.usage_tracker, gateway.went_past)
    try:
        with dspy.context(**context):
            yield gateway
    finally:
        gateway.door.close(0.0 if gateway.meter.abandoned else 10.0)
        gateway.meter.drain(10.0)
        dspy.cache, gateway.seated = before, False


def _canonical(shown: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(shown, option=orjson.OPT_SORT_KEYS, default=repr)
    except TypeError:  # such as a `logit_bias`, whose names are numbers
        return orjson.dumps(shown, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)


def _model(request: dict[str, Any]) -> str:
    inner = request.get("request")
    return str(request.get("model") or (inner or {}).get("model") or "")


def _is_embedding(request: dict[str, Any]) -> bool:
    return "embedding" in _asker(request).lower()


def _is_lm(request: dict[str, Any]) -> bool:
    return _asker(request).startswith("dspy.clients.lm")


def _is_awaited(request: dict[str, Any]) -> bool:
    return _asker(request).endswith(".async") or ".alitellm_" in _asker(request)


def _asker(request: dict[str, Any]) -> str:
    """The function of DSPy that asks its cache."""
    return str(request.get("_fn_identifier", ""))
