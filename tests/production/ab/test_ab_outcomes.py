"""What is kept of A/B tests and of what people said: lines that nothing takes back."""

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import JournalError, Refused
from cascade.production import lines
from cascade.production.ab import Action, Rules
from cascade.production.ab.account import account
from cascade.production.ab.outcomes import Books, Said, fold, of_test


def said(number: int, arm: str = "champion", value: float | None = 1.0, **more: Any) -> Said:
    facts: dict[str, Any] = {"test": "t", "key": f"k{number}", "share": 0.5, **more}
    return Said(f"{number:03}", float(number), f"{number:032x}", arm, "1", value=value, **facts)  # type: ignore[arg-type]


def test_what_was_said_comes_back(tmp_path: Path) -> None:
    books = Books(tmp_path, "qa")
    first = said(1, corrections={"answer": ["a", {"b": 1}]}, comment="Grüße\n", answered={"inputs": {"q": "x"}})
    books.add([first, said(2, value=None)])
    found, end = books.said()
    assert found == [first, said(2, value=None)]
    books.add([said(3)])
    assert books.said(end)[0] == [said(3)]
    assert os.stat(books.outcomes).st_mode & 0o077 == 0


def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    books = Books(tmp_path, "qa")
    books.add([said(1)])
    with books.outcomes.open("a") as file:
        file.write('{"id": "00')
    assert [one.id for one in books.said()[0]] == ["001"]
    books.add([said(2)])
    with books.outcomes.open("a") as file:
        file.write('[]\n{"id": 7}\n\xff\n')
    assert [one.id for one in books.said()[0]] == ["001", "002"]


def test_what_was_not_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some lines of a batch: who is told that nothing was recorded says it again."""
    books = Books(tmp_path, "qa")
    books.add([said(1)])
    before = books.outcomes.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JournalError, match="No space left on device"):
        books.add([said(2), said(3)])
    assert books.outcomes.read_bytes() == before
    monkeypatch.undo()
    books.add([said(2), said(3)])
    assert [one.id for one in books.said()[0]] == ["001", "002", "003"]


def test_a_file_that_somebody_took_lines_out_of_is_read_anew(tmp_path: Path) -> None:
    """As to erase what a person said."""
    books = Books(tmp_path, "qa")
    books.add([said(number, comment="x" * number) for number in range(5)])
    end = books.said()[1]
    first, _, rest = books.outcomes.read_bytes().partition(b"\n")
    books.outcomes.write_bytes(rest)
    assert [one.id for one in books.said(end)[0]] == ["001", "002", "003", "004"]
    books.add([said(5, comment="y" * 2 * len(first))])
    assert [one.id for one in books.said(end)[0]] == ["001", "002", "003", "004", "005"]


def test_much_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascade.production.ab.outcomes.CHUNK", 1000)
    books = Books(tmp_path, "qa")
    told = [said(number, comment="x" * (5000 if number == 7 else 10)) for number in range(20)]
    books.add(told)
    pieces = list(books.since())
    assert [one for piece, _ in pieces for one in piece] == told
    assert len(pieces) > 5 and max(len(piece) for piece, _ in pieces) < 5
    assert pieces[-1][1] == books.outcomes.stat().st_size


def test_several_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"

    def write(writer: int) -> None:
        for number in range(20):
            lines.append(path, [{"writer": writer, "number": number, "text": "x" * 3000}])

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    found, end = lines.read(path)
    assert (len(found), end) == (80, path.stat().st_size)


def test_no_key_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    books = Books(tmp_path, "qa")
    books.add([said(1, comment="my key is sk-canary-0123456789")])
    assert "canary" not in books.outcomes.read_text()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "production").write_text("in the way")
    with pytest.raises(JournalError, match=r"outcomes.jsonl cannot be written"):
        Books(tmp_path, "qa").add([said(1)])


def test_a_test_is_a_pair_of_versions(tmp_path: Path) -> None:
    books = Books(tmp_path, "qa")
    first = books.begin("1", "2", 0.1)
    assert books.begin("1", "2", 0.1) == first
    other = books.begin("1", "3", 0.1)
    assert other.salt != first.salt
    assert books.begin("1", "2", 0.1) == first  # back again: the same people
    raised = books.begin("1", "2", 0.5)
    assert (raised.id, raised.salt, raised.share, raised.least) == (first.id, first.salt, 0.5, 0.1)
    smaller = books.begin("1", "2", 0.05)
    assert smaller.id != first.id and smaller.salt != first.salt
    assert [test.share for test in books.tests()] == [0.5, 0.1, 0.05]


def test_a_test_that_was_stopped_stays_so(tmp_path: Path) -> None:
    books = Books(tmp_path, "qa")
    test = books.begin("1", "2", 0.1)
    stopped = books.stop(test, "It does harm.", {"estimate": -0.2})
    assert books.stop(test, "Another says so, too.", {}) == stopped
    again = Books(tmp_path, "qa").begin("1", "2", 0.1)
    assert (again.stopped, again.stopped_at) == ("It does harm.", stopped.stopped_at)
    assert not books.begin("1", "3", 0.1).stopped
    last = json.loads(books.tests_file.read_text().splitlines()[1])
    assert (last["event"], last["figures"]) == ("stopped", {"estimate": -0.2})


@given(st.lists(st.recursive(st.none() | st.text() | st.floats() | st.booleans(), lambda inner: st.dictionaries(st.sampled_from(["event", "test", "at", "share", "reason"]), inner), max_leaves=8)))  # fmt: skip
def test_fold_takes_whatever_stands_there(entries: list[Any]) -> None:
    assert fold([*entries, {"event": "stopped", "test": "unknown", "at": 1, "reason": "x"}]) == []


def test_outcomes_of_a_test_are_those_with_a_value_and_a_key() -> None:
    told = [
        said(1),
        said(2, value=None),
        said(3, test="other"),
        said(4, key=""),
        said(5, share=0.0),
        said(7, share=0.4),
        said(8, value=1.5),
        said(9, value=float("nan")),
        said(6, "challenger"),
    ]
    found = of_test(told, fold([{"event": "begun", "test": "t", "at": 1, "champion": "1", "challenger": "2", "share": 0.5, "least": 0.5, "salt": "s"}])[0])  # fmt: skip
    assert [(one.key, one.arm.value) for one in found] == [("k1", "champion"), ("k6", "challenger")]


def test_an_account_is_what_the_files_say(tmp_path: Path) -> None:
    books = Books(tmp_path, "qa")
    with pytest.raises(Refused, match="No A/B test of 'qa' is known on this machine"):
        account(books)
    test = books.begin("1", "2", 0.5)
    facts = {"test": test.id, "share": 0.5}
    # The champion is right in 9 of 10 cases, the challenger in 1 of 2; and each says the same again.
    people = [
        said(n, "challenger" if n % 2 else "champion", float(bool(n % 4 == 1 if n % 2 else n % 20)), **facts)
        for n in range(400)
    ]
    books.add([*people, *people])
    found = account(books)
    assert (found.said, found.counted, found.advice.n) == (800, 400, (200, 200))
    assert found.advice.action is Action.STOP and found.test.rules == Rules()
    assert [look.outcomes for look in found.course][-1] == 400 and len(found.course) <= 150
    assert found.course[-1].low == found.advice.interval.low
    assert json.loads(json.dumps(found.to_json()))["action"] == "stop the challenger"
    with pytest.raises(Refused, match="of version 7"):
        account(books, "7")
