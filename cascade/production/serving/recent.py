"""The last requests, so that feedback which comes later finds what it is about.

Invariant: bounded, in rows and in bytes, however many processes write; and written by a thread of its own. What cannot
be written waits in memory, as far as there is room; what is lost is only that feedback on a request can no longer be
recorded, and is counted.
"""

import asyncio
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from cascade.mlflow_store.served_traces import Answered
from cascade.production.serving.queues import Drain
from cascade.redaction import redacted

BYTES = 256_000_000
WAITING = 5_000
ROOM = 64_000_000
"""Bytes of requests that wait."""
_TABLE = """CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, kept TEXT NOT NULL)"""


@dataclass(frozen=True)
class Kept:
    """A request that feedback may come to.

    Args:
        answered: the request.
        test, key, share: of the A/B test that it belongs to; see `cascade.production.ab.outcomes.Said`.
    """

    answered: Answered
    test: str = ""
    key: str = ""
    share: float = 0.0


_KEPT: TypeAdapter[Kept] = TypeAdapter(Kept)
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
"""What is wrong with a file that is made anew: no database, a broken one, one of another form."""


class Recent:
    """The last requests of an experiment.

    Args:
        path: of the database; one that is damaged is made anew, and in place of one that cannot be opened is memory.
        rows: that are kept at most.
        bytes_: of the database at most.
        patience: seconds to wait for another process that writes.
        on_error: told what went wrong.
    """

    def __init__(
        self,
        path: Path,
        *,
        rows: int,
        bytes_: int = BYTES,
        patience: float = 10.0,
        on_error: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self.path, self.rows, self.bytes_ = path, rows, bytes_
        self._fresh: dict[str, Kept] = {}
        self._late: list[tuple[str, str]] = []
        self._lost = 0
        self._using = threading.Lock()
        self._database = _opened(path, patience, on_error)
        self.drain: Drain[Kept] = Drain(self._write, most=WAITING, room=ROOM, on_error=on_error)

    @property
    def dropped(self) -> int:
        """Requests for which there was no room."""
        return self.drain.dropped + self._lost

    def keep(self, kept: Kept, size: int = 0) -> None:
        """Keep a request of so many bytes; dropped where too many wait to be written."""
        self._fresh[kept.answered.request] = kept  # first: once it is offered, it may be written and taken out
        if not self.drain.offer(kept, size):
            del self._fresh[kept.answered.request]

    async def find(self, request: str) -> Kept | None:
        """A request by its id."""
        return self._fresh.get(request) or await asyncio.to_thread(self._read, request)

    def close(self, seconds: float) -> None:
        """Write what waits."""
        self.drain.close(seconds)
        with self._using:
            self._database.close()

    def _write(self, some: list[Kept]) -> None:
        """With what could not be written before, of which as much waits as may wait in the queue."""
        # At once, because that is what costs; JSON has no line ends but those between the texts.
        texts = redacted("\n".join(map(text_of, some))).split("\n")
        self._late += zip((kept.answered.request for kept in some), texts, strict=True)
        lost = _overflow([len(text) for _, text in self._late])
        self._forget(lost)
        self._lost += lost
        with self._using, self._database:
            self._database.executemany("INSERT OR IGNORE INTO requests (id, kept) VALUES (?, ?)", self._late)
            self._drop_oldest()
        self._forget(len(self._late))

    def _forget(self, number: int) -> None:
        """The oldest of those that waited to be written."""
        for request, _ in self._late[:number]:
            self._fresh.pop(request, None)
        del self._late[:number]

    def _drop_oldest(self) -> None:
        """Down to nine tenths of what is allowed, so that it is not done for every batch."""
        first, last = self._database.execute("SELECT MIN(number), MAX(number) FROM requests").fetchone()
        there, held = last - first + 1, self._held()
        if there <= self.rows and held <= self.bytes_:
            return
        allowed = min(0.9 * self.rows, 0.9 * there * self.bytes_ / max(held, 1))
        self._database.execute("DELETE FROM requests WHERE number <= ?", (last - int(allowed),))

    def _held(self) -> int:
        """Bytes, whoever wrote them."""
        size, pages, free = (
            int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "page_count", "freelist_count")
        )
        return size * (pages - free)

    def _read(self, request: str) -> Kept | None:
        with self._using:
            row = self._database.execute("SELECT kept FROM requests WHERE id = ?", (request,)).fetchone()
        try:
            return _KEPT.validate_json(row[0]) if row else None
        except ValidationError:
            return None


def _overflow(sizes: list[int]) -> int:
    """How many of the oldest are too many."""
    number, held = max(len(sizes) - WAITING, 0), sum(sizes)
    held -= sum(sizes[:number])
    while held > ROOM:
        held -= sizes[number]
        number += 1
    return number


def text_of(value: Any) -> str:
    """A dataclass as JSON; halves of characters, which a model may write and UTF-8 has not, become question marks."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return json.dumps(asdict(value), ensure_ascii=False, default=str).encode("utf-8", "replace").decode()


def _opened(path: Path, patience: float, on_error: Callable[[Exception], None]) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT, 0o600))
        try:
            return _connected(path, patience)
        except sqlite3.DatabaseError as error:
            # What is only locked or full is another server's, or will be of use again.
            if error.sqlite_errorcode & 0xFF not in _DAMAGED:
                raise
        for part in (path, *path.parent.glob(f"{path.name}-*")):
            part.unlink(missing_ok=True)
        os.close(os.open(path, os.O_CREAT, 0o600))
        return _connected(path, patience)
    except (OSError, sqlite3.Error) as error:  # to answer is worth more than to remember
        on_error(error)
        return _connected(":memory:", patience)


def _connected(path: Path | str, patience: float) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=patience, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")  # a power loss costs some requests, and not their answers
        with database:
            database.execute(_TABLE)
            database.execute("SELECT number, id, kept FROM requests LIMIT 1")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database
