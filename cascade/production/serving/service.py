"""One request from its body to its answer.

Invariant: a request that was let in is answered by one version, with outputs of that version's types, or with a
`Problem`; the version is held until its program has ended, not only until its answer was waited for.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from cascade.mlflow_store.registry import CHAMPION
from cascade.mlflow_store.served_traces import Answered
from cascade.production.live import Live, Served
from cascade.production.serving.arms import Arms, Place
from cascade.production.serving.crew import Crew
from cascade.production.serving.edge import Call, Log
from cascade.production.serving.feedback import Desk
from cascade.production.serving.forms import Form, WrongRequest, form_of
from cascade.production.serving.keeping import Keeping, fields_of
from cascade.production.serving.meters import Meters
from cascade.production.serving.problems import Problem, busy, failed
from cascade.redaction import told

HELD = 256_000_000
"""Bytes of bodies at once, of all requests."""


@dataclass(frozen=True)
class Limits:
    """What one server takes upon itself.

    Args:
        concurrency: program calls at once; more are refused.
        seconds: in which an answer, and in which a body must come.
        body: bytes of a body at most.
        grace: seconds in which what is in flight may end when the server is told to.
    """

    concurrency: int = 32
    seconds: float = 60.0
    body: int = 1_000_000
    grace: float = 30.0


@dataclass(frozen=True)
class Parts:
    """What a service is put together from."""

    live: Live
    arms: Arms
    keeping: Keeping
    desk: Desk
    meters: Meters
    log: Log


class Unfit(Exception):
    """A program returned what its signature does not say."""


class Service:
    """What answers: the programs, the threads that run them, and the numbers of it."""

    def __init__(self, parts: Parts, limits: Limits) -> None:
        self.parts, self.limits = parts, limits
        self.live, self.meters, self.log = parts.live, parts.meters, parts.log
        self.crew = Crew(limits.concurrency)
        self.ending = False
        self.held = 0
        """Bytes of bodies that were read and are not answered."""
        _watched(self)

    @property
    def form(self) -> Form:
        """Of the champion."""
        return form_of(self.live.now[CHAMPION])

    def admit(self) -> None:
        """Raise `Problem` at once if there is no place."""
        if self.crew.full:
            raise self._refusal()

    def hold(self, size: int) -> None:
        """Count bytes of a body that is read; raise `Problem` if there are too many."""
        self.held += size
        if self.held > HELD:
            raise self._refusal()

    def _refusal(self, reason: str = "") -> Problem:
        self.meters.add("cascade_refused_total")
        return busy(reason)

    async def answer(self, body: bytes, key: str, call: Call) -> bytes:
        """The JSON document that answers a request.

        Args:
            key: whose it is; "" takes the request's user, else its id.

        Raises:
            Problem: it does not fit, there is no place, or the program failed or took too long.
        """
        at, began, form = time.time(), time.perf_counter(), self.form
        inputs, user = _read(form, body)
        place, served, back = self._take(key or user or call.id)
        with back:
            if form_of(served) is not form:
                inputs, _ = _read(form_of(served), body)
            self.admit()  # others may have come while the body was read
            future = self._begin(served, inputs, back.pop_all())
        call.facts |= {"arm": place.arm, "version": served.number}
        outputs, error = dict[str, Any](), "it was cut off"
        try:
            outputs, error = await self._wait(future, place.arm, served.number), ""
        except Problem as problem:
            error = problem.reason or problem.message
            raise
        finally:
            sent = fields_of(body, form.inputs)
            seconds = time.perf_counter() - began  # the clock may be set meanwhile
            found = (place.arm, served.number, served.model_id, sent, outputs, error)
            self.parts.keeping.keep(Answered(call.id, at, seconds, *found), place, len(body))
        return _document({"outputs": outputs, "request_id": call.id, "version": served.number, "arm": place.arm})

    async def feedback(self, body: bytes, call: Call) -> bytes:
        """The JSON document that says what was recorded; raises `Problem` where nothing was."""
        said = await self.parts.desk.take(body, self.form)
        self.meters.add("cascade_feedback_total", arm=said.arm)
        call.facts |= {"arm": said.arm, "version": said.version, "about": said.request}
        return _document({"recorded": True, "request_id": said.request})

    def _take(self, key: str) -> tuple[Place, Served, contextlib.ExitStack]:
        """Where a key belongs, and the version that answers there, which is held until the stack is closed."""
        found = [Place(CHAMPION)]

        def choose(now: Mapping[str, Served]) -> str:
            found[0] = self.parts.arms.place(key, now)
            return found[0].arm

        back = contextlib.ExitStack()
        _, served = back.enter_context(self.live.taken(choose))
        return found[0], served, back

    def _begin(
        self, served: Served, inputs: Mapping[str, Any], back: contextlib.ExitStack
    ) -> "asyncio.Future[dict[str, Any]]":
        """Let a thread ask the program, and give the version back."""
        try:
            return self.crew.run(partial(_run, served, inputs, back))
        except RuntimeError as error:
            back.close()
            raise self._refusal(str(error)) from None

    async def _wait(self, future: "asyncio.Future[Any]", arm: str, version: str) -> dict[str, Any]:
        outcome, began = "failed", time.perf_counter()
        try:
            async with asyncio.timeout(self.limits.seconds):
                outputs: dict[str, Any] = await future
        except TimeoutError:
            outcome = "timeout"
            raise Problem(504, f"No answer within {self.limits.seconds:g} s.") from None
        except Unfit as error:
            raise Problem(502, "The program's answer is not what its signature says.", reason=str(error)) from None
        except Exception as error:
            raise failed(error, told(error)) from None
        else:
            outcome = "answered"
            self.meters.took("cascade_prediction_seconds", time.perf_counter() - began, arm=arm)
            return outputs
        finally:
            self.meters.add("cascade_predictions_total", arm=arm, version=version, outcome=outcome)


def _watched(service: Service) -> None:
    """Let the metrics show what is kept elsewhere."""
    parts, meters = service.parts, service.meters
    meters.watch("cascade_calls_inside", lambda: [({}, service.crew.busy)])
    meters.watch("cascade_store_seen_seconds", lambda: [({}, parts.live.seen)])
    meters.watch(
        "cascade_dropped_total",
        lambda: [
            ({"queue": "log"}, parts.log.drain.dropped),
            ({"queue": "requests"}, parts.keeping.recent.dropped),
            ({"queue": "traces"}, parts.keeping.mirror.dropped + parts.keeping.mirror.drain.dropped),
        ],
    )
    meters.watch(
        "cascade_loaded_info", lambda: [({"arm": arm, "version": one.number}, 1) for arm, one in parts.live.now.items()]
    )
    meters.watch(
        "cascade_arm_stopped",
        lambda: [({"version": test.challenger}, bool(test.stopped))] if (test := parts.arms.test) else [],
    )


def _read(form: Form, body: bytes) -> tuple[dict[str, Any], str]:
    try:
        return form.read(body)
    except WrongRequest as error:
        raise Problem(422, str(error), details=error.details) from None


def _run(served: Served, inputs: Mapping[str, Any], back: contextlib.ExitStack) -> dict[str, Any]:
    """In a thread: ask the program, and give the version back."""
    with back:
        prediction = served.program(**inputs)
        try:
            return form_of(served).write(prediction)
        except Exception as error:
            raise Unfit(told(error)) from None


def _document(found: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(found)
    except orjson.JSONEncodeError:  # half a character, which only JSON's escapes can hold
        return json.dumps(found).encode()
