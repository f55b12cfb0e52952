"""Upkeep: what is dropped, what is never dropped, what a damaged file still holds, and a run that goes on beside it."""

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_answers import RECORD

from cascade.errors import LedgerError
from cascade.lm import upkeep
from cascade.lm.answers import Answer
from cascade.lm.checking import look, repair
from cascade.lm.ledger import Ledger
from cascade.lm.upkeep import Which


def filled(path: Path, count: int, model: str = "m", cost: float | None = 0.5) -> None:
    """Answers used at 0, 1, 2 … seconds since 1970."""
    with Ledger(path) as ledger:
        have = len(ledger)
        for number in range(have, have + count):
            answer = Answer("lm15", {**RECORD, "raw": "x" * 900}, 3, 2, cost, 0.1)
            ledger.add(f"{number:064}", answer, model=model, role="task" if number % 2 else "prompt")
        with ledger.connection() as connection:
            connection.execute("UPDATE calls SET used = CAST(key AS REAL) WHERE used > 1e9")


def keys(path: Path) -> list[int]:
    with Ledger(path) as ledger, ledger.connection() as connection:
        return sorted(int(key) for (key,) in connection.execute("SELECT key FROM calls"))


DROPPED: list[tuple[Which, list[int]]] = [
    (Which(before=5.0), [5, 6, 7, 8, 9]),
    (Which(before=0.0), list(range(10))),
    (Which(model="other"), [0, 1, 2, 3, 4, 5]),
    (Which(model="nobody's"), list(range(10))),
    (Which(before=8.0, model="other"), [0, 1, 2, 3, 4, 5, 8, 9]),
    (Which(before=8.0, kept_from=3.0), [3, 4, 5, 6, 7, 8, 9]),
    (Which(before=2.0, kept_from=7.0), [2, 3, 4, 5, 6, 7, 8, 9]),
    (Which(model="other", kept_from=7.0), [0, 1, 2, 3, 4, 5, 7, 8, 9]),
    (Which(kept_from=float("inf")), []),
]


@pytest.mark.parametrize(("which", "left"), DROPPED)
def test_what_is_asked_for_is_counted_and_dropped(tmp_path: Path, which: Which, left: list[int]) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 6)
    filled(path, 4, model="other")
    with Ledger(path) as ledger, ledger.connection() as connection:
        assert upkeep.count(connection, which) == 10 - len(left)
        assert upkeep.drop(connection, which) == 10 - len(left)
    assert keys(path) == left


@pytest.mark.parametrize("kept_from", [float("inf"), 600.0])
def test_shrinking_takes_the_oldest_and_gives_the_room_back(tmp_path: Path, kept_from: float) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 1200)
    before = path.stat().st_size
    with Ledger(path) as ledger, ledger.connection() as connection:
        expected = upkeep.shrink(connection, 500_000, kept_from, dry=True)
        assert len(keys(path)) == 1200
        dropped = upkeep.shrink(connection, 500_000, kept_from)
        assert (upkeep.size(connection) <= 500_000) is (kept_from > 1000)
        upkeep.give_back(connection)
        assert path.stat().st_size == upkeep.size(connection) < before * 0.6
    assert keys(path) == list(range(dropped, 1200))
    assert dropped == 600 or kept_from > 1000
    assert 0.9 * dropped <= expected <= 1.1 * dropped


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 30), st.integers(10_000, 60_000))
def test_whatever_is_protected_stays(tmp_path: Path, used: list[int], kept_from: int, limit: int) -> None:
    path = tmp_path / f"{time.monotonic_ns()}.db"
    filled(path, len(used))
    with Ledger(path) as ledger, ledger.connection() as connection:
        for number, moment in enumerate(used):
            connection.execute("UPDATE calls SET used = ? WHERE key = ?", (float(moment), f"{number:064}"))
        upkeep.shrink(connection, limit, float(kept_from))
        fits = upkeep.size(connection) <= limit
    left = keys(path)
    assert {number for number, moment in enumerate(used) if moment >= kept_from} <= set(left)
    assert fits or all(used[number] >= kept_from for number in left)
    dropped = [moment for number, moment in enumerate(used) if number not in left]
    unprotected = [used[number] for number in left if used[number] < kept_from]
    assert max(dropped, default=0) <= min(unprotected, default=30)


