"""The last requests, so that feedback which comes later finds what it is about.

Invariant: bounded, in rows and in bytes, and written by a thread of its own; what is lost is only that feedback on a
request can no longer be recorded.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cascade.mlflow_store.served_traces import Answered
from cascade.production.serving.queues import Drain
from cascade.redaction import redacted

BYTES = 256_000_000
WAITING = 5_000
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


class Recent:
    """The last requests of an experiment.

    Args:
        path: of the database; one that is damaged is made anew.
        rows: that are kept at most.
        bytes_: of all rows at most.
        on_error: told what went wrong.
    """

    def __init__(
        self, path: Path, *, rows: int, bytes_: int = BYTES, on_error: Callable[[Exception], None] = lambda _error: None
    ) -> None:
        self.path, self.rows, self.bytes_ = path, rows, bytes_
        self._fresh: dict[str, Kept] = {}
        self._using = threading.Lock()
        self._database = _opened(path)
        self._held = self._size()
        self.drain: Drain[Kept] = Drain(self._write, most=WAITING, on_error=on_error)

    def keep(self, kept: Kept) -> None:
        """Keep a request; dropped where too many wait to be written."""
        if self.drain.offer(kept):
            self._fresh[kept.answered.request] = kept

    async def find(self, request: str) -> Kept | None:
        """A request by its id."""
        return self._fresh.get(request) or await asyncio.to_thread(self._read, request)

    def close(self, seconds: float) -> None:
        """Write what waits."""
        self.drain.close(seconds)
        with self._using:
            self._database.close()

    def _write(self, some: list[Kept]) -> None:
        try:
            # At once, because that is what costs; JSON has no line ends but those between the texts.
            texts = redacted("\n".join(_KEPT.dump_json(kept).decode() for kept in some)).split("\n")
            with self._using, self._database:
                found = zip((kept.answered.request for kept in some), texts, strict=True)
                self._database.executemany("INSERT OR IGNORE INTO requests (id, kept) VALUES (?, ?)", found)
                self._held += sum(map(len, texts))
                self._drop_oldest()
        finally:
            for kept in some:
                self._fresh.pop(kept.answered.request, None)

    def _drop_oldest(self) -> None:
        """Down to nine tenths of what is allowed, so that it is not done for every batch."""
        first, last = self._database.execute("SELECT MIN(number), MAX(number) FROM requests").fetchone()
        there = last - first + 1
        if there <= self.rows and self._held <= self.bytes_:
            return
        allowed = min(0.9 * self.rows, 0.9 * there * self.bytes_ / max(self._held, 1))
        self._database.execute("DELETE FROM requests WHERE number <= ?", (last - int(allowed),))
        self._held = self._size()

    def _size(self) -> int:
        return int(self._database.execute("SELECT COALESCE(SUM(LENGTH(kept)), 0) FROM requests").fetchone()[0])

    def _read(self, request: str) -> Kept | None:
        with self._using:
            row = self._database.execute("SELECT kept FROM requests WHERE id = ?", (request,)).fetchone()
        try:
            return _KEPT.validate_json(row[0]) if row else None
        except ValidationError:
            return None


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connected(path)
    except sqlite3.DatabaseError:
        for part in (path, *path.parent.glob(f"{path.name}-*")):
            part.unlink(missing_ok=True)
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT, 0o600))
    database = sqlite3.connect(path, timeout=10, check_same_thread=False)
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
