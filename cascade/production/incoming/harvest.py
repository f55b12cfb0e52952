"""New rows out of what was served and what people said of it.

Invariant: a row is made only of what a person confirmed or corrected; nothing that stands in a split, in nearly the
same words, is harvested again; and what is harvested goes to `incoming/`, never straight into a split.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.check import Prepared
from cascade.checks.texts import nearest, normalised
from cascade.dataset import Data
from cascade.journal import written
from cascade.mlflow_store.served import Reviewed
from cascade.production.incoming.personal import impersonal
from cascade.redaction import redacted

ENOUGH = 1.0
"""Outcome from which an answer counts as confirmed."""


@dataclass(frozen=True)
class Harvest:
    """What came of the reviewed requests.

    Args:
        rows: new ones, with their id.
        left_out: id of a trace and why it makes no row.
    """

    rows: tuple[dict[str, Any], ...]
    left_out: tuple[tuple[str, str], ...]


def gather(
    found: Iterable[Reviewed],
    prepared: Prepared,
    *,
    waiting: Iterable[Mapping[str, Any]] = (),
    enough: float = ENOUGH,
    personal: bool = False,
) -> Harvest:
    """Make rows of reviewed requests.

    Args:
        waiting: rows that were harvested before and stand in no split yet.
        enough: mean outcome from which an answer that nobody corrected counts as right.
        personal: keep what may name a person.
    """
    data = prepared.data
    rows: dict[str, dict[str, Any]] = {}
    left_out: list[tuple[str, str]] = []
    known = _Known(data, waiting)
    for one in found:
        row, why = _row(one, data, prepared.outputs, enough)
        row = json.loads(redacted(json.dumps(row, ensure_ascii=False))) if personal else impersonal(row)
        text = _inputs(row, data.train.inputs) if row else ""
        why = why or known.place(text, row, rows)
        if why:
            left_out.append((one.id, why))
        else:
            rows[text] = {"id": f"served-{one.id.removeprefix('tr-')[:16]}", **row}
    return Harvest(tuple(rows.values()), tuple(left_out))


def waiting_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of a data set's folder that wait in `incoming/`; lines that are none are left to who picks them up."""
    found: list[dict[str, Any]] = []
    places = (folder / "incoming", folder / "incoming" / "test")
    for path in sorted(path for place in places for path in place.glob("*.jsonl")):
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            found += [row] if isinstance(row, dict) else []
    return found


def store(harvest: Harvest, folder: Path, *, test: bool, stamp: str) -> Path | None:
    """Write the rows into `incoming/`, or `incoming/test/`; returns the file, or None where there are none.

    Args:
        folder: of the data set.
        stamp: in the file's name.

    Raises:
        JournalError: it cannot be written.
    """
    if not harvest.rows:
        return None
    path = folder / "incoming" / ("test" if test else "") / f"harvest-{stamp}.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in harvest.rows)
    draft = path.with_name(f".{path.name}.draft")
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(text.encode("utf-8", "backslashreplace"))
        draft.replace(path)
    return path


class _Known:
    """Rows that are there already, by the text of their inputs."""

    def __init__(self, data: Data, waiting: Iterable[Mapping[str, Any]]) -> None:
        self._places: dict[str, str] = {}
        for row in waiting:
            self._places[_inputs(row, data.train.inputs)] = "incoming"
        for split in data:
            self._places |= dict.fromkeys((_inputs(row, split.inputs) for row in split.rows), split.name)

    def place(self, text: str, row: Mapping[str, Any], new: Mapping[str, Mapping[str, Any]]) -> str:
        """Why a row is not new, or ""."""
        if text in self._places:
            return f"stands in {self._places[text]} already"
        if text in new:
            same = {name: value for name, value in new[text].items() if name != "id"} == dict(row)
            return "asked before" if same else "asked before, and answered otherwise: somebody should decide"
        if near := nearest([*self._places, *new], [text]):
            place = [*self._places.values(), *("this harvest" for _ in new)][near[0].left]
            return f"stands in {place} in nearly the same words"
        return ""


def _row(one: Reviewed, data: Data, outputs: tuple[str, ...], enough: float) -> tuple[dict[str, Any], str]:
    """Input and expected fields, or why there are none."""
    first, inputs = data.train.rows[0], data.train.inputs
    if missing := [name for name in inputs if name not in one.inputs]:
        return {}, f"has no input {missing[0]!r}"
    right = dict(one.corrections)
    if one.outcomes and sum(one.outcomes) / len(one.outcomes) >= enough:
        right = {**one.outputs, **right}
    row = {name: one.inputs[name] for name in inputs}
    for name in (name for name in first if name not in (*inputs, "id")):
        if name in right:
            row[name] = right[name]
        elif name in one.inputs:
            row[name] = one.inputs[name]
        elif data.train.groups and first[name] == data.train.groups[0] and name not in outputs:
            row[name] = f"served-{one.id}"
        else:
            return {}, f"nobody said what {name!r} should be" if name in outputs else f"has no field {name!r}"
        kinds = {type(other[name]) for other in data.train.rows}
        if type(row[name]) not in kinds:
            wanted = ", ".join(sorted(kind.__name__ for kind in kinds))
            return {}, f"{name} = {row[name]!r} is no {wanted}, as in train"
    return row, ""


def _inputs(row: Mapping[str, Any], names: Iterable[str]) -> str:
    return normalised("\n".join(str(row.get(name, "")) for name in names))