def test_a_run_beside_it_is_never_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 3000)
    wrong: list[Any] = []
    over = threading.Event()
    slowest = [0.0]

    def work() -> None:
        number = 0
        with Ledger(path) as ledger:
            while not over.is_set():
                number += 1
                begun = time.monotonic()
                try:
                    ledger.add(f"new {number}", Answer("lm15", RECORD, 1, 1, None, 0.1), model="m", role="task")
                    if ledger.find(f"new {number}") is None:
                        wrong.append(number)
                except LedgerError as error:
                    wrong.append(error)
                slowest[0] = max(slowest[0], time.monotonic() - begun)

    beside = threading.Thread(target=work)
    beside.start()
    try:
        with Ledger(path) as ledger, ledger.connection() as connection:
            assert upkeep.drop(connection, Which(before=1e6)) == 3000
            upkeep.give_back(connection)
        assert look(path, closely=True).damaged == []
    finally:
        over.set()
        beside.join()
    assert wrong == []
    assert slowest[0] < 5
    assert look(path, closely=True).wrong == ""


def test_calls_are_added_up_by_model_and_role(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 5)
    filled(path, 2, model="other", cost=None)
    found = look(path)
    assert [(each.model, each.role, each.calls, each.cost_usd) for each in found.calls] == [
        ("m", "prompt", 3, 1.5), ("m", "task", 2, 1.0), ("other", "task", 1, None), ("other", "prompt", 1, None),
    ]  # fmt: skip
    assert (found.calls[0].input_tokens, found.calls[0].output_tokens, found.calls[0].used) == (9, 6, 4.0)
    assert (found.damaged, found.wrong) == ([], "")


DAMAGE = [
    "answer = x'ff'", "answer = '[]'", "answer = '{}'", "kind = 'pickle'", "kind = 'json', answer = CAST('null' AS BLOB)",
    "model = x'00'", "key = x'01'", "used = 'soon'", "at = x'00'", "seconds = -1", "input_tokens = 'a'", "cost_usd = 'free'",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_found_and_dropped(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 4)
    with Ledger(path) as ledger, ledger.connection() as connection:
        connection.execute(f"UPDATE calls SET {damage} WHERE rowid = 2")
    found = look(path, closely=True)
    assert (found.damaged, found.wrong, sum(each.calls for each in found.calls)) == ([2], "", 3)
    assert repair(path, found) == "dropped 1 damaged rows"
    assert keys(path) == [0, 2, 3]
    assert look(path, closely=True).damaged == []


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share) // 4096 * 4096)


def overwritten(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    page = int(len(content) * share) // 4096 * 4096
    content[page : page + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)


BROKEN = [
    (cut, 0.9, 300),
    (cut, 0.5, 150),
    (cut, 0.02, 0),
    (overwritten, 0.5, 380),
    (overwritten, 0.9, 380),
    (overwritten, 0.0, 0),
]


@pytest.mark.parametrize(("broken", "share", "least"), BROKEN)
def test_what_a_damaged_file_still_holds_is_saved_and_the_file_is_kept(
    tmp_path: Path, broken: Any, share: float, least: int
) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 400)
    broken(path, share)
    damaged = path.read_bytes()
    try:
        found = look(path, closely=True)
    except LedgerError as error:  # nothing of a database is left
        assert share == 0.0
        assert "is no ledger" in str(error)
        return
    assert found.wrong
    done = repair(path, found)
    saved = int(done.split()[1])
    assert least <= saved < 400
    assert look(path, closely=True).wrong == ""
    left = keys(path)
    assert len(left) == saved
    with Ledger(path) as ledger:
        assert all(ledger.find(f"{number:064}") for number in left)
    (aside,) = (path for path in tmp_path.glob("ledger.db-damaged-*") if path.name[-1].isdigit())
    assert aside.read_bytes() == damaged


def test_a_damaged_file_is_not_taken_from_under_a_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    filled(path, 400)
    with Ledger(path):
        overwritten(path, 0.5)
        found = look(path, closely=True)
        assert found.wrong
        with pytest.raises(LedgerError, match=r"is in use\. Let the runs that use it end"):
            repair(path, found)
    assert repair(path, found).startswith("saved ")


def test_looking_at_another_program_s_file_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute("CREATE TABLE notes (name TEXT)")
    connection.close()
    with pytest.raises(LedgerError, match="another program's database"):
        look(tmp_path / "ledger.db", closely=True)
