"""What people say of answers: checked, written down, counted.

Invariant: whoever is told that something was recorded can pull the plug: it is on the disk.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

from cascade.production.ab.outcomes import Books, Said
from cascade.production.serving.forms import Form, WrongRequest, details_of, without_default
from cascade.production.serving.problems import Problem
from cascade.production.serving.queues import Drain
from cascade.production.serving.recent import Kept, Recent

WAITING = 1_000
MOST = 10
"""Times that something may be said of one answer."""


_Share = Annotated[float, Field(strict=True, ge=0, le=1)]


def _optional(meaning: str) -> Any:
    """Of a field that may be left out, and not be null."""
    return Field(None, description=meaning, json_schema_extra=without_default)


class Feedback(BaseModel):
    """What is sent: what the answer was worth, what would have been right, or a comment; at least one of them."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={"anyOf": [{"required": [name]} for name in ("value", "outputs", "comment")]},
    )

    request_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="Of the answer.")]
    value: StrictBool | _Share = _optional("What it was worth, from 0 to 1.")
    outputs: Annotated[dict[str, Any], Field(min_length=1, max_length=100)] = _optional("Right values by output field.")
    comment: Annotated[str, Field(min_length=1, max_length=2000)] = _optional("What else there is to say.")


@dataclass(frozen=True)
class _Waiting:
    said: Said
    done: "asyncio.Future[None]"
    loop: asyncio.AbstractEventLoop


class Desk:
    """Takes feedback.

    Args:
        heard: called after something was written down.
    """

    def __init__(self, books: Books, recent: Recent, heard: Callable[[], None]) -> None:
        self.recent = recent
        self._books, self._heard = books, heard
        self._times: dict[str, int] = {}
        self.drain: Drain[_Waiting] = Drain(self._write, most=WAITING, pause=0.002)

    async def take(self, body: bytes, form: Form) -> Said:
        """Record what was said; returns once it is on the disk.

        Raises:
            Problem: it does not fit, is about a request that nobody knows, or cannot be recorded now.
        """
        sent = _read(body)
        kept = await self.recent.find(sent.request_id)
        if kept is None:
            raise Problem(404, "No such request is known any more.")
        if self._times.get(sent.request_id, 0) >= MOST:
            raise Problem(409, f"Of this answer {MOST} things were said already.")
        said = _said(sent, kept, _corrections(sent, kept, form))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(said, loop.create_future(), loop)
        if not self.drain.offer(waiting):
            raise Problem(503, "More feedback comes than can be written down.", headers={"Retry-After": "1"})
        self._remember(sent.request_id)
        try:
            await waiting.done
        except Exception as error:
            self._remember(sent.request_id, -1)
            raise Problem(503, "It cannot be recorded now.", headers={"Retry-After": "10"}, reason=str(error)) from None
        return said

    def _remember(self, request: str, times: int = 1) -> None:
        self._times[request] = self._times.pop(request, 0) + times
        if len(self._times) > 10 * WAITING:
            del self._times[next(iter(self._times))]

    def _write(self, some: list[_Waiting]) -> None:
        """In a thread: write a batch, wait for the disk once, and tell all of them."""
        error: Exception | None = None
        try:
            self._books.add(one.said for one in some)
        except Exception as raised:
            error = raised
        for one in some:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                one.loop.call_soon_threadsafe(_settle, one.done, error)
        if error is None:
            self._heard()


def _settle(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _read(body: bytes) -> Feedback:
    try:
        sent = Feedback.model_validate_json(body)
    except ValidationError as error:
        raise Problem(422, "The feedback does not fit.", details=details_of(error)) from None
    if not sent.model_fields_set & {"value", "outputs", "comment"}:
        said = "Give a value, outputs or a comment."
        raise Problem(422, "The feedback says nothing.", details=[{"field": "", "message": said}])
    return sent


def _corrections(sent: Feedback, kept: Kept, form: Form) -> dict[str, Any]:
    """Corrected outputs, in the types that the program gives them; only those that the answer had."""
    try:
        return {
            name: form.checked(name, value) if name in kept.answered.outputs else _unknown(name)
            for name, value in (sent.outputs or {}).items()
        }
    except WrongRequest as error:
        raise Problem(422, "The feedback does not fit.", details=error.details) from None


def _unknown(name: str) -> Any:
    raise WrongRequest("", [{"field": f"outputs.{name[:100]}", "message": "The answer has no such field."}])


def _said(sent: Feedback, kept: Kept, corrections: dict[str, Any]) -> Said:
    return Said(
        id=secrets.token_hex(8),
        at=round(time.time(), 3),
        request=sent.request_id,
        arm="challenger" if kept.answered.arm == "challenger" else "champion",
        version=kept.answered.version,
        test=kept.test,
        key=kept.key,
        share=kept.share,
        value=None if sent.value is None else float(sent.value),
        corrections=corrections,
        comment=sent.comment or "",
        answered=kept.answered.to_json(),
    )
