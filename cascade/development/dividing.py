"""Rows of one source as three splits.

Invariant: pure and the same for the same rows and seed. Rows that belong together, by their group or because their
inputs are the same but for case and punctuation, stay together.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.checks.texts import normalised
from cascade.comparison import MIN_UNITS
from cascade.errors import DatasetError
from cascade.rows import Row

SHARES = (0.4, 0.3, 0.3)
"""Of train, dev and test."""
LABELS, OFTEN, LONGEST = 20, 3, 40
"""Different texts up to which they are labels, rows that each must have on average, and characters at most."""


def divide(
    rows: Sequence[Row], inputs: Sequence[str], *, group: str | None, label: str, seed: int
) -> dict[str, list[Row]]:
    """Rows by split, each in the order of the source.

    Each split gets its share of each value of `label`, as far as groups allow.

    Args:
        label: the field that is expected; "" spreads by none.

    Raises:
        DatasetError: fewer than 20 units for dev, or for test, with as many for train.
    """
    units = _units(rows, inputs, group)
    least = 3 * MIN_UNITS
    if len(units) < least:
        what = f"values of {group!r}" if group else "rows whose inputs differ"
        raise DatasetError(
            f"{len(rows)} rows make {len(units)} {what}; three splits need at least {least}, {MIN_UNITS} each. Add "
            "rows, or fill the files of the dataset by hand."
        )
    random.Random(seed).shuffle(units)
    if label:
        units.sort(key=lambda unit: str(rows[unit[0]][label]))
    placed = {row: split for unit, split in zip(units, _deal(len(units)), strict=True) for row in unit}
    return {name: [rows[n] for n in range(len(rows)) if placed[n] == name] for name in ("train", "dev", "test")}


def annotation(values: Sequence[Any]) -> str | list[str]:
    """The type of a field by its values: labels, where there are few that come often; else a type's name.

    >>> annotation(["yes", "no"] * 9), annotation([1, 2]), annotation(["a", "b"])
    (['no', 'yes'], 'int', 'str')
    """
    kinds = {type(value) for value in values}
    if kinds == {str}:
        counts = Counter(values)
        few = 2 <= len(counts) <= LABELS and len(values) >= OFTEN * len(counts)
        return sorted(counts) if few and max(map(len, counts)) <= LONGEST and all(map(str.strip, counts)) else "str"
    if kinds == {int, float}:
        return "float"
    if kinds == {list}:
        inside = {type(one) for value in values for one in value}
        return f"list[{inside.pop().__name__}]" if len(inside) == 1 and inside <= {str, int, float, bool} else "list"
    return kinds.pop().__name__ if len(kinds) == 1 and kinds <= {bool, int, float, dict} else "str"


def _units(rows: Sequence[Row], inputs: Sequence[str], group: str | None) -> list[list[int]]:
    """Numbers of the rows that stay together."""
    owner = list(range(len(rows)))

    def root(n: int) -> int:
        while owner[n] != n:
            owner[n] = owner[owner[n]]
            n = owner[n]
        return n

    first: dict[tuple[str, str], int] = {}
    for number, row in enumerate(rows):
        keys = [("inputs", "\n".join(normalised(str(row[name])) for name in inputs))]
        keys += [("group", str(row[group]))] if group else []
        for key in keys:
            owner[root(number)] = root(first.setdefault(key, number))
    units: Mapping[int, list[int]] = defaultdict(list)
    for number in range(len(rows)):
        units[root(number)].append(number)
    return list(units.values())


def _deal(n: int) -> list[str]:
    """Splits in the pattern of their shares, at least 20 each, so that neighbours are spread over all of them."""
    names, given = ("train", "dev", "test"), [0, 0, 0]
    counts = [0, *(max(MIN_UNITS, round(share * n)) for share in SHARES[1:])]
    counts[0] = n - sum(counts)
    dealt = []
    for turn in range(1, n + 1):
        behind = max(range(3), key=lambda k: (counts[k] * turn / n - given[k], counts[k]))
        given[behind] += 1
        dealt.append(names[behind])
    return dealt
