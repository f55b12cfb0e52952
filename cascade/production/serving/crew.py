"""Threads in which programs run.

Invariant: there are never more calls inside than places, and a call has its place until it has ended, also when nobody
waits for its answer any more; so what is refused is refused at once, and nothing queues.
"""

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class Crew:
    """So many threads, made when they are needed; used from one event loop.

    Args:
        places: calls at once.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.busy = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0

    @property
    def full(self) -> bool:
        """Whether there is no place."""
        return self.busy >= self.places

    def run(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Run a function in a thread; the caller has seen that there is a place.

        Raises:
            RuntimeError: the system gives no thread; no place is taken.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def job() -> None:
            result = error = None
            try:
                result = work()
            except BaseException as raised:  # a program may raise anything, and the thread lives on
                error = raised if isinstance(raised, Exception) else RuntimeError(f"{type(raised).__name__}: {raised}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(self._ended, future, result, error)

        if self.busy >= self._threads:
            # As daemons: a program that hangs must not keep the process from ending.
            Thread(target=self._work, name=f"cascade-call-{self._threads + 1}", daemon=True).start()
            self._threads += 1
        self.busy += 1
        self._jobs.put(job)
        return future

    def close(self) -> None:
        """Let the threads end once they are idle."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while job := self._jobs.get():
            job()

    def _ended(self, future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
        self.busy -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
