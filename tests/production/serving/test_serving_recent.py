"""The last requests: found by their id, also by another process, and never more than there is room for."""

import asyncio
import os
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


@pytest.mark.parametrize(("rows", "bytes_"), [(50, 10**9), (10**9, 50 * 300)])
def test_the_oldest_make_room(tmp_path: Path, rows: int, bytes_: int) -> None:
    recent = Recent(tmp_path / "requests.db", rows=rows, bytes_=bytes_)
    for number in range(400):
        recent.keep(kept(number))
        if number % 20 == 0:
            eventually(lambda: not recent.drain.waiting)
    eventually(lambda: not recent._fresh)
    assert find(recent, 399) and find(recent, 380)
    assert find(recent, 0) is None and find(recent, 300) is None
    recent.close(20)


def test_what_cannot_be_read_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "requests.db"
    path.write_bytes(b"this is no database" * 100)
    recent = Recent(path, rows=100)
    recent.keep(kept(1))
    recent.close(20)
    assert find(Recent(path, rows=100), 1) == kept(1)


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
