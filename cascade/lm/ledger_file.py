"""The ledger's file: known from others, made, brought up to date, opened.

Invariant: a file that is no ledger is never written to, and whatever is wrong with one is said in a line with the fix.
"""

import sqlite3
from pathlib import Path

from cascade.errors import LedgerError

ROW = (
    "key", "model", "role", "kind", "input_tokens", "output_tokens", "cost_usd", "seconds", "at", "used", "answer",
)  # fmt: skip
"""Columns of a call. `at` is when it was paid for, `used` when a run began that needed it."""
_SCHEMA = """
CREATE TABLE calls (
  key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, role TEXT NOT NULL, kind TEXT NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost_usd REAL, seconds REAL NOT NULL,
  at REAL NOT NULL, used REAL NOT NULL, answer BLOB NOT NULL
)
"""
_APPLICATION, _VERSION = int.from_bytes(b"cscd", "big"), 2
_FIRST_ROW = {"key", "model", "role", "kind", "answer", "input_tokens", "output_tokens", "cost_usd", "seconds", "at"}
_FOREIGN = -1


def connect(path: Path, *, safe: bool = False, damaged: bool = False) -> sqlite3.Connection:
    """A connection for one thread at a time, on which each statement is a transaction.

    Args:
        safe: what is committed survives a power loss too.
        damaged: read on although the file is shorter than it says.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    if damaged:
        connection.execute("PRAGMA writable_schema = ON")
    connection.execute(f"PRAGMA synchronous = {'FULL' if safe else 'NORMAL'}")
    return connection


def make(connection: sqlite3.Connection, path: Path) -> None:
    """See that the file is a ledger of this version that can be written to; called by one process at a time.

    Raises:
        LedgerError: it is something else.
        sqlite3.Error: it is damaged or cannot be written to.
    """
    tables = _tables(connection)
    version = _version(connection, tables)
    if version == _FOREIGN:
        found = ", ".join(tables) or "no tables"
        raise LedgerError(
            f"The ledger {path} is another program's database ({found}). Move it away to start a new one."
        )
    if version > _VERSION:
        raise LedgerError(
            f"The ledger {path} was written by a newer cascade: its version is {version}, the newest known here "
            f"{_VERSION}. Upgrade cascade, or set another CASCADE_HOME."
        )
    if version < _VERSION:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")  # fails for a file that cannot be written to
    if version < _VERSION:
        _create(connection, old="calls" in tables)
    connection.execute("COMMIT")
    if version == 1:
        connection.execute("VACUUM")  # applies `auto_vacuum`


def explained(path: Path, error: Exception) -> LedgerError:
    """What is wrong, in a line with the fix."""
    code = _code(error)
    if path.is_dir():
        return LedgerError(f"The ledger {path} is a folder. Move it away to start a new ledger.")
    if code == sqlite3.SQLITE_NOTADB:
        return LedgerError(f"The ledger {path} is no ledger: {error}. Move the file away to start a new one.")
    if code == sqlite3.SQLITE_CORRUPT:
        return LedgerError(
            f"The ledger {path} is damaged: {error}. `cascade ledger check --repair` saves what can be read."
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return LedgerError(
            f"The ledger {path} cannot be written: {error}. Free disk space and run again: what was answered is kept."
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or isinstance(error, OSError):
        return LedgerError(f"The ledger {path} cannot be opened: {error}. Make the file and its folder writable.")
    return LedgerError(f"The ledger {path} cannot be used: {error}. Move the file away to start a new one.")


def is_damage(error: sqlite3.Error) -> bool:
    """Whether pages of the file are not as SQLite wrote them."""
    return _code(error) == sqlite3.SQLITE_CORRUPT


def _code(error: Exception) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _text(data: bytes) -> str:
    """Whatever bytes stand where text belongs."""
    return data.decode("utf-8", "replace")


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def _version(connection: sqlite3.Connection, tables: list[str]) -> int:
    """0 for a file without anything, 1 for the first, unmarked one."""
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    columns = {row[1] for row in connection.execute("PRAGMA table_info(calls)")}
    if application == _APPLICATION:
        return int(version) if version > _VERSION or columns == set(ROW) else _FOREIGN
    if application == 0 and not tables:
        return 0
    return 1 if application == 0 and columns == _FIRST_ROW else _FOREIGN


def _create(connection: sqlite3.Connection, *, old: bool) -> None:
    if old:
        connection.execute("ALTER TABLE calls RENAME TO first_calls")
    connection.execute(_SCHEMA)
    connection.execute("CREATE INDEX calls_by_use ON calls (used)")
    if old:
        source = ", ".join("at" if name == "used" else name for name in ROW)
        connection.execute(f"INSERT INTO calls ({', '.join(ROW)}) SELECT {source} FROM first_calls")
        connection.execute("DROP TABLE first_calls")
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
