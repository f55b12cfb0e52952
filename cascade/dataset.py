"""Named data in three splits, and the hash that says which data they were.

Invariant: a `Dataset` is a description and touches nothing; `load` reads it once, and what it returns never changes.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

from cascade.errors import DatasetError

SPLITS = ("train", "dev", "test")
Row = Mapping[str, Any]
Source = Any
"""A path or URL (.jsonl, .json, .csv, .parquet, `hf://…`), a pandas frame, rows, or a function that returns one."""


@dataclass(frozen=True)
class Dataset:
    """Data by name: files in `datasets/NAME/`, or sources given here.

    >>> Dataset("qa").name
    'qa'

    Args:
        name: also the folder under `datasets/`.
        train, dev, test: sources that replace `datasets/NAME/{train,dev,test}.jsonl`.
        inputs: input fields; default from `dataset.toml`.
        group: field whose rows belong together, such as a customer; default from `dataset.toml`.
    """

    name: str
    train: Source = None
    dev: Source = None
    test: Source = None
    inputs: Sequence[str] = ()
    group: str | None = None

    def source(self, split: str) -> Source:
        """What was given for `split`, or None."""
        return getattr(self, split)


@dataclass(frozen=True)
class Split:
    """The rows of one split, in order.

    Args:
        name: `train`, `dev` or `test`.
        rows: field values by row.
        ids: a stable name for each row.
        groups: the group of each row, or None where rows stand alone.
        inputs: the fields a program is given.
    """

    name: str
    rows: tuple[Row, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    inputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the content: the same rows in the same order give the same digits."""
        return _digest([dict(row) for row in self.rows])

    def examples(self) -> list[Any]:
        """The rows as fresh `dspy.Example`s with their inputs marked."""
        import dspy

        return [dspy.Example(**row).with_inputs(*self.inputs) for row in self.rows]

    def where(self, keep: Sequence[bool]) -> "Split":
        """The rows that `keep` says yes to, one answer a row."""
        groups = tuple(compress(self.groups, keep)) if self.groups else None
        return replace(self, rows=tuple(compress(self.rows, keep)), ids=tuple(compress(self.ids, keep)), groups=groups)


@dataclass(frozen=True)
class Data:
    """A dataset that has been read: three splits that share no row and no group."""

    name: str
    train: Split
    dev: Split
    test: Split
    info: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Split]:
        return iter((self.train, self.dev, self.test))

    @property
    def fingerprint(self) -> str:
        """12 hex digits over all splits."""
        return _digest([split.fingerprint for split in self])


def load(dataset: Dataset, project: Path) -> Data:
    """Read all splits and check what would make scores a lie.

    Raises:
        DatasetError: a missing or empty split, a malformed line (file and line), a missing field, rows or
            groups that stand in two splits, or a fingerprint that does not match `dataset.toml`.
    """
    folder = project / "datasets" / dataset.name
    info = _read_info(folder / "dataset.toml")
    inputs = _names(dataset.inputs or info.get("inputs", ()), dataset.name)
    if not inputs:
        raise DatasetError(
            f'Dataset {dataset.name!r} does not say its input fields. Add inputs = ["question"] to '
            f"{_show(folder / 'dataset.toml', project)}."
        )
    group = dataset.group or info.get("group")
    train, dev, test = (_load_split(dataset, name, project, inputs, group) for name in SPLITS)
    data = Data(dataset.name, train, dev, test, info)
    _refuse_gaps(data)
    _refuse_overlap(data)
    expected = info.get("fingerprint")
    if expected and expected != data.fingerprint:
        place = _show(folder / "dataset.toml", project)
        raise DatasetError(
            f"Dataset {dataset.name!r} has fingerprint {data.fingerprint!r}, but {place} says {expected!r}. "
            f'If you meant to change the data, write fingerprint = "{data.fingerprint}" there.'
        )
    return data


def _names(inputs: Any, dataset: str) -> tuple[str, ...]:
    if isinstance(inputs, str):
        raise DatasetError(f'Dataset {dataset!r}: inputs = {inputs!r} is no list. Write inputs = ["{inputs}"].')
    return tuple(inputs)


