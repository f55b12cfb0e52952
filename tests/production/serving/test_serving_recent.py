"""The last requests: found by their id, also by another process, and never more than there is room for."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest
from by_hand_versions import eventually

from cascade.mlflow_store.served_traces import Answered
from cascade.production.serving.recent import Kept, Recent


def kept(number: int, text: str = "hi") -> Kept:
    found = Answered(f"{number:032x}", 1.5, 0.25, "champion", "1", "m-1", {"q": text}, {"a": [1, {"b": None}]})
    return Kept(found, "t", "k", 0.1)


def find(recent: Recent, number: int) -> Kept | None:
    return asyncio.run(recent.find(f"{number:032x}"))


def test_a_request_is_found_at_once_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "qa" / "requests.db"
    recent = Recent(path, rows=100)
    recent.keep(kept(1))
    assert find(recent, 1) == kept(1)
    recent.close(20)
    again, beside = Recent(path, rows=100), Recent(path, rows=100)
    assert find(again, 1) == find(beside, 1) == kept(1)
    assert find(again, 2) is None
    assert os.stat(path).st_mode & 0o077 == 0
    for one in (again, beside):
        one.close(20)


@pytest.mark.parametrize(("rows", "bytes_"), [(50, 10**9), (10**9, 60_000)])
def test_the_oldest_make_room(tmp_path: Path, rows: int, bytes_: int) -> None:
    """Also of two processes that know nothing of each other."""
    path = tmp_path / "requests.db"
    pair = [Recent(path, rows=rows, bytes_=bytes_), Recent(path, rows=rows, bytes_=bytes_)]
    for number in range(600):
        pair[number % 2].keep(kept(number))
        if number % 20 == 0:
            eventually(lambda: not any(one.drain.waiting for one in pair))
    eventually(lambda: not any(one._fresh for one in pair))
    assert find(pair[0], 599) and find(pair[0], 580)
    assert find(pair[0], 0) is None and find(pair[1], 400) is None
    for one in pair:
        one.close(20)
    assert path.stat().st_size < 90_000


def test_what_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    path.write_bytes(b"this is no database" * 100)
    recent = Recent(path, rows=100)
    recent.keep(kept(1))
    recent.close(20)
    assert find(Recent(path, rows=100), 1) == kept(1)


def test_what_another_server_holds_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    first = Recent(path, rows=100)
    first.keep(kept(1))
    first.close(20)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    errors = list[str]()
    recent = Recent(path, rows=100, patience=0.1, on_error=lambda error: errors.append(str(error)))
    assert errors == ["database is locked"]
    recent.keep(kept(2))
    recent.close(20)
    holder.execute("COMMIT")
    assert holder.execute("SELECT COUNT(*) FROM requests").fetchone() == (1,)
    holder.close()


def test_a_place_that_cannot_be_written_keeps_no_server_from_answering(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    errors = list[Exception]()
    recent = Recent(tmp_path / "in the way" / "requests.db", rows=100, on_error=errors.append)
    assert len(errors) == 1
    recent.keep(kept(1))
    recent.drain.close(20)
    assert find(recent, 1) == kept(1)  # in memory


def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(tmp_path: Path) -> None:
    errors = list[str]()
    recent = Recent(tmp_path / "requests.db", rows=10_000, on_error=lambda error: errors.append(str(error)))
    pages = recent._database.execute("PRAGMA page_count").fetchone()[0]
    recent._database.execute(f"PRAGMA max_page_count = {pages}")  # as a full disk does
    recent.keep(kept(1, "x" * 50_000))
    eventually(lambda: errors == ["database or disk is full"])
    assert find(recent, 1) == kept(1, "x" * 50_000)
    recent._database.execute("PRAGMA max_page_count = 100000")
    recent.keep(kept(2))
    recent.close(20)
    again = Recent(tmp_path / "requests.db", rows=100)
    assert find(again, 1) and find(again, 2)
    assert recent._fresh == {} and recent.dropped == 0


def test_what_waits_for_room_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascade.production.serving.recent.WAITING", 10)
    recent = Recent(tmp_path / "requests.db", rows=10_000)
    recent._database.execute("PRAGMA query_only = 1")
    for number in range(30):
        recent.keep(kept(number))
        eventually(lambda: not recent.drain.waiting)
    eventually(lambda: recent.dropped == 20)
    assert len(recent._fresh) == 10 and find(recent, 29) == kept(29) and find(recent, 3) is None
    recent._database.execute("PRAGMA query_only = 0")
    recent.close(20)


def test_what_waits_has_a_bound_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascade.production.serving.recent.ROOM", 10_000)
    recent = Recent(tmp_path / "requests.db", rows=10_000)
    recent._database.execute("PRAGMA query_only = 1")
    for number in range(20):
        recent.keep(kept(number, "x" * 2_000), size=2_000)
        eventually(lambda: not recent.drain.waiting)
    eventually(lambda: recent.dropped == 16)
    assert len(recent._fresh) == 4 and find(recent, 19) and find(recent, 10) is None
    recent._database.execute("PRAGMA query_only = 0")
    recent.close(20)


def test_half_a_character_costs_no_other_request(tmp_path: Path) -> None:
    """A model may write one; UTF-8 has none."""
    recent = Recent(tmp_path / "requests.db", rows=100)
    recent.keep(kept(1, "a\ud800b"))
    recent.keep(kept(2))
    recent.close(20)
    again = Recent(tmp_path / "requests.db", rows=100)
    assert find(again, 1) == kept(1, "a?b") and find(again, 2) == kept(2)


def test_no_key_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    recent = Recent(tmp_path / "requests.db", rows=100)
    recent.keep(kept(1, "my key is sk-canary-0123456789"))
    recent.close(20)
    assert all(b"canary" not in path.read_bytes() for path in tmp_path.iterdir())


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    recent = Recent(tmp_path / "requests.db", rows=100)
    recent.keep(Kept(Answered("0" * 31 + "1", 1.0, 1.0, "champion", "1", "", {"q": float("inf")}, {})))
    recent.close(20)
    again = find(Recent(tmp_path / "requests.db", rows=100), 1)
    assert again and again.answered.inputs == {"q": None}
