"""What every request passes: a name, the token, and a line in the log.

Invariant: without the token nothing but `/healthz` says anything, not even which routes there are; and whatever is
raised inside leaves as a small JSON document.
"""

import asyncio
import hmac
import json
import logging
import secrets
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.production.serving.meters import Meters
from cascade.production.serving.problems import Problem
from cascade.production.serving.queues import Drain
from cascade.redaction import redacted, told

HEALTH = "/healthz"
REQUEST_HEADER = b"x-cascade-request"
_QUIET = (HEALTH, "/readyz", "/metrics")
"""Routes that are asked every few seconds: in the log only if they fail."""


@dataclass
class Call:
    """What is known of one request; routes add to it.

    Args:
        id: 32 hex digits; the trace of the request is called so, too.
        facts: for the line in the log.
    """

    id: str
    route: str = "other"
    facts: dict[str, Any] = field(default_factory=dict)


class Log:
    """Lines of JSON on a stream, redacted, written by a thread of their own."""

    def __init__(self, stream: TextIO | None = None, most: int = 10_000) -> None:
        self._stream = stream
        self.drain: Drain[dict[str, Any]] = Drain(self._write, most=most)

    def tell(self, level: str, event: str, **facts: Any) -> None:
        """Write a line; one that there is no room for is dropped."""
        at = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03}Z"
        self.drain.offer({"at": stamp, "level": level, "event": event, **facts})

    def _write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in lines)
        stream = self._stream or sys.stderr
        stream.write(redacted(text))
        stream.flush()


class Records(logging.Handler):
    """Takes what a library logs into the log, without stack traces."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write it as a line."""
        reason = {"reason": told(record.exc_info[1])} if record.exc_info and record.exc_info[1] else {}
        self._log.tell(record.levelname.lower(), record.name, message=record.getMessage().strip(), **reason)


class Edge:
    """The outermost ASGI application.

    Args:
        token: what must be sent as `Authorization: Bearer …`; "" lets everybody in.
    """

    def __init__(self, app: ASGIApp, *, token: str, meters: Meters, log: Log) -> None:
        self.app, self.meters, self.log = app, meters, log
        self._expected = f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it."""
        if scope["type"] != "http":
            return
        call, began, status = Call(secrets.token_hex(16)), time.perf_counter(), 0
        scope["state"] = {"call": call}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_HEADER, call.id.encode())]
            await send(message)

        try:
            await self._answer(scope, receive, sending, call)
        except asyncio.CancelledError:  # the server ends, and has waited as long as it was told
            if status:
                raise
            await Problem(503, "The server is ending.").response(call.id)(scope, receive, sending)
        except Exception as error:
            call.facts["reason"] = told(error)
            if not status:
                await Problem(500, "The server made a mistake.").response(call.id)(scope, receive, sending)
        finally:
            self._note(scope, call, status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        if self._expected and scope["path"] != HEALTH and not self._admitted(scope):
            problem = Problem(401, "A token is needed.", headers={"WWW-Authenticate": "Bearer"})
            await problem.response(call.id)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _admitted(self, scope: Scope) -> bool:
        sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(sent, self._expected)

    def _note(self, scope: Scope, call: Call, status: int, seconds: float) -> None:
        self.meters.add("cascade_requests_total", route=call.route, status=str(status))
        if call.route in _QUIET and status == 200:
            return
        level = "error" if status >= 500 else "info"
        facts = {"method": scope["method"], "path": scope["path"][:200], "status": status, "seconds": round(seconds, 4)}
        self.log.tell(level, "request", request=call.id, **facts, **call.facts)
