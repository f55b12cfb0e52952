"""What is done beside answers: in bounded queues, by threads of their own.

Invariant: whoever offers something never waits, neither for the disk nor for a network; what there is no room for is
dropped and counted.
"""

import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

T = TypeVar("T")
BATCH = 500


class Drain(Generic[T]):
    """Hands what it is offered to a function, in batches and in order.

    Args:
        handle: given at most `BATCH` items; what it raises is passed to `on_error`, and the batch is lost.
        most: items that wait at most.
        pause: seconds in which a batch is gathered; under load the thread wakes no more often than that.
    """

    def __init__(
        self,
        handle: Callable[[list[T]], None],
        *,
        most: int,
        pause: float = 0.05,
        on_error: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self.dropped = 0
        self._handle, self._most, self._pause, self._on_error = handle, most, pause, on_error
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="cascade-drain", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return self._queue.qsize()

    def offer(self, item: T) -> bool:
        """Take an item; False if there is no room for it."""
        if self._queue.qsize() >= self._most:
            self.dropped += 1
            return False
        self._queue.put(item)
        return True

    def close(self, seconds: float) -> bool:
        """Handle what waits, for at most so many seconds; whether all of it was handled."""
        self._pause = 0.0
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        over = False
        while not over:
            batch = [self._queue.get()]
            time.sleep(self._pause)
            while len(batch) < BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except Empty:
                    break
            over = None in batch
            if items := [item for item in batch if item is not None]:
                try:
                    self._handle(items)
                except Exception as error:
                    self._on_error(error)
