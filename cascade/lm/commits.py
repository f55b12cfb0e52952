"""Many threads write at once, one transaction takes it all.

The first to come writes what has gathered; who comes meanwhile waits, and one of them writes the next batch. There is
no thread and no timer: alone, a thread writes at once.

Invariant: `add` returns when the row is written, and raises when it is not.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Row = TypeVar("Row")
LARGEST = 500
"""Rows in one transaction."""


class _Ticket(Generic[Row]):
    """One row on its way; `turn` is released when it is written, or when its thread is to write."""

    __slots__ = ("done", "error", "row", "turn")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.done = False
        self.error: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit(Generic[Row]):
    """Rows of many threads, written together.

    Args:
        write: writes rows in one transaction; called by one thread at a time.
    """

    def __init__(self, write: Callable[[Sequence[Row]], None]) -> None:
        self._write = write
        self._waiting: list[_Ticket[Row]] = []
        self._busy = False
        self._lock = threading.Lock()

    def add(self, row: Row) -> None:
        """Write a row, with those of other threads; raises what `write` raised for its batch."""
        ticket = _Ticket(row)
        with self._lock:
            self._waiting.append(ticket)
            first, self._busy = not self._busy, True
        if not first:
            ticket.turn.acquire()
        if not ticket.done:
            self._write_batch()
        if ticket.error is not None:
            raise ticket.error

    def _write_batch(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
        error: BaseException | None = RuntimeError("The batch was not written.")
        try:
            self._write([ticket.row for ticket in batch])
            error = None
        except BaseException as raised:
            error = raised
        finally:
            with self._lock:
                heir = self._waiting[0] if self._waiting else None
                self._busy = heir is not None
            for ticket in batch:
                ticket.done, ticket.error = True, error
                ticket.turn.release()
            if heir:
                heir.turn.release()
