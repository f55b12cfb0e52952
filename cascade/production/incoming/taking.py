"""New rows that wait beside a dataset, taken up without losing one or taking one twice.

    datasets/NAME/incoming/*.jsonl        rows for train, or for the split that their field `split` names
    datasets/NAME/incoming/test/*.jsonl   rows for test; dev/ likewise
                           done/          files that were taken up
                           refused/       rows that were set aside, with the reason, a line each
                           .taking/       files in hand, and plan.json

Invariant: before anything of the dataset is changed, plan.json says what it will be; each step of it can be done again.
So whoever dies anywhere, the next one finishes what was begun.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cascade.dataset import SPLITS, Data, Dataset, load
from cascade.errors import DatasetError
from cascade.production.incoming.files import digest, free, moved, replaced, waiting_for
from cascade.production.incoming.vetting import Arrival, Vetted, vet
from cascade.rows import Row, read_rows, shown
from cascade.settings import Settings

_SETTLED = 5.0
"""Seconds after which a file that was written is taken for whole; before, its size is looked at twice."""


@dataclass(frozen=True)
class Taken:
    """What came of the rows that waited.

    Args:
        accepted: how many joined, by split.
        refused: place and reason of those that were set aside.
        alike: accepted rows of train that nearly equal another of train.
        notes: what a person should know, such as why nothing was taken.
        plans: by which they joined.
    """

    accepted: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    alike: int = 0
    notes: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()

    def __add__(self, other: "Taken") -> "Taken":
        """Both together; a plan that is in both counts once."""
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        if set(other.plans) <= set(self.plans):
            return replace(self, notes=notes)
        counts = {name: self.accepted.get(name, 0) + other.accepted.get(name, 0) for name in SPLITS}
        return Taken(
            {name: count for name, count in counts.items() if count},
            (*self.refused, *other.refused),
            self.alike + other.alike,
            notes,
            (*self.plans, *other.plans),
        )


def _nobody(_taken: Taken) -> None:
    """Nobody keeps it."""


def take_up(
    dataset: Dataset,
    answers: Sequence[str],
    settings: Settings,
    *,
    accept_data: bool = False,
    note: Callable[[Taken], None] = _nobody,
) -> Taken:
    """Let the rows that wait join their splits, as far as they are fit; also those that somebody died over.

    Args:
        answers: fields that hold what is expected.
        accept_data: also where `dataset.toml` pins a fingerprint, which is written anew.
        note: keeps what came of it, before it is forgotten here; may be told the same plan twice.

    Raises:
        DatasetError: the dataset itself cannot be loaded; nothing was taken.
        JournalError: a file cannot be written; the next one goes on.
    """
    desk = _Desk(settings.project / "datasets" / dataset.name, settings.project)
    if not desk.folder.is_dir():
        return Taken()
    with waiting_for(settings.home / "locks" / f"data-{dataset.name}.lock"):
        before = desk.finish(note) + Taken(notes=desk.strangers())
        if not desk.waiting():
            return before
        data = load(dataset, settings.project)
        if why := _impossible(dataset, data, accept_data=accept_data):
            return before + Taken(notes=(f"New rows wait in {shown(desk.folder, settings.project)}: {why}",))
        arrivals, cut = desk.arrivals(data)
        vetted = vet(data, dataset.group or data.info.get("group"), answers, arrivals)
        desk.write_plan(data, vetted)
        return before + desk.finish(note) + Taken(notes=cut)


def _impossible(dataset: Dataset, data: Data, *, accept_data: bool) -> str:
    """Why no row may join, or ""."""
    given = next((name for name in SPLITS if dataset.source(name) is not None), "")
    if given:
        source = dataset.source(given)
        said = repr(source) if isinstance(source, str | Path) else type(source).__name__
        return f"the experiment reads {given} from {said}, which is not added to. Add them there."
    if (pinned := data.info.get("fingerprint")) and not accept_data:
        return (
            f'dataset.toml pins fingerprint = "{pinned}". --accept-data takes them up and writes the new one there; or '
            "remove that line."
        )
    return ""


def _told(vetted: Vetted) -> dict[str, Any]:
    return {
        "accepted": {name: len(vetted.accepted[name]) for name in SPLITS if name in vetted.accepted},
        "refused": [f"{one.file}, line {one.line}: {reason}" for one, reason in vetted.refused],
        "alike": vetted.alike,
    }


class _Desk:
    """The folder `incoming` of one dataset, in one hand."""

    def __init__(self, dataset: Path, project: Path) -> None:
        self.dataset = dataset
        self.project = project
        self.folder = dataset / "incoming"
        self.taking = self.folder / ".taking"
        self.plan = self.taking / "plan.json"

    def waiting(self) -> list[tuple[str, Path]]:
        """Files that were in hand when somebody died, then those that wait, and the split each is meant for."""
        places = [(name, self.taking / name) for name in SPLITS]
        places += [("train", self.folder), *((name, self.folder / name) for name in SPLITS)]
        found = [(name, path) for name, place in places for path in sorted(place.glob("*.jsonl"))]
        return [(name, path) for name, path in found if not path.name.startswith(".")]

    def strangers(self) -> tuple[str, ...]:
        """What stands there and is not taken for rows."""
        files = [path for path in sorted(self.folder.glob("*")) if path.is_file() and not path.name.startswith(".")]
        return tuple(
            f"{shown(path, self.project)} is no .jsonl file and stays where it is."
            for path in files
            if path.suffix != ".jsonl"
        )

    def arrivals(self, data: Data) -> tuple[list[Arrival], tuple[str, ...]]:
        """Take all files in hand and read them; says which were put back because somebody still writes them."""
        found, cut = list[Arrival](), list[str]()
        for split, path in self.waiting():
            mine = self._claimed(split, path)
            content = mine.read_bytes()
            if not _whole(content):
                moved(mine, free(path))
                cut.append(f"{shown(path, self.project)} ends in the middle of a line; it waits until it is whole.")
                continue
            found += _read(content, mine.name, split, data, self.project)
        return found, tuple(cut)

    def _claimed(self, split: str, path: Path) -> Path:
        """Move a file to where only we look; who writes it may still have to finish."""
        if path.is_relative_to(self.taking):
            return path
        size = -1
        while time.time() - path.stat().st_mtime < _SETTLED and size != (size := path.stat().st_size):
            time.sleep(0.1)
        mine = free(self.taking / split / path.name)
        moved(path, mine)
        return mine

    def write_plan(self, data: Data, vetted: Vetted) -> None:
        """Say what will be, before anything is."""
        splits = {}
        for name, rows in vetted.accepted.items():
            before = (self.dataset / f"{name}.jsonl").read_bytes()
            gap = b"\n" if before and not before.endswith(b"\n") else b""
            more = gap + "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
            splits[f"{name}.jsonl"] = {"before": digest(before), "after": digest(before + more), "more": more.decode()}
        refused: dict[str, list[str]] = {}
        for one, reason in vetted.refused:
            line = {"reason": reason, "file": one.file, "line": one.line, "split": one.split}
            said = {**line, "row": one.row} if one.row is not None else {**line, "text": one.text}
            refused.setdefault(one.file, []).append(json.dumps(said, ensure_ascii=False, default=str) + "\n")
        moves: dict[str, str] = {}
        for _, path in self.waiting():
            if path.is_relative_to(self.taking):
                target = free(self.folder / "done" / path.name, set(moves.values()))
                moves[str(path.relative_to(self.folder))] = target.name
        plan = {
            "id": secrets.token_hex(6),
            "taken": _told(vetted),
            "splits": splits,
            "toml": self._toml(data, vetted.accepted),
            "refused": {free(self.folder / "refused" / name).name: "".join(lines) for name, lines in refused.items()},
            "moves": moves,
        }
        replaced(self.plan, json.dumps(plan, ensure_ascii=False).encode("utf-8", "backslashreplace"))

    def finish(self, note: Callable[[Taken], None]) -> Taken:
        """Do what a plan says, however much of it was done; a plan that the dataset has left behind is dropped."""
        if not self.plan.exists():
            return Taken()
        plan = json.loads(self.plan.read_text("utf-8"))
        changes: dict[str, Any] = {**plan["splits"], **({"dataset.toml": plan["toml"]} if plan["toml"] else {})}
        now, taken = {name: digest((self.dataset / name).read_bytes()) for name in changes}, Taken()
        if all(now[name] in (change["before"], change["after"]) for name, change in changes.items()):
            for name, change in changes.items():
                if now[name] == change["before"]:
                    kept = b"" if "text" in change else (self.dataset / name).read_bytes()
                    replaced(self.dataset / name, kept + (change.get("more") or change["text"]).encode())
            for name, text in plan["refused"].items():
                replaced(self.folder / "refused" / name, text.encode("utf-8", "backslashreplace"))
            for name, target in plan["moves"].items():
                if (self.folder / name).exists():
                    moved(self.folder / name, self.folder / "done" / target)
            said = plan["taken"]
            taken = Taken(said["accepted"], tuple(said["refused"]), said["alike"], plans=(plan["id"],))
            note(taken)
        self.plan.unlink()
        return taken

    def _toml(self, data: Data, accepted: Mapping[str, tuple[Row, ...]]) -> dict[str, str] | None:
        """`dataset.toml` with the fingerprint that the dataset will have, where it pins one."""
        pinned = data.info.get("fingerprint")
        if not pinned or not accepted:
            return None
        train, dev, test = (replace(split, rows=(*split.rows, *accepted.get(split.name, ()))) for split in data)
        grown = replace(data, train=train, dev=dev, test=test)
        path = self.dataset / "dataset.toml"
        text = path.read_text("utf-8")
        line = re.compile(rf"^(\s*fingerprint\s*=\s*)[\"']{re.escape(str(pinned))}[\"']", re.MULTILINE)
        written = line.sub(rf'\g<1>"{grown.fingerprint}"', text)
        if written == text:
            raise DatasetError(f"{shown(path, self.project)} pins a fingerprint that was not found in it. Remove it.")
        return {"before": digest(text.encode()), "after": digest(written.encode()), "text": written}


def _whole(content: bytes) -> bool:
    """Whether the last line was written to its end."""
    last = content.rsplit(b"\n", 1)[-1]
    if not last.strip():
        return True
    try:
        json.loads(last)
    except ValueError:
        return False
    return True


def _read(content: bytes, file: str, split: str, data: Data, project: Path) -> Iterator[Arrival]:
    """The lines of a file; `split` of a row goes before that of its folder, unless the dataset has such a field."""
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not raw.strip():
            continue
        bare = Arrival(file, number, raw.decode("utf-8", "backslashreplace").strip(), split)
        try:
            (row,) = read_rows([json.loads(raw)], project, "It")
        except (ValueError, RecursionError) as error:
            yield replace(bare, problem=f"It is not JSON in UTF-8 ({error}).")
            continue
        except DatasetError as error:
            yield replace(bare, problem=str(error).replace("It, row 1", "It"))
            continue
        wanted = split if "split" in data.train.rows[0] else row.get("split", split)
        if wanted not in SPLITS:
            yield replace(bare, row=row, problem=f"Its split {wanted!r} is none of {', '.join(SPLITS)}.")
            continue
        kept = row if "split" in data.train.rows[0] else {name: row[name] for name in row if name != "split"}
        yield replace(bare, split=wanted, row=kept)
