"""Which new rows may join a dataset, and why others may not.

Invariant: `vet` is a pure function of the dataset and the rows, and a dataset that takes what it accepts can be loaded:
no row, no group and no wording stands in two splits.

A row that is a doubt is set aside: whoever reads the reason can still put it in by hand. What is the same but for case,
punctuation and spaces counts as the same here, also where `cascade check` only warns of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.checks.finding import quoted
from cascade.checks.rows import input_texts
from cascade.checks.texts import nearest, normalised
from cascade.dataset import SPLITS, Data, Split
from cascade.rows import Row

_TEST_FIRST = tuple(reversed(SPLITS))
"""A row that is asked for in test and in train stays in test."""
_KINDS: Mapping[type, str] = {
    bool: "a truth value", str: "text", int: "a number", float: "a number", list: "a list", dict: "a table",
    type(None): "nothing",
}  # fmt: skip


@dataclass(frozen=True)
class Arrival:
    """One line that came in.

    Args:
        file, line, text: where it stands and what it is.
        split: where it is to go.
        row: its fields, `split` apart; None where the line is none.
        problem: why it is none, or "".
    """

    file: str
    line: int
    text: str
    split: str = "train"
    row: Row | None = None
    problem: str = ""


@dataclass(frozen=True)
class Vetted:
    """What may join, by split, in the order of arrival, and what may not.

    Args:
        alike: accepted rows of train that nearly equal another row of train: they do no harm, and tell little.
    """

    accepted: Mapping[str, tuple[Row, ...]]
    refused: tuple[tuple[Arrival, str], ...] = ()
    alike: int = 0


def vet(data: Data, group: str | None, answers: Sequence[str], arrivals: Sequence[Arrival]) -> Vetted:
    """Look at each row beside the dataset and beside those before it.

    Args:
        data: as it is.
        group: the field that says which rows belong together.
        answers: fields that hold what is expected.
    """
    shelf = _Shelf(data, group, tuple(answers))
    refused: dict[int, str] = {number: one.problem for number, one in enumerate(arrivals) if one.problem}
    accepted: dict[str, tuple[Row, ...]] = {}
    alike = 0
    for name in _TEST_FIRST:
        waiting = [number for number, one in enumerate(arrivals) if one.split == name and number not in refused]
        rows = {number: dict(arrivals[number].row or {}) for number in waiting}
        whole = {number: row for number, row in rows.items() if not refused.setdefault(number, shelf.misfit(row))}
        near = shelf.nearly(name, [shelf.text(row) for row in whole.values()])
        for (number, row), (reason, twin) in zip(whole.items(), near, strict=True):
            refused[number] = shelf.doubt(name, row) or reason
            if not refused[number]:
                shelf.add(name, row)
                accepted[name] = (*accepted.get(name, ()), row)
                alike += twin
    told = tuple((arrivals[number], refused[number]) for number in sorted(refused) if refused[number])
    return Vetted(accepted, told, alike)


@dataclass
class _Shelf:
    """The dataset with what was accepted so far."""

    data: Data
    group: str | None
    answers: tuple[str, ...]
    ids: dict[str, set[str]] = field(init=False)
    texts: dict[str, dict[str, tuple[str, Any]]] = field(init=False)
    groups: dict[str, str] = field(init=False)
    kinds: dict[str, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.fields = tuple(name for name in self.data.train.rows[0] if name != "id")
        self.ids = {split.name: set(split.ids) for split in self.data}
        self.count = {split.name: len(split) for split in self.data}
        self.texts = {
            split.name: {
                normalised(text): (id_, self._answer(row))
                for text, id_, row in reversed(list(zip(input_texts(split), split.ids, split.rows, strict=True)))
            }
            for split in self.data
        }
        self.groups = {one: split.name for split in self.data for one in split.groups or ()}
        self.kinds = {
            name: {_kind(row[name]) for split in self.data for row in split.rows if name in row} for name in self.fields
        }

    def text(self, row: Row) -> str:
        """Its inputs, normalised."""
        return normalised(input_texts(Split("", (row,), ("",), None, self.data.train.inputs))[0])

    def misfit(self, row: Row) -> str:
        """Why it is no row of this dataset, or ""."""
        for name in self.fields:
            if name not in row:
                return f"It has no field {name!r}. Found: {', '.join(row) or 'none'}."
            if (kind := _kind(row[name])) not in self.kinds[name]:
                wanted = " or ".join(sorted(self.kinds[name]))
                return f"Its field {name!r} is {kind}, {quoted(row[name])}; the dataset's are {wanted}."
        if not self.text(row):
            return f"Its inputs ({', '.join(self.data.train.inputs)}) hold nothing."
        return ""

    def doubt(self, split: str, row: Row) -> str:
        """Why it may not join a split as the dataset is now, or ""."""
        id_ = str(row.get("id", self._next_id(split)))
        if id_ in self.ids[split]:
            return f"Its id {id_!r} stands in {split} already."
        owner = self.groups.get(str(row[self.group]), split) if self.group else split
        if owner != split:
            return f"Its group {quoted(row[self.group or ''])} stands in {owner}: a group stays in one split."
        text = self.text(row)
        for name in _TEST_FIRST:
            if text not in self.texts[name]:
                continue
            there, answer = self.texts[name][text]
            if name != split:
                return f"Its inputs stand in {name} ({there!r})."
            if answer != self._answer(row):
                return f"Its inputs stand in {split} with another answer ({there!r}: {_told(answer)})."
            return f"It stands in {split} already ({there!r})."
        return ""

    def nearly(self, split: str, texts: Sequence[str]) -> list[tuple[str, bool]]:
        """For each text, why its likeness may not join the split, or "", and whether another of train is like it."""
        said = ["" for _ in texts]
        for name in _TEST_FIRST:
            if name == split == "train":
                continue
            known = list(self.texts[name])
            for pair in nearest(known, texts):
                there = self.texts[name][known[pair.left]][0]
                said[pair.right] = said[pair.right] or f"It is nearly {there!r} of {name} ({pair.share:.0%} in common)."
        among = {pair.right for pair in nearest(texts, texts) if pair.left < pair.right}
        if split == "train":
            like = among | {pair.right for pair in nearest(list(self.texts["train"]), texts)}
            return [(reason, number in like) for number, reason in enumerate(said)]
        again = f"It is nearly another row that came in for {split} (80 % or more in common)."
        return [(reason or (again if number in among else ""), False) for number, reason in enumerate(said)]

    def add(self, split: str, row: Row) -> None:
        """Let it join."""
        id_ = str(row.get("id", self._next_id(split)))
        self.ids[split].add(id_)
        self.count[split] += 1
        self.texts[split][self.text(row)] = id_, self._answer(row)
        if self.group:
            self.groups[str(row[self.group])] = split

    def _next_id(self, split: str) -> str:
        return f"{split}-{self.count[split] + 1:04}"

    def _answer(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.answers)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _told(answer: tuple[Any, ...]) -> str:
    return ", ".join(map(quoted, answer))
