"""Every answered LM call on disk, so that none is paid for twice.

Invariant: an answer is committed before it is used, and stored as JSON: reading a ledger runs no code, and a damaged
row is a call to make again, never a crash.
"""

import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cascade.errors import LedgerError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, role TEXT NOT NULL, kind TEXT NOT NULL, answer BLOB NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost_usd REAL, seconds REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "kind, answer, input_tokens, output_tokens, cost_usd, seconds"


@dataclass(frozen=True)
class Answer:
    """What a model said and what it took.

    Args:
        kind: how DSPy stores it: `lm15`, `litellm` or `json`.
        record: the answer as JSON values.
        cost_usd: None when the price is not known.
        seconds: from request to answer.
    """

    kind: str
    record: Any
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float


class Ledger:
    """Answers by key in one SQLite file; safe for threads and processes.

    Raises:
        LedgerError: the file is no ledger, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Ledger":
        return self

    def find(self, key: str) -> Answer | None:
        """The answer to a request, or None; a row that cannot be read counts as None."""
        rows = self._execute(f"SELECT {_COLUMNS} FROM calls WHERE key = ?", (key,))
        if not rows:
            return None
        kind, answer, *numbers = rows[0]
        try:
            return Answer(kind, orjson.loads(answer), *numbers)
        except (orjson.JSONDecodeError, TypeError):
            return None

    def add(self, key: str, answer: Answer, *, model: str, role: str) -> None:
        """Commit an answer; the first one stays, unless it could not be read."""
        values = (key, model, role, answer.kind, orjson.dumps(answer.record, default=str), answer.input_tokens,
                  answer.output_tokens, answer.cost_usd, answer.seconds, time.time())  # fmt: skip
        self._execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def __len__(self) -> int:
        return int(self._execute("SELECT count(*) FROM calls")[0][0])

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._open().execute(statement, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                raise LedgerError(
                    f"The ledger {self.path} cannot be used: {error}. "
                    "Free disk space, or move the file away to start a new one."
                ) from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._owner != os.getpid():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_SCHEMA)
            self._owner = os.getpid()
        return self._connection

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
