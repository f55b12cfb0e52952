"""Where memories stand on disk: one SQLite file of texts, vectors and JSON.

The stores that mem0 brings for a folder keep pickles, and none is loaded here. Invariant: a memory belongs to one user;
what is deleted is overwritten; a write is whole or not there, whoever is killed; several processes may use one file.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import StepFailed

_WAIT = 30.0
"""Seconds that a write waits for those of other processes."""
_TABLE = """
create table if not exists memory (
    number integer primary key, id text unique not null, user text not null, digest text not null,
    vector blob not null, payload text not null, unique (user, digest)
)
"""


@dataclass(frozen=True)
class Kept:
    """A memory as mem0 reads one: `payload` holds `user_id`, the text as `data`, its `hash`, and dates."""

    id: str
    payload: Mapping[str, Any]
    score: float | None = None


class SQLiteStore:
    """mem0's interface of a vector store, over one file.

    Args:
        file: made when it is missing; None keeps everything in this process's memory.
        most: memories of a user; the oldest make way.
    """

    def __init__(self, file: Path | None, most: int = 1_000) -> None:
        self.file, self.most = file, most
        self._alone = None if file else sqlite3.connect(":memory:", check_same_thread=False)
        self._one_at_a_time = threading.Lock() if self._alone else nullcontext()

    def insert(
        self, vectors: Sequence[Sequence[float]], payloads: Sequence[Mapping[str, Any]], ids: Sequence[str]
    ) -> None:
        """Add memories, each of which a user has once."""
        with self._open() as table:
            for vector, payload, id_ in zip(vectors, payloads, ids, strict=True):
                user = payload["user_id"]
                blob = np.asarray(vector, "<f4").tobytes()
                row = (id_, user, payload["hash"], blob, json.dumps(dict(payload)))
                table.execute(
                    "insert or ignore into memory (id, user, digest, vector, payload) values (?,?,?,?,?)", row
                )
                table.execute(
                    "delete from memory where user = ? and number not in "
                    "(select number from memory where user = ? order by number desc limit ?)",
                    (user, user, self.most),
                )

    def search(
        self, query: str, vectors: Sequence[float], top_k: int = 5, filters: Mapping[str, Any] | None = None
    ) -> list[Kept]:
        """The nearest memories of the user in `filters`, by the cosine of vectors of length 1."""
        del query
        rows = self._rows(filters)
        if not rows:
            return []
        known = np.stack([np.frombuffer(blob, "<f4") for _, blob, _ in rows])
        scores = known @ np.asarray(vectors, "<f4")
        best = sorted(range(len(rows)), key=lambda at: (-scores[at], at))[:top_k]
        return [Kept(rows[at][0], json.loads(rows[at][2]), float(scores[at])) for at in best]

    def keyword_search(self, *_: Any, **__: Any) -> None:
        """mem0's word for a store without one."""

    def list(self, filters: Mapping[str, Any] | None = None, top_k: int | None = None) -> list[list[Kept]]:
        """The memories of the user in `filters`, oldest first, in a list of one list."""
        return [[Kept(id_, json.loads(payload)) for id_, _, payload in self._rows(filters)[:top_k]]]

    def get(self, vector_id: str) -> Kept | None:
        """A memory by its id."""
        with self._open() as table:
            row = table.execute("select id, payload from memory where id = ?", (vector_id,)).fetchone()
        return Kept(row[0], json.loads(row[1])) if row else None

    def update(
        self, vector_id: str, vector: Sequence[float] | None = None, payload: Mapping[str, Any] | None = None
    ) -> None:
        """Replace vector or payload."""
        with self._open() as table:
            if vector is not None:
                table.execute(
                    "update memory set vector = ? where id = ?", (np.asarray(vector, "<f4").tobytes(), vector_id)
                )
            if payload is not None:
                table.execute(
                    "update or replace memory set payload = ?, digest = ? where id = ?",
                    (json.dumps(dict(payload)), payload["hash"], vector_id),
                )

    def delete(self, vector_id: str) -> None:
        """Take a memory out and overwrite where it stood."""
        with self._open() as table:
            table.execute("delete from memory where id = ?", (vector_id,))

    def clear(self, user: str) -> int:
        """Take out all memories of a user; returns their number."""
        with self._open() as table:
            return table.execute("delete from memory where user = ?", (user,)).rowcount

    def by_digest(self, user: str, digest: str) -> str | None:
        """The id of a user's memory of this text."""
        with self._open() as table:
            row = table.execute("select id from memory where user = ? and digest = ?", (user, digest)).fetchone()
        return row[0] if row else None

    def _rows(self, filters: Mapping[str, Any] | None) -> Sequence[tuple[str, bytes, str]]:
        given = dict(filters or {})
        user = given.pop("user_id", None)
        if given or not isinstance(user, str):
            raise StepFailed(f"Memories are looked for by user alone, not by {dict(filters or {})!r}. Give a user_id.")
        with self._open() as table:
            return table.execute(
                "select id, vector, payload from memory where user = ? order by number", (user,)
            ).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction, in a connection of its own where there is a file: threads and processes share none."""
        try:
            with self._one_at_a_time:
                table = self._alone or sqlite3.connect(self.file or "", timeout=_WAIT)
                try:
                    table.execute("pragma secure_delete = on")
                    with table:
                        table.execute(_TABLE)
                        yield table
                finally:
                    if table is not self._alone:
                        table.close()
        except sqlite3.Error as error:
            raise StepFailed(
                f"The memories in {self.file} cannot be read or written: {error}. Free space, or move the file away."
            ) from None


Embed = Callable[[Sequence[str]], Any]
"""Texts to an array of (texts, dimensions), vectors of length 1."""
