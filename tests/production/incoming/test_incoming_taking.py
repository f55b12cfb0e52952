"""New rows on disk: what is written where, and that nothing is lost or taken twice, whoever dies when."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cascade.dataset import Data, Dataset, load
from cascade.errors import DatasetError
from cascade.production.incoming.taking import Taken, take_up
from cascade.settings import load_settings

HELP = Dataset("help")


def rows(split: str, count: int = 4) -> list[dict[str, Any]]:
    return [{"question": f"{split} {chr(97 + n) * 9} {n}", "answer": f"{n}"} for n in range(count)]


def jsonl(given: list[Any]) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in given)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets/help"
    folder.mkdir(parents=True)
    (folder / "dataset.toml").write_text('inputs = ["question"]\n')
    for split in ("train", "dev", "test"):
        (folder / f"{split}.jsonl").write_text(jsonl(rows(split)))
    return tmp_path


def drop(project: Path, name: str, text: str) -> Path:
    path = project / "datasets/help/incoming" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    os.utime(path, (0, 0))  # of long ago: nobody waits to see whether it grows
    return path


def take(project: Path, dataset: Dataset = HELP, **options: Any) -> Taken:
    return take_up(dataset, ["answer"], load_settings(project, {}), **options)


def questions(project: Path, split: str) -> list[str]:
    lines = (project / f"datasets/help/{split}.jsonl").read_text().splitlines()
    return [json.loads(line)["question"] for line in lines]


def files(project: Path) -> list[str]:
    folder = project / "datasets/help/incoming"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_nothing_waits(project: Path) -> None:
    assert take(project) == Taken()
    assert not (project / "datasets/help/incoming").exists()


def test_rows_join_the_splits_they_ask_for(project: Path) -> None:
    drop(
        project,
        "a.jsonl",
        jsonl([{"question": "one", "answer": "1"}, {"question": "two", "answer": "2", "split": "test"}]),
    )
    drop(project, "test/a.jsonl", jsonl([{"question": "three", "answer": "3"}]))
    drop(project, "dev/b.jsonl", "\ufeff" + jsonl([{"question": "föur ☃", "answer": "4"}]).replace("\n", "\r\n"))
    noted: list[Taken] = []
    done = take(project, note=noted.append)
    assert noted == [done] and len(done.plans) == 1
    assert done.accepted == {"train": 1, "dev": 1, "test": 2} and not done.refused and not done.notes
    assert questions(project, "train")[4:] == ["one"]
    assert questions(project, "dev")[4:] == ["föur ☃"]
    assert sorted(questions(project, "test")[4:]) == ["three", "two"]
    assert "split" not in (project / "datasets/help/test.jsonl").read_text()
    assert files(project) == ["done/a-2.jsonl", "done/a.jsonl", "done/b.jsonl"]
    assert take(project) == Taken()


def test_bad_rows_are_set_aside_with_the_reason_a_line_each(project: Path) -> None:
    (project / "datasets/help/train.jsonl").write_text(jsonl(rows("train")).rstrip("\n"))
    bad: list[Any] = [
        '{"question": "broken', rows("train")[0], {"question": "no answer"}, {"question": "x", "answer": "1", "split": "tset"},
        "[1]", '{"question": "half \\ud800", "answer": "1"}', '{"question": "nan", "answer": NaN}', {"question": "good", "answer": "9"},
    ]  # fmt: skip
    drop(project, "bad.jsonl", jsonl(bad))
    done = take(project)
    assert done.accepted == {"train": 1} and questions(project, "train")[4:] == ["good"]
    told = [
        json.loads(line) for line in (project / "datasets/help/incoming/refused/bad.jsonl").read_text().splitlines()
    ]
    assert [line["line"] for line in told] == [1, 2, 3, 4, 5, 6, 7]
    for line, words in zip(told, ("not JSON", "stands in train already", "no field 'answer'", "none of train, dev, test",
                                  "not a dictionary", "which is not JSON", "which is not JSON"), strict=True):  # fmt: skip
        assert words in line["reason"]
    assert told[1]["row"] == rows("train")[0] and told[0]["text"] == bad[0]
    assert done.refused[2] == "bad.jsonl, line 3: It has no field 'answer'. Found: question."


def test_a_pinned_fingerprint_is_not_changed_silently(project: Path) -> None:
    toml = project / "datasets/help/dataset.toml"
    before = load(HELP, project).fingerprint
    toml.write_text(f'inputs = ["question"]\nfingerprint = "{before}"  # keep\n')
    path = drop(project, "a.jsonl", jsonl([{"question": "one", "answer": "1"}]))
    done = take(project)
    assert (
        not done.accepted
        and path.exists()
        and questions(project, "train") == [row["question"] for row in rows("train")]
    )
    assert f'pins fingerprint = "{before}". --accept-data takes them up' in done.notes[0]
    assert take(project, accept_data=True).accepted == {"train": 1}
    after = load(HELP, project).fingerprint
    assert after != before and toml.read_text() == f'inputs = ["question"]\nfingerprint = "{after}"  # keep\n'


def test_sources_elsewhere_are_not_added_to(project: Path) -> None:
    path = drop(project, "a.jsonl", jsonl([{"question": "one", "answer": "1"}]))
    elsewhere = Dataset("help", train=rows("more"))
    done = take(project, elsewhere)
    assert "reads train from list, which is not added to" in done.notes[0] and path.exists()


def test_what_is_still_written_waits(project: Path) -> None:
    path = drop(project, "a.jsonl", jsonl([{"question": "one", "answer": "1"}]) + '{"question": "tw')
    os.utime(path)
    drop(project, "notes.txt", "hello")
    drop(project, ".draft.jsonl", "{")
    done = take(project)
    assert not done.accepted and path.exists()
    assert "a.jsonl ends in the middle of a line" in " ".join(done.notes)
    assert "notes.txt is no .jsonl file" in " ".join(done.notes)
    path.write_text(path.read_text() + 'o", "answer": "2"}')
    assert take(project).accepted == {"train": 2}
    assert questions(project, "train")[4:] == ["one", "two"]


def test_a_dataset_that_cannot_be_loaded_takes_nothing(project: Path) -> None:
    path = drop(project, "a.jsonl", jsonl([{"question": "one", "answer": "1"}]))
    (project / "datasets/help/dev.jsonl").unlink()
    with pytest.raises(DatasetError, match="no split 'dev'"):
        take(project)
    assert path.exists()


def test_a_link_stays_a_link(project: Path) -> None:
    train = project / "datasets/help/train.jsonl"
    train.rename(project / "elsewhere.jsonl")
    train.symlink_to(project / "elsewhere.jsonl")
    drop(project, "a.jsonl", jsonl([{"question": "one", "answer": "1"}]))
    assert take(project).accepted == {"train": 1}
    assert train.is_symlink() and questions(project, "train")[4:] == ["one"]


def dies(step: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that ends, as if killed, before its `step`-th change of a file; whether it did."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = step

    def hook(event: str, details: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and "w" in str(details[1] or ""))
        left -= changes
        if changes and not left:
            os._exit(9)

    try:
        sys.addaudithook(hook)
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("pinned", [False, True])
def test_nothing_is_lost_or_taken_twice_whoever_dies_when(project: Path, tmp_path: Path, pinned: bool) -> None:
    if pinned:
        toml = project / "datasets/help/dataset.toml"
        toml.write_text(f'inputs = ["question"]\nfingerprint = "{load(HELP, project).fingerprint}"\n')
    new = [{"question": f"new {chr(97 + n) * 9}", "answer": "1", "split": ("train", "test")[n % 2]} for n in range(6)]
    drop(project, "a.jsonl", jsonl([*new[:3], "broken"]))
    drop(project, "test/a.jsonl", jsonl(new[3:]))
    expected = (Counts.of(take_in(project, tmp_path / "whole")), 6)
    for step in range(1, 60):
        copy = tmp_path / f"died-{step}"
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("died-*", "whole"))
        died = dies(step, lambda copy=copy: take(copy, accept_data=True))  # type: ignore[misc]
        assert (Counts.of(take_in(copy, None)), 6) == expected, step
        shutil.rmtree(copy)
        if not died:
            break
    assert 12 < step < 59


def take_in(project: Path, copy: Path | None) -> Path:
    if copy:
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("died-*", "whole"))
        project = copy
    take(project, accept_data=True)
    return project


class Counts(tuple[Any, ...]):
    """What is where when all is done."""

    @classmethod
    def of(cls, project: Path) -> "Counts":
        data: Data = load(HELP, project)
        refused = [json.loads(line)["text"] for path in (project / "datasets/help/incoming/refused").glob("*")
                   for line in path.read_text().splitlines()]  # fmt: skip
        return cls((data.fingerprint, tuple(map(len, data)), tuple(refused), tuple(files(project))))


def test_what_is_told_twice_counts_once() -> None:
    one, other = Taken({"train": 2}, ("a",), 1, ("n",), ("p",)), Taken({"train": 1, "test": 3}, ("b",), plans=("q",))
    assert one + one == one + Taken() == Taken() + one == one
    assert one + other == Taken({"train": 3, "test": 3}, ("a", "b"), 1, ("n",), ("p", "q"))
    assert one + Taken(notes=("n", "m")) == Taken({"train": 2}, ("a",), 1, ("n", "m"), ("p",))


def test_a_plan_that_the_dataset_has_left_behind_is_dropped(project: Path, tmp_path: Path) -> None:
    drop(project, "a.jsonl", jsonl([{"question": "one", "answer": "1"}]))
    for step in range(1, 30):
        copy = tmp_path / f"died-{step}"
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("died-*"))
        if not dies(step, lambda copy=copy: take(copy)):  # type: ignore[misc]
            break
        more = copy / "datasets/help/train.jsonl"
        more.write_text(more.read_text() + jsonl([{"question": "by hand", "answer": "2"}]))
        take(copy)
        assert sorted(questions(copy, "train")[4:]) == ["by hand", "one"], step
        shutil.rmtree(copy)
