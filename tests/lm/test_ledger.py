"""The ledger: what was answered stays answered, through threads, forks, processes, and whatever is done to its file."""

import copy
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import LedgerError
from cascade.lm.answers import Answer
from cascade.lm.ledger import Keeping, Ledger
from cascade.lm.ledger_file import connect

ANSWER = Answer("lm15", {"text": "é", "usage": {"prompt_tokens": 3}}, 3, 2, 0.25, 1.5)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "deep" / "ledger.db")
    yield ledger
    ledger.close()


def add(ledger: Ledger, key: str, answer: Answer = ANSWER) -> None:
    ledger.add(key, answer, model="m", role="task")


def execute(path: Path, *statements: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Do to a ledger's file what another program might."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            found = [connection.execute(*statement).fetchall() for statement in statements]
    finally:
        connection.close()
    return found[-1]


@pytest.mark.parametrize(
    "answer", [ANSWER, Answer("json", "text", 0, 0, None, 0.0), Answer("litellm", [1, None], 1, 1, 0.0, 2.0)]
)
def test_an_answer_comes_back_as_it_was(ledger: Ledger, answer: Answer) -> None:
    assert ledger.find("k") is None
    add(ledger, "k", answer)
    assert ledger.find("k") == answer
    assert ledger.find("other") is None
    assert len(ledger) == 1


def test_it_is_still_there_after_closing(ledger: Ledger) -> None:
    add(ledger, "k")
    ledger.close()
    assert ledger.find("k") == ANSWER
    with Ledger(ledger.path) as other:
        assert other.find("k") == ANSWER


def test_a_ledger_is_never_copied(ledger: Ledger) -> None:
    assert copy.deepcopy([ledger])[0] is ledger


@pytest.mark.parametrize(("safe", "level"), [(True, 2), (False, 1)])
def test_how_surely_answers_are_kept_is_a_choice(tmp_path: Path, safe: bool, level: int) -> None:
    """2 is SQLite's FULL: the disk is waited for."""
    connection = connect(tmp_path / "ledger.db", safe=safe)
    assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    connection.close()
    assert Keeping().safe


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff\xfe", "{half"])
def test_a_damaged_row_is_a_miss_and_can_be_answered_again(ledger: Ledger, damage: object) -> None:
    add(ledger, "k")
    execute(ledger.path, ("UPDATE calls SET answer = ?", (damage,)))
    assert ledger.find("k") is None
    add(ledger, "k")
    assert ledger.find("k") == ANSWER
    assert len(ledger) == 1


@pytest.mark.parametrize("column", ["kind", "model", "input_tokens", "seconds", "cost_usd", "used", "at"])
@pytest.mark.parametrize("damage", ["CAST(x'ff00fe' AS TEXT)", "x'00ff'", "'text'", "-7"])
def test_bytes_of_any_kind_in_any_column_never_raise(ledger: Ledger, column: str, damage: str) -> None:
    add(ledger, "k")
    execute(ledger.path, (f"UPDATE calls SET {column} = {damage}",))
    ledger.find("k")
    add(ledger, "k")
    assert ledger.find("k") == ANSWER


def test_many_threads_write_and_read_at_once(ledger: Ledger) -> None:
    wrong: list[str] = []

    def work(start: int) -> None:
        for number in range(50):
            key = f"{start} {number}"
            add(ledger, key, Answer("json", key, 1, 1, None, 0.1))
            found = ledger.find(key)
            if not found or found.record != key:
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(ledger) == 400


_WRITER = """
import sys
from pathlib import Path
from cascade.lm.answers import Answer
from cascade.lm.ledger import Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(150):
        ledger.add(f"{sys.argv[2]} {number}", Answer("json", {"n": number}, 1, 1, None, 0.1), model="m", role="task")
        ledger.add(f"both {number}", Answer("json", {"n": number}, 1, 1, None, 0.1), model="m", role="task")
"""


def test_processes_that_make_the_file_and_write_at_once_lose_nothing(ledger: Ledger) -> None:
    command = [sys.executable, "-c", _WRITER, str(ledger.path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two", "three")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(ledger) == 600
    assert ledger.find("both 149") == Answer("json", {"n": 149}, 1, 1, None, 0.1)


_ENDLESS = """
import itertools, sys, threading
from pathlib import Path
from cascade.lm.answers import Answer
from cascade.lm.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.open()
def work(start):
    for number in itertools.count():
        ledger.add(f"{start} {number}", Answer("json", number, 1, 1, None, 0.1), model="m", role="task")
        sys.stdout.write(f"{start} {number}\\n")
        sys.stdout.flush()
for start in range(4):
    threading.Thread(target=work, args=(start,)).start()
"""


def test_whatever_was_used_before_a_kill_is_there_after_it(ledger: Ledger) -> None:
    child = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(ledger.path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    told = [child.stdout.readline() for _ in range(200)]
    child.send_signal(signal.SIGKILL)
    told += child.stdout.read().splitlines(keepends=True)
    child.wait()
    child.stdout.close()
    keys = [line.strip() for line in told if line.endswith("\n")]
    assert len(keys) >= 200
    assert [key for key in keys if ledger.find(key) is None] == []


def test_a_forked_process_goes_on_by_itself(ledger: Ledger) -> None:
    add(ledger, "before")
    assert ledger.claims.take("a" * 64)
    pid = os.fork()
    if pid == 0:
        try:
            fine = ledger.find("before") == ANSWER and not ledger.claims.take("a" * 64) and ledger.claims.take("b" * 64)
            add(ledger, "of the child")
            os._exit(0 if fine and ledger.find("of the child") == ANSWER else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert ledger.find("of the child") == ANSWER
    assert not ledger.claims.take("a" * 64)
    assert ledger.claims.take("b" * 64)


_FIRST = """
CREATE TABLE calls (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, role TEXT NOT NULL, kind TEXT NOT NULL, answer BLOB NOT NULL,
  input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost_usd REAL, seconds REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""


def test_a_ledger_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    row = ("k", "m", "task", "json", b'"old"', 1, 2, None, 0.5, 1e9)
    execute(path, ("PRAGMA journal_mode = WAL",), (_FIRST,), ("INSERT INTO calls VALUES (?,?,?,?,?,?,?,?,?,?)", row))
    for _ in range(2):
        with Ledger(path) as ledger:
            assert ledger.find("k") == Answer("json", "old", 1, 2, None, 0.5)
            add(ledger, "new")
            assert len(ledger) == 2
    assert execute(path, ("PRAGMA auto_vacuum",)) == [(2,)]
    assert execute(path, ("SELECT at, used FROM calls WHERE key = 'k'",)) == [(1e9, 1e9)]


def other_database(path: Path) -> None:
    execute(path, ("CREATE TABLE calls (name TEXT)",), ("CREATE TABLE notes (name TEXT)",))


def newer(path: Path) -> None:
    Ledger(path).open()
    execute(path, ("PRAGMA user_version = 9",))


def truncated(path: Path) -> None:
    with Ledger(path) as ledger:
        for number in range(60):
            add(ledger, f"{number}", Answer("json", "x" * 900, 1, 1, None, 0.1))
    os.truncate(path, path.stat().st_size // 2)


WRONG: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "text": (
        lambda path: path.write_text("these are my notes, and long enough to be looked at as a database" * 30),
        ["is no ledger: file is not a database", "Move the file away to start a new one."],
    ),
    "bytes": (lambda path: path.write_bytes(bytes(range(256)) * 40), ["is no ledger", "Move the file away"]),
    "another program's database": (other_database, ["is another program's database (calls, notes)", "Move it away"]),
    "a newer version": (newer, ["written by a newer cascade: its version is 9", "Upgrade cascade"]),
    "a folder": (lambda path: path.mkdir(), ["is a folder", "Move it away"]),
    "truncated": (truncated, ["is damaged: database disk image is malformed", "`cascade ledger check --repair`"]),
}


@pytest.mark.parametrize(("wrong", "told"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_ledger_is_named_with_the_fix_and_left_alone(
    tmp_path: Path, wrong: Callable[[Path], object], told: list[str]
) -> None:
    path = tmp_path / "ledger.db"
    wrong(path)
    before = path.read_bytes() if path.is_file() else b""
    for use in (Ledger.open, lambda ledger: ledger.find("k"), lambda ledger: add(ledger, "k")):
        with pytest.raises(LedgerError) as caught:
            use(Ledger(path))
        message = str(caught.value)
        assert message.startswith(f"The ledger {path} ")
        assert [part for part in told if part not in message] == []
        assert "\n" not in message
    if path.is_file():
        assert path.read_bytes() == before


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with Ledger(path) as ledger:
        add(ledger, "k")
        assert ledger.find("k") == ANSWER


def test_a_folder_that_cannot_be_made_is_a_ledger_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"The ledger .*file/ledger\.db cannot be opened: .*folder writable\."):
        Ledger(tmp_path / "file" / "ledger.db").find("k")


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """As a user who may read the folder and its files and no more; root may do everything otherwise."""
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize("there", [True, False])
def test_a_ledger_that_may_not_be_written_is_named_before_it_is_used(there: bool) -> None:
    with tempfile.TemporaryDirectory() as made:  # not tmp_path: others may not even look into that
        folder = Path(made) / "home"
        folder.mkdir()
        Path(made).chmod(0o755)
        if there:
            with Ledger(folder / "ledger.db") as ledger:
                add(ledger, "k")
        with without_rights(folder), pytest.raises(LedgerError, match=r"cannot be opened: .* Make the file and its"):
            Ledger(folder / "ledger.db").open()


def test_a_damaged_page_loses_its_rows_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(400):
            add(ledger, f"{number:064}", Answer("json", "x" * 900, 1, 1, None, 0.1))
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    with Ledger(path) as ledger:
        found = [ledger.find(f"{number:064}") is not None for number in range(400)]
    assert 300 < sum(found) < 400


def test_an_answer_found_counts_as_used_when_its_run_began(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        add(ledger, "old")
        add(ledger, "older")
    with Ledger(path, Keeping(began=4e9)) as ledger:
        assert ledger.find("old")
        add(ledger, "new")
    moments = dict(execute(path, ("SELECT key, used FROM calls",)))
    assert moments["old"] == moments["new"] == 4e9  # also: a clock that was put back makes no answer look old
    assert moments["older"] < 4e9


def test_use_is_noted_also_by_a_run_that_asks_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        for number in range(200):
            add(ledger, f"{number}")
    ledger = Ledger(path, Keeping(began=4e9))
    assert all(ledger.find(f"{number}") for number in range(200))
    ((noted,),) = execute(path, ("SELECT count(*) FROM calls WHERE used = 4e9",))
    assert 200 - 64 <= noted <= 200
    ledger.close()
    assert execute(path, ("SELECT count(*) FROM calls WHERE used = 4e9",)) == [(200,)]


def filled(path: Path, count: int, keeping: Keeping, first: int = 0) -> Ledger:
    ledger = Ledger(path, keeping)
    for number in range(first, first + count):
        add(ledger, f"{number}", Answer("json", "x" * 1000, 1, 1, None, 0.1))
    return ledger


def test_at_its_limit_the_answers_used_longest_ago_go_first(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "ledger.db"
    filled(path, 500, Keeping(began=1e9)).close()
    keeping = Keeping(limit=500_000, began=4e9, warn=told.append)
    with Ledger(path, keeping) as ledger:
        kept = [number for number in range(500) if ledger.find(f"{number}")]
        assert 200 < len(kept) < 450
    assert kept == list(range(500 - len(kept), 500))
    with filled(path, 400, keeping, first=500) as ledger:
        assert all(ledger.find(f"{number}") for number in range(700, 900))
        assert not any(ledger.find(f"{number}") for number in range(100))
    assert path.stat().st_size < 1_000_000
    assert (
        len([sentence for sentence in told if "limit of 0.0005 GB: answers that were used longest ago" in sentence])
        == 2
    )


def test_what_a_run_that_is_not_over_may_need_is_never_dropped_and_the_run_is_named(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "ledger.db"
    filled(path, 100, Keeping(began=1e9)).close()
    execute(path, ("UPDATE calls SET used = 1e9",))
    filled(path, 300, Keeping(began=4e9), first=100).close()
    runs = {"qa 20261122-031500-4f2a": 3.9e9}
    keeping = Keeping(limit=100_000, began=4.1e9, unfinished=lambda: runs, warn=told.append)
    with filled(path, 50, keeping, first=400) as ledger:
        assert [number for number in range(450) if ledger.find(f"{number}")] == list(range(100, 450))
    assert len(told) == 2
    assert "runs that are not over may need what is left: qa 20261122-031500-4f2a." in told[1]
    assert "`ledger_gb`" in told[1]


def test_below_its_limit_nothing_goes_and_nothing_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    with filled(tmp_path / "ledger.db", 200, Keeping(limit=10**9, began=4e9, warn=told.append)) as ledger:
        assert len(ledger) == 200
    assert told == []
