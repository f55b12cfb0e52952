"""The process that serves: put together, started, ended.

Invariant: it begins to listen when the champion is loaded, and when it is told to end it takes nothing new, lets what
is in flight end, and writes down what was said.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import uvicorn

from cascade.errors import CascadeError, SettingsError
from cascade.production.serving.app import application
from cascade.production.serving.assembly import Plan, assembled
from cascade.production.serving.edge import Log, Records
from cascade.production.serving.service import Service
from cascade.redaction import hide

SHORTEST_TOKEN = 16
CONNECTIONS = 2_000
"""At once, most of which are idle; fewer where the process may not hold as many files."""
_OTHER_FILES = 300
BACKLOG = 2_048


def token_from(value: str | None, file: Path | None) -> str:
    """The token, from a file or from the environment's CASCADE_TOKEN; "" is none.

    Raises:
        SettingsError: the file cannot be read, or it is too short to keep anybody out.
    """
    place = str(file) if file else "CASCADE_TOKEN"
    try:
        token = file.read_text("utf-8").strip() if file else (value or "")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The token cannot be read from {file}: {error}.") from None
    if (file or token) and len(token) < SHORTEST_TOKEN:
        raise SettingsError(
            f"The token in {place} has {len(token)} characters. Make one that cannot be guessed, of at least "
            f"{SHORTEST_TOKEN}: python -c 'import secrets; print(secrets.token_hex(32))'."
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise SettingsError(f"The token in {place} holds what no header can hold. Use ASCII letters and digits.")
    hide([token])
    return token


def serve(plan: Plan, announce: Callable[[str, str], None], warn: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; returns how many program calls still run, whose answers nobody waits for.

    Args:
        announce: told address and version once requests are answered.
        warn: told what is wrong while nothing listens yet.

    Raises:
        CascadeError: the port is taken, or the champion cannot be loaded.
    """
    # No answer is kept: memory would grow, and a model that draws would draw once.
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    if plan.host not in ("127.0.0.1", "::1", "localhost") and not plan.token:
        warn(f"whoever reaches {plan.host} can ask the program: no token is set (CASCADE_TOKEN).")
    log = Log()
    try:
        with _listening(plan) as listener, assembled(plan, log) as parts:
            return asyncio.run(_serve(plan, Service(parts, plan.limits), listener, announce))
    finally:
        log.drain.close(5.0)


async def _serve(plan: Plan, service: Service, listener: socket.socket, announce: Callable[[str, str], None]) -> int:
    app = application(service, name=plan.target.experiment, token=plan.token)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        http="h11",  # also where httptools is installed, which reads headers without end
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        limit_concurrency=connections(),
        backlog=BACKLOG,
        timeout_graceful_shutdown=round(plan.limits.grace),
    )
    server = _Server(config, service)
    # What was imported stays: to look at it again and again costs tens of milliseconds each time.
    gc.collect()
    gc.freeze()
    listener.listen(BACKLOG)  # from here on nobody is turned away, though the loop is not there yet
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{port}", service.live.now[plan.target.aliases[0]].number)
    with _logged(service.log):
        await server.serve([listener])
    inside = service.crew.busy
    if inside:
        cut = f"{inside} program calls were cut off after {plan.limits.grace:g} s."
        service.log.tell("warning", "ended", message=cut)
    service.crew.close()
    return inside


def connections() -> int:
    """How many connections there may be at once, after the process was allowed as many files, as far as it can be.

    A server without a file left could not write down what it is told either.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + _OTHER_FILES
    if 0 <= soft < wanted:
        soft = wanted if hard < 0 else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft < 0 else max(1, min(CONNECTIONS, soft - _OTHER_FILES))


@contextlib.contextmanager
def _logged(log: Log) -> Iterator[None]:
    """Uvicorn's own words go into the log."""
    logger, handler = logging.getLogger("uvicorn.error"), Records(log)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


class _Server(uvicorn.Server):
    """Uvicorn's, which ends at a signal without passing it on: what was asked for was to end in order."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Be told to end."""
        self._service.ending = True
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to signals, and put back who listened before."""
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _listening(plan: Plan) -> Iterator[socket.socket]:
    """A socket on the port; raises `CascadeError` where there is none to be had."""
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    # The protocol is named, because asyncio else leaves Nagle's algorithm on: 40 ms for every answer.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((plan.host, plan.port))
        except OSError as error:
            raise CascadeError(
                f"Nothing can listen at {plan.host}:{plan.port} ({error.strerror or error}). End what does, or give "
                f"another, such as --port {plan.port + 1}."
            ) from None
        yield listener
