"""The promotion log: what it says is so, and that nothing takes an entry back."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import split

from cascade.errors import CascadeError, JournalError
from cascade.production.promoting.log import Entry, PromotionLog, look, row_hashes, standing


def moves(*events: tuple[str, str, str]) -> list[Entry]:
    """Entries from event, version and reference."""
    made: list[Any] = []
    for n, (event, version, reference) in enumerate(events):
        made.append(Entry(f"{n:03}", float(n), event, "qa", version, reference=reference))  # type: ignore[arg-type]
    return made


CASES = [
    # entries, champion, previous, rejected
    ((), "", "", set()),
    ((("judged", "1", ""),), "", "", set()),
    ((("promoted", "1", ""),), "1", "", set()),
    ((("promoted", "1", ""), ("promoted", "2", "1")), "2", "1", set()),
    ((("promoted", "1", ""), ("promoted", "2", "1"), ("rolled_back", "1", "2")), "1", "", {"2"}),
    ((("promoted", "1", ""), ("promoted", "2", "1"), ("promoted", "3", "2"), ("rolled_back", "2", "3")), "2", "1", {"3"}),
    ((("promoted", "1", ""), ("promoted", "2", "1"), ("rolled_back", "1", "2"), ("promoted", "2", "1")), "2", "1", set()),
    ((("promoted", "1", ""), ("promoted", "2", "1"), ("adopted", "1", "2")), "1", "2", set()),
    ((("promoted", "1", ""), ("adopted", "", "1")), "", "1", set()),
]  # fmt: skip


@pytest.mark.parametrize(("events", "champion", "previous", "rejected"), CASES)
def test_standing(events: Any, champion: str, previous: str, rejected: set[str]) -> None:
    now = standing(moves(*events))
    assert (now.champion, now.previous, set(now.rejected)) == (champion, previous, rejected)


def test_history_has_no_gap() -> None:
    history = standing(moves(("promoted", "1", ""), ("promoted", "2", "1"), ("rolled_back", "1", "2"))).history
    assert [(one.version, one.since, one.until) for one in history] == [("1", 0, 1), ("2", 1, 2), ("1", 2, None)]


def judged(key: str, rows: str, attempt: int) -> Entry:
    return Entry(f"{key}{attempt}", float(attempt), "judged", "qa", "1", key=key, rows=tuple(rows), attempt=attempt)


LOOKS = [
    # looks before, key, rows, number of the look
    ((), "a", "abc", 1),
    ((judged("a", "abc", 1),), "a", "abc", 1),
    ((judged("a", "abc", 1),), "b", "abc", 2),
    ((judged("a", "abc", 1),), "b", "abcdef", 2),
    ((judged("a", "abc", 1),), "b", "xyz", 1),
    ((judged("a", "abc", 1),), "b", "bcx", 2),
    ((judged("a", "abc", 1), judged("b", "cde", 2)), "c", "efg", 3),
    ((judged("a", "abc", 1), judged("b", "abc", 2), judged("a", "abc", 1)), "c", "abc", 3),
    ((judged("a", "abc", 1), judged("b", "abc", 2)), "a", "abc", 1),
]


@pytest.mark.parametrize(("before", "key", "rows", "number"), LOOKS)
def test_looks_are_counted_by_lineage(before: Any, key: str, rows: str, number: int) -> None:
    assert look(before, key, rows) == number


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sets(st.integers(0, 9), min_size=1)), max_size=12))
def test_no_look_is_ever_numbered_twice_in_a_lineage(taken: list[tuple[str, set[int]]]) -> None:
    """Whatever rows are shared in whatever order: a new look that shares a row never reuses a smaller lineage's count."""
    entries: list[Entry] = []
    for n, (key, rows) in enumerate(taken):
        names = tuple(sorted(map(str, rows)))
        number = look(entries, f"{key}{names}", names)
        direct = {e.key for e in entries if set(names) & set(e.rows)} - {f"{key}{names}"}
        known = any(e.key == f"{key}{names}" for e in entries)
        assert known or number > len(direct)
        entries.append(Entry(str(n), float(n), "judged", "qa", "1", key=f"{key}{names}", rows=names, attempt=number))


def test_rows_are_known_by_content_and_not_by_id() -> None:
    rows = split("test", 4)
    again = type(rows)(rows.name, tuple({**row, "id": "x"} for row in rows.rows), rows.ids, None, rows.inputs)
    assert row_hashes(again) == row_hashes(rows)
    assert len(set(row_hashes(rows))) == 4


def test_entries_come_back_as_they_were_written(tmp_path: Path) -> None:
    log = PromotionLog.of(tmp_path, "qa")
    first = log.add("judged", "1", rows=("ab", "cd"), figures={"gain": 0.1}, reason="so")
    second = log.add("promoted", "1", note="Grüße", forced=True)
    assert PromotionLog.of(tmp_path, "qa").entries() == [first, second]
    assert first.at < second.at and first.experiment == "qa" and first.who


def test_a_line_that_was_cut_off_did_not_happen(tmp_path: Path) -> None:
    log = PromotionLog.of(tmp_path, "qa")
    log.add("promoted", "1")
    with log.path.open("a") as file:
        file.write('{"id": "half')
    assert [entry.version for entry in log.entries()] == ["1"]
    log.add("promoted", "2")
    assert [entry.version for entry in log.entries()] == ["1", "2"]


@pytest.mark.parametrize("line", ["[]", '{"id": "x"}', '{"id": "x", "at": "noon", "event": "promoted", "experiment": "qa", "version": "1"}', '{"id": "x", "at": 1, "event": "burnt", "experiment": "qa", "version": "1"}'])  # fmt: skip
def test_another_line_is_refused_by_place(tmp_path: Path, line: str) -> None:
    log = PromotionLog.of(tmp_path, "qa")
    log.path.parent.mkdir(parents=True)
    log.path.write_text(line + "\n")
    with pytest.raises(CascadeError, match=r"promotions\.jsonl, line 1, is no entry"):
        log.entries()


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    log = PromotionLog.of(tmp_path, "qa")
    log.path.parent.mkdir(parents=True)
    log.path.mkdir()
    with pytest.raises(JournalError, match="cannot be written"):
        log.append(moves(("promoted", "1", ""))[0])


def test_no_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    log = PromotionLog.of(tmp_path, "qa")
    log.add("promoted", "1", note="key is sk-canary-0123456789abcdef")
    assert "canary" not in log.path.read_text()
    json.loads(log.path.read_text())
