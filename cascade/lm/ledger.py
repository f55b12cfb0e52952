"""Every answered LM call on disk, so that none is paid for twice.

Invariant: an answer is committed before it is used, and stored as JSON: reading a ledger runs no code, and a damaged
row is a call to make again, never a crash.
"""

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from cascade.lm import upkeep
from cascade.lm.answers import COLUMNS, Answer, from_row, to_blob
from cascade.lm.claims import Claims
from cascade.lm.commits import GroupCommit
from cascade.lm.ledger_file import ROW, connect, explained, is_damage, make
from cascade.redaction import redacted

_FIND = f"SELECT used, {', '.join(COLUMNS)} FROM calls WHERE key = ?"
_NOTE_USE = "UPDATE calls SET used = ? WHERE key IN (SELECT value FROM json_each(?))"
_USES_AT_ONCE = 64
"""Answers found whose use is not written down yet; a killed process forgets that many."""
_LOOKS = 64
"""How often the size is looked at while a ledger fills up to its limit."""


@dataclass(frozen=True)
class Keeping:
    """What a ledger keeps, and how surely.

    Args:
        limit: bytes of answers, above which those that were used longest ago are dropped; None: no limit.
        began: when the run began that the ledger serves, in seconds since 1970; what it needs counts as used then.
        unfinished: runs that are not over and when they began; what was used since is not dropped.
        safe: answers survive a power loss too, not only the death of the process.
        warn: told in a sentence when the limit is reached.
    """

    limit: int | None = None
    began: float = 0.0
    unfinished: Callable[[], Mapping[str, float]] = dict
    safe: bool = True
    warn: Callable[[str], None] = lambda _: None


class Ledger:
    """Answers by key in one SQLite file, for any number of threads and processes.

    Raises:
        LedgerError: the file is no ledger, or cannot be read or written.
    """

    def __init__(self, path: Path, keeping: Keeping | None = None) -> None:
        self.path = path
        self.keeping = keeping or Keeping()
        self._claims = Claims.of(path)
        self._opening = threading.RLock()
        self._process = 0
        self._readers: list[sqlite3.Connection] = []
        self._inherited: list[object] = []
        self._used: set[str] = set()
        self._unlooked = 0
        self._warned: set[str] = set()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ledger":
        return self

    def __enter__(self) -> "Ledger":
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Open the file, or make it, and bring it within its limit; done by itself when needed."""
        with self._opening:
            if self._process == os.getpid():
                return
            if self._process:  # a fork: connections must not be used, nor closed, on this side of it
                self._inherited += [self._readers, self._writer, self._claims]
                self._claims, self._readers = Claims.of(self.path), []
            try:
                self._open()
            except (sqlite3.Error, OSError) as error:
                self._claims.close()
                raise explained(self.path, error) from error
            except BaseException:
                self._claims.close()
                raise
            self._process = os.getpid()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._claims.open()
        self._writer = connect(self.path, safe=self.keeping.safe)
        try:
            with self._claims.alone():
                make(self._writer, self.path)
        except BaseException:
            self._writer.close()
            raise
        self._commits: GroupCommit[tuple[Any, ...] | None] = GroupCommit(self._write)
        self._keep_within()

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        with self._opening:
            if self._process != os.getpid():
                return
            with suppress(sqlite3.Error):  # what was used last is worth no error
                self._commits.add(None)
            self._process = 0
            while self._readers:
                self._readers.pop().close()
            self._writer.close()
            self._claims.close()

    @property
    def claims(self) -> Claims:
        """Which questions are being asked, here and in other processes."""
        if self._process != os.getpid():
            self.open()
        return self._claims

    def unclaim(self, key: str) -> None:
        """Give a claim back, also after the file was closed."""
        self._claims.free(key)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own, for upkeep; what goes wrong on it becomes a `LedgerError`."""
        self.open()
        try:
            with closing(connect(self.path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def find(self, key: str) -> Answer | None:
        """The answer to a request, or None; a row that cannot be read counts as None."""
        try:
            row = self._read(_FIND, key)
        except sqlite3.Error as error:
            if is_damage(error):
                return None
            raise explained(self.path, error) from error
        if row is None:
            return None
        answer = from_row(row[1:])
        if answer and type(row[0]) is float and row[0] < self.keeping.began:
            self._note_use(key)
        return answer

    def add(self, key: str, answer: Answer, *, model: str, role: str) -> None:
        """Commit an answer, in place of one that was there; a key that a model repeats is not written."""
        now = max(time.time(), self.keeping.began)  # a clock that was put back makes no answer look old
        row = (key, model, role, answer.kind, answer.input_tokens, answer.output_tokens, answer.cost_usd,
               answer.seconds, now, now, redacted(to_blob(answer.record).decode()).encode())  # fmt: skip
        self._commit(row)

    def __len__(self) -> int:
        return int(self._read("SELECT count(*) FROM calls")[0])

    def _read(self, query: str, *values: Any) -> Any:
        """The first row of a query, on a connection that no other thread uses at that moment."""
        if self._process != os.getpid():
            self.open()
        try:
            connection = self._readers.pop()
        except IndexError:
            connection = connect(self.path)
            connection.execute("PRAGMA cache_size = 64")
        try:
            row = connection.execute(query, values).fetchone()
        except BaseException:
            connection.close()
            raise
        self._readers.append(connection)
        return row

    def _note_use(self, key: str) -> None:
        self._used.add(key)
        if len(self._used) >= _USES_AT_ONCE:
            self._commit(None)

    def _commit(self, row: tuple[Any, ...] | None) -> None:
        if self._process != os.getpid():
            self.open()
        try:
            self._commits.add(row)
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def _write(self, rows: Sequence[tuple[Any, ...] | None]) -> None:
        """One transaction for all answers; one thread at a time."""
        answers = [row for row in rows if row is not None]
        if answers:
            self._writer.execute(_insert(len(answers)), [value for row in answers for value in row])
            self._unlooked += sum(len(row[-1]) for row in answers)
        if self._used:
            used, self._used = self._used, set()
            self._writer.execute(_NOTE_USE, (self.keeping.began, to_blob(list(used))))
        if self.keeping.limit is not None and self._unlooked > self.keeping.limit / _LOOKS:
            with suppress(sqlite3.OperationalError):  # what was to be written is written
                self._keep_within()

    def _keep_within(self) -> None:
        limit, self._unlooked = self.keeping.limit, 0
        if limit is None or upkeep.size(self._writer) <= limit:
            return
        unfinished = self.keeping.unfinished()
        dropped = upkeep.shrink(self._writer, limit, min(unfinished.values(), default=math.inf))
        if dropped:
            self._warn_once(
                f"The ledger has reached its limit of {limit / 1e9:g} GB: answers that were used longest ago are "
                "dropped. Runs that need them again pay again; set `ledger_gb` to keep more."
            )
        if unfinished and upkeep.size(self._writer) > limit:
            self._warn_once(
                f"The ledger is above its limit of {limit / 1e9:g} GB, because runs that are not over may need what "
                f"is left: {', '.join(unfinished)}. Let them end, or set `ledger_gb` higher."
            )

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            self.keeping.warn(sentence)


@cache
def _insert(rows: int) -> str:
    """A statement is a transaction, and lets other threads run once, however many rows it has."""
    values = f"({', '.join('?' * len(ROW))})"
    return f"INSERT OR REPLACE INTO calls ({', '.join(ROW)}) VALUES {', '.join([values] * rows)}"
