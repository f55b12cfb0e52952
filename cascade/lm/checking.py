"""Every row of a ledger, looked at: what it adds up to, what is damaged, and what a damaged file still holds.

Invariant: looking changes nothing, and a run may go on beside it; a damaged file is kept when it is replaced.
"""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cascade.errors import LedgerError
from cascade.lm.answers import COLUMNS, from_row, usable
from cascade.lm.claims import Claims
from cascade.lm.ledger import Ledger
from cascade.lm.ledger_file import ROW, connect, is_damage, make
from cascade.lm.upkeep import drop_rows

_BATCH = 500
_GAP = 50_000
"""Row numbers in a row that cannot be read, after which no more are looked for."""


@dataclass
class Calls:
    """Calls of one model in one role.

    Args:
        cost_usd: None when the price of any of them is not known.
        first, last: when the first and the last was paid for, `used` when a run last needed one; seconds since 1970.
    """

    model: str
    role: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    first: float = float("inf")
    last: float = 0.0
    used: float = 0.0

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        self.calls += 1
        self.input_tokens += row["input_tokens"]
        self.output_tokens += row["output_tokens"]
        cost = row["cost_usd"]
        self.cost_usd = None if self.cost_usd is None or cost is None else self.cost_usd + cost
        self.first, self.last = min(self.first, row["at"]), max(self.last, row["at"])
        self.used = max(self.used, row["used"])


@dataclass
class Found:
    """What stands in a ledger.

    Args:
        calls: by model and role, most calls first.
        damaged: numbers of rows that count as not there.
        wrong: what is the matter with the file itself, or ""; then nothing else is known.
    """

    calls: list[Calls] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    wrong: str = ""


def look(path: Path, *, closely: bool = False) -> Found:
    """Read every row.

    Args:
        closely: look for damage of the file itself too.

    Raises:
        LedgerError: the file is no ledger, or cannot be read; with `closely`, damage is found and not raised.
    """
    found: dict[tuple[str, str], Calls] = {}
    damaged: list[int] = []
    try:
        with Ledger(path) as ledger, ledger.connection() as connection:
            wrong = _integrity(connection) if closely else ""
            for number, row in _rows(connection) if not wrong else ():
                if row is None:
                    damaged.append(number)
                else:
                    at = (row["model"], row["role"])
                    found.setdefault(at, Calls(*at)).add(row)
    except LedgerError as error:
        if not (closely and isinstance(error.__cause__, sqlite3.Error) and is_damage(error.__cause__)):
            raise
        return Found(wrong=str(error.__cause__))
    return Found(sorted(found.values(), key=lambda calls: -calls.calls), damaged, wrong)


def repair(path: Path, found: Found) -> str:
    """Drop damaged rows, or save what can be read of a damaged file into a new one; returns what was done.

    Raises:
        LedgerError: a process uses the damaged file.
    """
    if not found.wrong:
        with Ledger(path) as ledger, ledger.connection() as connection:
            drop_rows(connection, found.damaged)
        return f"dropped {len(found.damaged)} damaged rows"
    claims = Claims.of(path)
    claims.open()
    try:
        if not claims.only_user():
            raise LedgerError(f"The ledger {path} is in use. Let the runs that use it end, and repair it then.")
        saved, aside = _salvage(path)
    finally:
        claims.close()
    return f"saved {saved} answers into a new file; the damaged one is {aside}"


def _salvage(path: Path) -> tuple[int, Path]:
    fresh = path.with_name(f"{path.name}-new")
    aside = path.with_name(f"{path.name}-damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    for part in _parts(fresh):
        part.unlink(missing_ok=True)
    source, target = connect(path, damaged=True), connect(fresh)
    try:
        make(target, fresh)
        saved = _copy(source, target)
    finally:
        source.close()
        target.close()
    for part, kept in zip(_parts(path), _parts(aside), strict=True):  # a log left behind would be read into the new one
        if part.exists():
            part.rename(kept)
    fresh.rename(path)
    return saved, aside


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> int:
    saved = 0
    insert = f"INSERT OR IGNORE INTO calls ({', '.join(ROW)}) VALUES ({', '.join('?' * len(ROW))})"
    target.execute("BEGIN")
    for values in _readable(source):
        if _call(values) is not None:
            saved += target.execute(insert, values).rowcount
    target.execute("COMMIT")
    return saved


def _readable(source: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Rows in order; where a page is damaged, number after number until one can be read again."""
    query = f"SELECT rowid, {', '.join(ROW)} FROM calls NOT INDEXED WHERE rowid "
    number, missed = -1, 0
    while missed < _GAP:
        try:
            if missed:
                row = source.execute(f"{query} = ?", (number + missed,)).fetchone()
            else:
                row = source.execute(f"{query} > ? ORDER BY rowid LIMIT 1", (number,)).fetchone()
                if row is None:
                    return
        except sqlite3.DatabaseError:
            row = None
        if row is None:
            missed += 1
        else:
            number, missed = row[0], 0
            yield row[1:]


def _integrity(connection: sqlite3.Connection) -> str:
    said = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return "" if said == "ok" else " ".join(said.split())


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Number and columns of every row, in batches: a long transaction would keep a run's log from being emptied."""
    query = f"SELECT rowid, {', '.join(ROW)} FROM calls NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT {_BATCH}"
    last = -(1 << 62)
    while batch := connection.execute(query, (last,)).fetchall():
        for number, *values in batch:
            yield number, _call(values)
        last = batch[-1][0]


def _call(values: Any) -> dict[str, Any] | None:
    """The columns by name, or None if any is not as it was written or the answer is none that DSPy can use."""
    row = dict(zip(ROW, values, strict=True))
    texts = all(isinstance(row[name], str) for name in ("key", "model", "role"))
    moments = all(isinstance(row[name], float) for name in ("at", "used"))
    answer = from_row([row[name] for name in COLUMNS])
    return row if texts and moments and answer and usable(answer) else None


def _parts(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
