"""Rows: what stands in two splits in other words, what is empty, what contradicts itself, what is too little.

Invariant: `cascade.dataset.load` has refused what is the same to the letter; here is what a person must look at.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from cascade.checks.finding import Finding, quoted
from cascade.checks.texts import Pair, nearest, normalised
from cascade.dataset import Data, Split
from cascade.fields import by_content, shortened

SHOWN = 2
"""Pairs that are quoted."""
MOST_TEXTS = 100_000
"""Rows of two splits up to which they are searched for near-duplicates: about 7 s and 600 MB on two cores."""
LITTLE = 15
"""Rows of train below which a search has little to learn from and less to validate on."""


def overlap(data: Data, *, most: int = MOST_TEXTS) -> Iterator[Finding]:
    """Rows whose inputs stand in two splits but for case, punctuation and spaces, and rows that nearly do.

    Args:
        most: rows of two splits up to which they are searched for near-duplicates.
    """
    texts = {split.name: list(map(normalised, input_texts(split))) for split in data}
    for left, right in combinations(data, 2):
        ours, theirs = texts[left.name], texts[right.name]
        first = {text: number for number, text in reversed(list(enumerate(ours)))}
        same = [Pair(first[text], number, 1.0) for number, text in enumerate(theirs) if text in first]
        known = {pair.right for pair in same}
        place, few = f"Dataset {data.name!r}, split {right.name!r}", len(ours) + len(theirs) <= most
        near = [pair for pair in nearest(ours, theirs) if pair.right not in known] if few else []
        near.sort(key=lambda pair: (-pair.share, pair.right))
        if not few:
            told = (
                f"its {len(right):,} rows were not searched for near-duplicates of the {len(left):,} of {left.name!r}."
            )
            yield Finding("note", place, told)
        fix = "Remove one of each, or keep both in one split: a program must not be judged on what it learned from."
        if same:
            told = f"{_rows(same, right)} in {left.name!r} too, but for case, punctuation and spaces"
            yield Finding("warning", place, f"{told}: {_shown(same, left, right)}. {fix}")
        if near:
            told = f"{_rows(near, right)} nearly in {left.name!r} (80 % or more in common)"
            yield Finding("warning", place, f"{told}: {_shown(near, left, right, shares=True)}. {fix}")


def repeated(data: Data, answers: Sequence[str]) -> Iterator[Finding]:
    """Rows of one split with the same inputs: with other answers, or counted twice where it is judged.

    Args:
        answers: fields that hold what is expected.
    """
    for split in data:
        place, seen = f"Dataset {data.name!r}, split {split.name!r}", dict[str, int]()
        other, again = list[Pair](), list[Pair]()
        for number, text in enumerate(map(normalised, input_texts(split))):
            first = seen.setdefault(text, number)
            if first == number:
                continue
            differs = any(split.rows[first][name] != split.rows[number][name] for name in answers)
            apart = split.groups is None or split.groups[first] != split.groups[number]
            if differs:
                other.append(Pair(first, number, 1.0))
            elif apart and split.name != "train":
                again.append(Pair(first, number, 1.0))
        if other:
            told = f"{_rows(other, split)} there twice with different answers: {_shown(other, split, split)}"
            yield Finding("warning", place, f"{told}. No program can be right on both: correct one of each.")
        if again:
            told = f"{_rows(again, split)} there twice: {_shown(again, split, split)}"
            yield Finding(
                "warning", place, f"{told}. Intervals come out too narrow: remove one of each, or give both one group."
            )


def gaps(data: Data, answers: Sequence[str]) -> Iterator[Finding]:
    """Rows whose inputs all hold nothing, and answers that do."""
    for split in data:
        for kind, fields in (("inputs", split.inputs), *(("expected answer", (name,)) for name in answers)):
            empty = [number for number, row in enumerate(split.rows) if all(_blank(row[name]) for name in fields)]
            if empty:
                yield Finding(
                    "warning",
                    f"Dataset {data.name!r}, split {split.name!r}",
                    f"{len(empty):,} of {len(split):,} rows hold nothing in their {kind} ({', '.join(fields)}), first "
                    f"{split.ids[empty[0]]!r}: {quoted(split.rows[empty[0]][fields[0]])}. Fill it in, or remove them.",
                )


def sizes(data: Data) -> Iterator[Finding]:
    """Too little to learn from; too little to judge on is refused when the data are read."""
    if len(data.train) < LITTLE:
        yield Finding(
            "warning",
            f"Dataset {data.name!r}, split 'train'",
            f"{len(data.train)} rows are little to learn from, and optimizers validate on part of them. "
            f"Add rows, {LITTLE} at least.",
        )


def input_texts(split: Split) -> list[str]:
    """What a program is given of each row, as one text; an image is known by its hash."""
    rows = ([shortened(by_content(row[name], split.files)) for name in split.inputs] for row in split.rows)
    return ["\n".join(map(_text, values)) for values in rows]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _rows(pairs: Sequence[Pair], split: Split) -> str:
    return f"{len(pairs):,} of {len(split):,} rows {'are' if len(pairs) > 1 else 'is'}"


def _shown(pairs: Sequence[Pair], left: Split, right: Split, *, shares: bool = False) -> str:
    def one(pair: Pair) -> str:
        theirs, ours = (
            f"{split.ids[number]!r} {quoted(_inputs(split.rows[number], split))}"
            for split, number in ((right, pair.right), (left, pair.left))
        )
        return f"{theirs} = {ours}" if not shares else f"{theirs} ≈ {ours} ({pair.share:.0%})"

    more = f"; and {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
    return "; ".join(map(one, pairs[:SHOWN])) + more


def _inputs(row: Mapping[str, Any], split: Split) -> Any:
    values = {name: row[name] for name in split.inputs}
    return next(iter(values.values())) if len(values) == 1 else values
