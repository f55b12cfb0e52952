"""A computation that several threads and tasks may ask for and that runs once.

Invariant: whoever asks gets the one answer, or the one error; but an order to stop (a `BaseException`) is for who was
given it, and the others ask again.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_MINE: ContextVar[frozenset["Once"]] = ContextVar("cascade_computing", default=frozenset())
"""What this context is computing: to wait for it would be to wait for oneself."""


class Busy(Exception):
    """Whoever asks would wait for itself: a computation that needs its own result, or a thread that runs both."""


class _Again(Exception):
    """Whoever computed was ordered to stop."""


class Once:
    """Runs what it is given the first time, and remembers the outcome."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def done(self) -> bool:
        """Whether there is an answer or an error."""
        future = self._future
        return future is not None and future.done()

    def get(self, compute: Callable[[], Any]) -> Any:
        """The answer; raises the error of `compute`, or `Busy` where waiting would never end."""
        while True:
            mine, future = self._claim()
            if mine:
                with self._computing(future):
                    future.set_result(compute())
                return future.result()
            self._refuse_to_wait(future, blocking=True)
            try:
                return future.result()
            except _Again:
                continue

    async def aget(self, compute: Callable[[], Awaitable[Any]]) -> Any:
        """As `get`, without blocking the loop."""
        while True:
            mine, future = self._claim()
            if mine:
                with self._computing(future):
                    future.set_result(await compute())
                return future.result()
            self._refuse_to_wait(future, blocking=False)
            try:
                return await asyncio.wrap_future(future)
            except _Again:
                continue

    def _claim(self) -> tuple[bool, "Future[Any]"]:
        with self._lock:
            if self._future is not None:
                return False, self._future
            self._future, self._loop = Future(), _running_loop()
            self._future.set_running_or_notify_cancel()  # a waiter that is cancelled must not cancel it
            return True, self._future

    @contextmanager
    def _computing(self, future: "Future[Any]") -> Iterator[None]:
        token = _MINE.set(_MINE.get() | {self})
        try:
            yield
        except Exception as error:
            future.set_exception(error)
            raise
        except BaseException:
            with self._lock:
                self._future = None
            future.set_exception(_Again())
            raise
        finally:
            _MINE.reset(token)

    def _refuse_to_wait(self, future: "Future[Any]", *, blocking: bool) -> None:
        if future.done():
            return
        if self in _MINE.get() or (blocking and self._loop is not None and self._loop is _running_loop()):
            raise Busy


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