def _load_split(dataset: Dataset, name: str, project: Path, inputs: tuple[str, ...], group: str | None) -> Split:
    source = dataset.source(name)
    place = f"Dataset {dataset.name!r}, split {name!r}"
    if source is None:
        path = project / "datasets" / dataset.name / f"{name}.jsonl"
        if not path.exists():
            found = ", ".join(split for split in SPLITS if path.with_name(f"{split}.jsonl").exists()) or "none"
            raise DatasetError(
                f"Dataset {dataset.name!r} has no split {name!r}. Found: {found}. Add {_show(path, project)}."
            )
        source, place = path, _show(path, project)
    rows = tuple(read_rows(source, project, place))
    if not rows:
        raise DatasetError(f"{place} has no rows. Add at least one.")
    for number, row in enumerate(rows, 1):
        for name_ in (*inputs, *([group] if group else [])):
            if name_ not in row:
                raise DatasetError(f"{place}, row {number} has no field {name_!r}. Found: {', '.join(row)}.")
    ids = tuple(str(row.get("id", f"{name}-{number:04}")) for number, row in enumerate(rows, 1))
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise DatasetError(f"{place} uses the id {twice!r} twice. Make ids unique.")
    groups = tuple(str(row[group]) for row in rows) if group else None
    return Split(name, rows, ids, groups, inputs)


def read_rows(source: Source, project: Path, place: str) -> list[Row]:
    """Rows of any source, as dictionaries of JSON values.

    JSON values only: a set or an object with an address in its repr would change a prompt from run to run.
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
        "csv": lambda: pandas.read_csv(path, keep_default_na=False),
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


def _read_jsonl(path: Path, project: Path) -> list[Row]:
    rows: list[Row] = []
    try:
        lines = path.read_text("utf-8").split("\n")  # not splitlines: JSON may hold other line ends inside a text
    except UnicodeDecodeError as error:
        raise DatasetError(f"{_show(path, project)} is not UTF-8 ({error.reason}). Save it as UTF-8.") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{_show(path, project)}, line {number} is not valid JSON ({error.msg}): {line[:60]!r}."
            ) from None
        if not isinstance(row, dict):
            raise DatasetError(f"{_show(path, project)}, line {number} is no JSON object: {line[:60]!r}.")
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


def _refuse_gaps(data: Data) -> None:
    fields = set(data.train.rows[0]) - {"id"}
    for split in data:
        for row, id_ in zip(split.rows, split.ids, strict=True):
            if missing := fields - set(row):
                raise DatasetError(
                    f"Dataset {data.name!r}, split {split.name!r}: row {id_!r} has no field {min(missing)!r}. "
                    f"Found: {', '.join(row)}."
                )


def _refuse_overlap(data: Data) -> None:
    seen, found = dict[str, tuple[str, str]](), list[tuple[str, ...]]()
    for split in data:
        for row, id_ in zip(split.rows, split.ids, strict=True):
            key = _digest([row[name] for name in split.inputs])
            if (first := seen.setdefault(key, (split.name, id_)))[0] != split.name:
                found.append((split.name, id_, *first))
    if found:
        (split_name, id_, in_, there), *more = found
        so = f"; so do those of {len(more):,} more: {', '.join(repr(row[1]) for row in more[:5])}" if more else ""
        raise DatasetError(
            f"Dataset {data.name!r}: the inputs of {id_!r} in {split_name!r} stand in {in_!r} too ({there!r}){so}. "
            f"Remove {'one of each' if more else 'one'}: a program must not be judged on what it learned from."
        )
    owner: dict[str, str] = {}
    for split in data:
        for group in split.groups or ():
            if owner.setdefault(group, split.name) != split.name:
                raise DatasetError(
                    f"Dataset {data.name!r}: group {group!r} stands in {owner[group]!r} and {split.name!r}. "
                    "Keep a group in one split."
                )


def _read_info(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not valid TOML: {error}.") from None


def _show(path: Path, project: Path) -> str:
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
