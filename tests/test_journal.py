"""The journal: whole files, records that come back, and which run may be continued."""

import dataclasses
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import CascadeError, JournalError
from cascade.journal import (
    ENDED,
    Journal,
    RunRecord,
    StageRecord,
    interrupted,
    journals,
    new_id,
    next_start,
    unfinished,
)


def record(id_: str = "20260101-000000-aaaa", **changes: Any) -> RunRecord:
    return dataclasses.replace(
        RunRecord(id_, "qa", signature="s", started=1.0, inputs=("q",), outputs=("a", "b")), **changes
    )


def test_a_run_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = record(parts={"data": "1"}, spent={"lm_calls": 3}, proven=False, metrics={"test_score": 0.5})
    journal = Journal.create(tmp_path, written)
    assert journal.folder == tmp_path / "runs" / "qa" / written.id
    assert journal.run == written
    assert (
        journal.update(status="completed", ended=2.0)
        == journal.run
        == dataclasses.replace(written, status="completed", ended=2.0)
    )


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, record())
    values = json.loads((journal.folder / "run.json").read_text())
    (journal.folder / "run.json").write_text(json.dumps({**values, "invented_later": 1}))
    assert journal.run == record()


def test_stages_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, record())
    written = [StageRecord(n, f"s{n}", "prompt", "done", metrics={"dev_score": n / 20}) for n in (10, 2, 0, 1)]
    for stage in written:
        journal.write_stage(stage)
    assert [stage.number for stage in journal.stages()] == [0, 1, 2, 10]
    assert journal.stages()[1] == written[3]
    assert journal.stages()[1].folder == "1-s1"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("a.md", "as it is", "as it is"), ("a.json", {"x": 1}, '{\n "x": 1\n}\n'), ("d/a.jsonl", [{"x": 1}, 2], '{"x": 1}\n2\n'), ("e.jsonl", [], "")],
)  # fmt: skip
def test_files_are_written_in_their_form(tmp_path: Path, name: str, value: Any, text: str) -> None:
    journal = Journal(tmp_path)
    assert journal.write(name, value).read_text() == text
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    journal = Journal(tmp_path)
    journal.write("a.json", {"x": 1})
    with pytest.raises(RuntimeError):
        journal.write("a.json", {"x": Bad()})
    assert journal.read("a.json") == {"x": 1}
    assert journal.read("b.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"text"', '{"id": "x"}'])
def test_a_damaged_run_is_named_with_the_fix_and_passed_over(tmp_path: Path, text: str) -> None:
    good = Journal.create(tmp_path, record())
    damaged = Journal.create(tmp_path, record("20270101-000000-bbbb", started=9.0))
    (damaged.folder / "run.json").write_text(text)
    with pytest.raises(CascadeError) as caught:
        damaged.run  # noqa: B018
    assert str(damaged.folder / "run.json") in str(caught.value)
    assert f"Remove the folder {damaged.folder} to start over" in str(caught.value)
    assert [journal.folder for journal in journals(tmp_path, "qa")] == [good.folder]


def test_journals_come_newest_first_also_within_a_second(tmp_path: Path) -> None:
    for id_, started in (("20260101-000000-ffff", 1.1), ("20260101-000000-0000", 1.9), ("20260101-000000-8888", 1.5)):
        Journal.create(tmp_path, record(id_, started=started))
    assert [journal.run.started for journal in journals(tmp_path, "qa")] == [1.9, 1.5, 1.1]
    assert list(journals(tmp_path, "other")) == []


RUNS = [
    ([], None),
    ([("s", "interrupted")], 0),
    ([("s", "running")], 0),
    *(([("s", status)], None) for status in ENDED),
    ([("other", "interrupted")], None),
    ([("s", "interrupted"), ("other", "completed")], 0),
    ([("s", "interrupted"), ("s", "completed")], None),
    ([("s", "completed"), ("s", "interrupted")], 1),
]


@pytest.mark.parametrize(("runs", "found"), RUNS)
def test_the_newest_of_a_definition_is_continued_if_it_did_not_end(
    tmp_path: Path, runs: list[tuple[str, Any]], found: int | None
) -> None:
    for number, (signature, status) in enumerate(runs):
        Journal.create(tmp_path, record(f"run-{number}", signature=signature, status=status, started=float(number)))
    journal = interrupted(tmp_path, "qa", "s")
    assert (journal and journal.run.id) == (None if found is None else f"run-{found}")


def test_ids_sort_by_time_and_are_new() -> None:
    assert new_id(1795000000.0).startswith("20261118-")
    assert new_id(1_000_000_000) < new_id(1_000_000_001)
    assert new_id(1_000_000_000.25) < new_id(1_000_000_000.7500) < new_id(1_000_000_000.9999)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", new_id())


UNFINISHED: list[tuple[list[dict[str, Any]], list[str]]] = [
    ([], []),
    ([dict(status="completed")], []),
    ([dict(status="interrupted")], ["qa 0"]),
    ([dict(status="running")], ["qa 0"]),
    ([dict(status="interrupted"), dict(status="completed")], []),
    ([dict(status="completed"), dict(status="interrupted")], ["qa 1"]),
    ([dict(status="interrupted"), dict(status="completed", signature="other")], ["qa 0"]),
    ([dict(status="interrupted"), dict(status="running", signature="other")], ["qa 0", "qa 1"]),
    ([dict(status="interrupted", experiment="a"), dict(status="failed", experiment="b")], ["a 0"]),
]


@pytest.mark.parametrize(("runs", "left"), UNFINISHED)
def test_runs_that_are_not_over_are_those_that_could_be_gone_on_with(
    tmp_path: Path, runs: list[dict[str, Any]], left: list[str]
) -> None:
    for number, changes in enumerate(runs):
        Journal.create(tmp_path, record(str(number), started=float(number), **changes))
    found = unfinished(tmp_path)
    assert sorted(found) == left
    assert all(found[name] == float(name.split()[1]) for name in left)


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    damaged = Journal.create(tmp_path, record(started=9.0))
    (damaged.folder / "run.json").write_text('{"id": "x", "experiment": "qa", "started": "yesterday"}')
    warned: list[str] = []
    assert list(journals(tmp_path, "qa", warned.append)) == []
    (sentence,) = warned
    assert sentence.startswith(f"run {damaged.folder.name} is passed over: ")
    assert "run.json is no run (started: Input should be a valid number" in sentence


def test_a_run_begins_after_all_others_whatever_the_clock_says(tmp_path: Path) -> None:
    before = time.time()
    assert next_start(tmp_path, "qa") >= before
    late = before + 86_400
    Journal.create(tmp_path, record(new_id(late), started=late))
    started = next_start(tmp_path, "qa")
    assert started > late
    assert new_id(started) > new_id(late)
    assert Journal.create(tmp_path, record(new_id(started), started=started)).now() == started


def test_what_cannot_be_written_is_one_line_and_leaves_no_draft(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, record())
    (journal.folder / "a").write_text("not a folder")
    with pytest.raises(JournalError, match=r"a/b\.json cannot be written: Not a directory\. Free disk space") as caught:
        journal.write("a/b.json", {})
    assert "\n" not in str(caught.value)
    (journal.folder / f".c.json.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(JournalError, match="No space left on device"):
        journal.write("c.json", {"x": 1})
    assert sorted(path.name for path in journal.folder.iterdir()) == ["a", "run.json"]


def test_half_a_character_in_a_text_is_written_as_its_escape(tmp_path: Path) -> None:
    path = Journal(tmp_path).write("1-x/prompts.md", "half \ud83d, whole \u00e9")
    assert path.read_text("utf-8") == "half \\ud83d, whole \u00e9"
