"""One request from its body to its answer.

Invariant: a request that was let in is answered by one version, with one of the outputs that version's form has, or
with a `Problem`; the version is held until its program has ended, not only until its answer was waited for.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from cascade.mlflow_store.registry import CHAMPION
from cascade.production.live import Live, Served
from cascade.production.serving.crew import Crew
from cascade.production.serving.edge import Call, Log
from cascade.production.serving.forms import Form, WrongRequest
from cascade.production.serving.meters import Meters
from cascade.production.serving.problems import Problem, busy, failed
from cascade.redaction import told

Choose = Callable[[Mapping[str, Served]], str]


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


class Unfit(Exception):
    """A program returned what its signature does not say."""


class Service:
    """What answers: the programs, the threads that run them, and the numbers of it.

    Args:
        live: programs by alias.
    """

    def __init__(self, live: Live, limits: Limits, meters: Meters, log: Log) -> None:
        self.live, self.limits, self.meters, self.log = live, limits, meters, log
        self.crew = Crew(limits.concurrency)
        self.ending = False
        meters.watch("cascade_calls_inside", lambda: [({}, self.crew.busy)])
        meters.watch("cascade_store_seen_seconds", lambda: [({}, self.live.seen)])
        meters.watch("cascade_dropped_total", lambda: [({"queue": "log"}, self.log.drain.dropped)])
        meters.watch("cascade_loaded_info", self._loaded)

    @property
    def form(self) -> Form:
        """Of the champion."""
        return form_of(self.live.now[CHAMPION])

    def admit(self) -> None:
        """Raise `Problem` at once if there is no place."""
        if self.crew.full:
            self.meters.add("cascade_refused_total")
            raise busy()

    async def answer(self, body: bytes, key: str, call: Call) -> bytes:
        """The JSON document that answers a request.

        Raises:
            Problem: it does not fit, there is no place, or the program failed or took too long.
        """
        form = self.form
        inputs, user = _read(form, body)
        served, arm, back = self._take(key or user or call.id)
        try:
            if form_of(served) is not form:
                inputs, _ = _read(form_of(served), body)
            self.admit()  # others may have come while the body was read
            future = self.crew.run(partial(_run, served, inputs, back.pop_all()))
        finally:
            back.close()
        call.facts |= {"arm": arm, "version": served.number}
        outputs = await self._wait(future, call, arm, served.number)
        found = {"outputs": outputs, "request_id": call.id, "version": served.number, "arm": arm}
        try:
            return orjson.dumps(found)
        except orjson.JSONEncodeError:  # half a character, which only JSON's escapes can hold
            return json.dumps(found).encode()

    def _take(self, key: str) -> tuple[Served, str, contextlib.ExitStack]:
        back = contextlib.ExitStack()
        arm, served = back.enter_context(self.live.taken(self.choose(key)))
        return served, arm, back

    def choose(self, key: str) -> Choose:  # noqa: ARG002
        """Who answers whom."""
        return lambda _now: CHAMPION

    async def _wait(self, future: "asyncio.Future[Any]", call: Call, arm: str, version: str) -> dict[str, Any]:
        outcome, began = "failed", asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.limits.seconds):
                outputs: dict[str, Any] = await future
        except TimeoutError:
            outcome = "timeout"
            raise Problem(504, f"No answer within {self.limits.seconds:g} s.") from None
        except Unfit as error:
            call.facts["reason"] = str(error)
            raise Problem(502, "The program's answer is not what its signature says.") from None
        except Exception as error:
            raise failed(error, told(error)) from None
        else:
            outcome = "answered"
            self.meters.took("cascade_prediction_seconds", asyncio.get_running_loop().time() - began, arm=arm)
            return outputs
        finally:
            self.meters.add("cascade_predictions_total", arm=arm, version=version, outcome=outcome)

    def _loaded(self) -> list[tuple[dict[str, str], float]]:
        return [({"arm": alias, "version": served.number}, 1) for alias, served in self.live.now.items()]


def form_of(served: Served) -> Form:
    """The form of a version, made once."""
    if served.form is None:
        served.form = Form.of(served.program)
    form: Form = served.form
    return form


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
