"""What a ledger holds and what of it is dropped.

Invariant: rows are dropped in small bites, each a transaction of its own, so that a run beside it never waits for long,
and never those that a run that is not over may need, unless that is asked for.
"""

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Any

BITE = 500
"""Rows in one transaction."""
_DROP_OLDEST = "DELETE FROM calls WHERE rowid IN (SELECT rowid FROM calls WHERE used < ? ORDER BY used LIMIT ?)"


@dataclass(frozen=True)
class Which:
    """Answers to drop; conditions add up.

    Args:
        before: used last before this moment, in seconds since 1970.
        model: of this model string.
        kept_from: not those used at this moment or later, whatever else is asked.
    """

    before: float | None = None
    model: str | None = None
    kept_from: float | None = None

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """For a WHERE, with its values."""
        moments = [moment for moment in (self.before, self.kept_from) if moment is not None]
        parts: list[tuple[str, Any]] = [("used < ?", min(moments))] if moments else []
        parts += [("model = ?", self.model)] if self.model is not None else []
        return " AND ".join(text for text, _ in parts) or "1", [value for _, value in parts]


def size(connection: sqlite3.Connection) -> int:
    """Bytes that answers take; a file keeps the room of those that were dropped until `give_back`."""
    pages, free, each = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * each)


def count(connection: sqlite3.Connection, which: Which) -> int:
    """How many `drop` would drop."""
    condition, values = which.condition
    return int(connection.execute(f"SELECT count(*) FROM calls WHERE {condition}", values).fetchone()[0])


def drop(connection: sqlite3.Connection, which: Which) -> int:
    """Drop answers; returns how many."""
    condition, values = which.condition
    bite = f"DELETE FROM calls WHERE rowid IN (SELECT rowid FROM calls WHERE {condition} LIMIT {BITE})"
    dropped = 0
    while taken := connection.execute(bite, values).rowcount:
        dropped += taken
    return dropped


def shrink(connection: sqlite3.Connection, limit: int, kept_from: float, *, dry: bool = False) -> int:
    """Drop answers, those used longest ago first, until the rest takes at most `limit` bytes; returns how many.

    Args:
        kept_from: what was used at this moment or later stays, also above the limit.
        dry: drop nothing; the number is an estimate.
    """
    rows, dropped = count(connection, Which()), 0
    while (excess := size(connection) - limit) > 0 and dropped < rows:
        wanted = math.ceil(excess / size(connection) * (rows - dropped))
        if dry:
            return min(wanted, count(connection, Which(before=kept_from)))
        taken = connection.execute(_DROP_OLDEST, (kept_from, min(wanted, BITE))).rowcount
        if not taken:
            break
        dropped += taken
    return dropped


def give_back(connection: sqlite3.Connection) -> None:
    """Give the room of dropped answers back to the disk, a little at a time."""
    while connection.execute("PRAGMA freelist_count").fetchone()[0]:
        before = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        if connection.execute("PRAGMA page_count").fetchone()[0] >= before:
            break
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def drop_rows(connection: sqlite3.Connection, numbers: list[int]) -> None:
    """Drop rows by number."""
    for start in range(0, len(numbers), BITE):
        bite = json.dumps(numbers[start : start + BITE])
        connection.execute("DELETE FROM calls WHERE rowid IN (SELECT value FROM json_each(?))", (bite,))
