"""What is done beside answers: in bounded queues, by threads of their own.

Invariant: whoever offers something never waits, neither for the disk nor for a network; what there is no room for is
dropped and counted.
"""

import math
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
        room: sum of their sizes at most, where sizes are told: items of one thread.
        pause: seconds in which a batch is gathered; under load the thread wakes no more often than that.
    """

    def __init__(
        self,
        handle: Callable[[list[T]], None],
        *,
        most: int,
        room: float = math.inf,
        pause: float = 0.05,
        on_error: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self.dropped = 0
        self._handle, self._most, self._room, self._pause, self._on_error = handle, most, room, pause, on_error
        self._queue: SimpleQueue[tuple[T, int] | None] = SimpleQueue()
        self._came = self._went = 0  # two numbers, each of which one thread writes
        self._thread = Thread(target=self._work, name="cascade-drain", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that wait."""
        return self._queue.qsize()

    def offer(self, item: T, size: int = 0) -> bool:
        """Take an item; False if there is no room for it."""
        if self._queue.qsize() >= self._most or self._came - self._went + size > self._room:
            self.dropped += 1
            return False
        if size:
            self._came += size
        self._queue.put((item, size))
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
            if items := [found for found in batch if found is not None]:
                try:
                    self._handle([item for item, _ in items])
                except Exception as error:
                    self._on_error(error)
                self._went += sum(size for _, size in items)
