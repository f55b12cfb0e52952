"""Rows out of whatever holds them: a path, a URL, a pandas frame, a list, or a function that returns one.

Invariant: a row is a dictionary of JSON values. A set, or an object with an address in its repr, would change a prompt
from run to run.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cascade.errors import DatasetError

Row = Mapping[str, Any]
Source = Any
"""A path or URL (.jsonl, .json, .csv, .parquet, `hf://…`), a pandas frame, rows, or a function that returns one."""


def read_rows(source: Source, project: Path, place: str) -> list[Row]:
    """Rows of any source.

    Args:
        project: paths are relative to it.
        place: how messages call the source.

    Raises:
        DatasetError: it cannot be read, or holds what is no row.
    """
    if callable(source):
        source = source()
    if isinstance(source, str | Path):
        source = _read_file(str(source), project, place)
    if hasattr(source, "to_dict"):
        source = source.to_dict("records")
    if not isinstance(source, Iterable):
        raise DatasetError(f"{place} is {source!r}. Give rows, a path, a pandas frame or a function that returns one.")
    return [_checked(row, f"{place}, row {number}") for number, row in enumerate(source, 1)]


def _read_file(source: str, project: Path, place: str) -> Any:
    remote = "://" in source
    path = source if remote else str(project / source)
    if not remote and not Path(path).exists():
        raise DatasetError(f"{place} names the file {source!r}, which does not exist.")
    suffix = source.rsplit(".", 1)[-1].lower()
    if suffix == "jsonl" and not remote:
        return _read_jsonl(Path(path), project)
    import pandas

    readers: dict[str, Callable[[], Any]] = {
        # As written: pandas would make a number of "007" and a date of a field that is called `date`.
        "jsonl": lambda: pandas.read_json(path, lines=True, dtype=False),
        "json": lambda: pandas.read_json(path, dtype=False),
        "csv": lambda: _typed(pandas.read_csv(path, dtype=str, keep_default_na=False).to_dict("list")),
        "parquet": lambda: pandas.read_parquet(path),
    }
    if suffix not in readers:
        raise DatasetError(
            f"{place} names {source!r}, which is none of {', '.join(f'.{ending}' for ending in readers)}."
        )
    try:
        return readers[suffix]()
    except Exception as error:
        raise DatasetError(f"{place}: {source!r} could not be read: {error}.") from error


def _typed(columns: Mapping[Any, list[Any]]) -> list[Row]:
    """Rows of a table of texts; a column is numbers or truth values only where that loses nothing of any cell.

    >>> _typed({"n": ["1", "2.5"], "code": ["007", "8"], "sure": ["true", "false"]})
    [{'n': 1, 'code': '007', 'sure': True}, {'n': 2.5, 'code': '8', 'sure': False}]
    """
    typed = {name: _numbers(cells) or _truths(cells) or cells for name, cells in columns.items()}
    return [dict(zip(typed, row, strict=True)) for row in zip(*typed.values(), strict=True)]


def _numbers(cells: list[Any]) -> list[Any]:
    """Each cell as the number that is written just so, or nothing."""
    found: list[Any] = []
    for cell in map(str, cells):
        for kind in (int, float):
            with suppress(ValueError):
                if math.isfinite(number := kind(cell)) and str(number) == cell:
                    found.append(number)
                    break
        else:
            return []
    return found


def _truths(cells: list[Any]) -> list[bool]:
    words = [str(cell).lower() for cell in cells]
    return [word == "true" for word in words] if set(words) <= {"true", "false"} else []


def _read_jsonl(path: Path, project: Path) -> list[Row]:
    rows: list[Row] = []
    try:
        lines = path.read_text("utf-8").split("\n")  # not splitlines: JSON may hold other line ends inside a text
    except UnicodeDecodeError as error:
        raise DatasetError(f"{shown(path, project)} is not UTF-8 ({error.reason}). Save it as UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{shown(path, project)}, line {number} is not valid JSON ({error.msg}): {line[:60]!r}."
            ) from None
        if not isinstance(row, dict):
            raise DatasetError(f"{shown(path, project)}, line {number} is no JSON object: {line[:60]!r}.")
        rows.append(row)
    return rows


def _checked(row: Any, place: str) -> Row:
    if not isinstance(row, Mapping):
        raise DatasetError(f"{place} is {row!r}, not a dictionary of fields.")
    row = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
    for name, value in row.items():
        try:
            json.dumps([name, value], allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            hint = (
                "fill the gap"
                if isinstance(value, float) and math.isnan(value)
                else "use text, numbers, lists or tables"
            )
            raise DatasetError(f"{place}, field {name!r} holds {value!r}, which is not JSON: {hint}.") from None
    return {str(name): value for name, value in row.items()}


def shown(path: Path, project: Path) -> str:
    """A path as a person in the project writes it."""
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)
