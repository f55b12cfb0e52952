"""Named data in three splits, and the hash that says which data they were.

Invariant: a `Dataset` is a description and touches nothing; `load` reads it once, and what it returns never changes.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cascade.errors import DatasetError
from cascade.fields import by_content, image_files, image_from, looked_at, shortened, type_name, typed, typed_row
from cascade.rows import Row, Source, read_rows, shown

SPLITS = ("train", "dev", "test")


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
        files: hash by name of the images that rows name, which stand in `folder`.
        types: of fields whose values JSON does not hold as the program declares them.
    """

    name: str
    rows: tuple[Row, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] | None
    inputs: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    types: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the content: the same rows in the same order, and the same images, give the same digits."""
        rows = [dict(row) for row in self.rows]
        return _digest([rows, dict(sorted(self.files.items()))] if self.files else rows)

    def examples(self) -> list[Any]:
        """The rows as fresh `dspy.Example`s with their inputs marked."""
        return [self.example(row) for row in self.rows]

    def example(self, row: Row) -> Any:
        """A row of this split as a fresh `dspy.Example`, its fields in the types that the program declares."""
        import dspy

        fields = typed_row(row, self.types, image_from(self.folder, self.files)) if self.types else row
        return dspy.Example(**fields).with_inputs(*self.inputs)

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
            f"{shown(folder / 'dataset.toml', project)}."
        )
    group = dataset.group or info.get("group")
    train, dev, test = (_load_split(dataset, name, project, inputs, group) for name in SPLITS)
    data = Data(dataset.name, train, dev, test, info)
    _refuse_gaps(data)
    _refuse_overlap(data)
    expected = info.get("fingerprint")
    if expected and expected != data.fingerprint:
        place = shown(folder / "dataset.toml", project)
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
                f"Dataset {dataset.name!r} has no split {name!r}. Found: {found}. Add {shown(path, project)}."
            )
        source, place = path, shown(path, project)
    folder = _folder(source, project, dataset.name)
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
    named = sorted({file for row in rows for file in image_files(row, folder)})
    files = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest()[:12] for file in named}
    return Split(name, rows, ids, groups, inputs, files, folder)


def _folder(source: Source, project: Path, dataset: str) -> Path:
    """Where the images are that rows name: beside the file that holds the rows, else in the data set's folder."""
    if isinstance(source, str | Path) and "://" not in str(source):
        return (project / source).parent
    return project / "datasets" / dataset


def declared(data: Data, types: Mapping[str, Any]) -> Data:
    """The data with the types that a program declares of their fields.

    Raises:
        DatasetError: a row's input cannot be such a value.
    """
    types = {name: kind for name, kind in types.items() if name in data.train.rows[0]}
    if not types:
        return data
    train, dev, test = (replace(split, types=types) for split in data)
    for split in (train, dev, test):
        _refuse_untyped(split, data.name)
    return replace(data, train=train, dev=dev, test=test)


def _refuse_untyped(split: Split, dataset: str) -> None:
    image = looked_at(split.files)
    for row, id_ in zip(split.rows, split.ids, strict=True):
        for name in filter(split.types.__contains__, split.inputs):
            try:
                typed(row[name], split.types[name], image)
            except ValueError as error:
                held = repr(shortened(row[name]))
                raise DatasetError(
                    f"Dataset {dataset!r}, split {split.name!r}: {name!r} of row {id_!r} is "
                    f"{held if len(held) <= 60 else held[:60] + '…'}, which is no {type_name(split.types[name])}, as "
                    f"the program declares it: {_why(error, split.folder)}."
                ) from None


def _why(error: ValueError, folder: Path) -> str:
    if not isinstance(error, ValidationError):
        return f"{error}; files are looked for in {folder}"
    first = error.errors()[0]
    return " ".join(f"{'.'.join(map(str, first['loc']))} {first['msg'][:1].lower()}{first['msg'][1:]}".split())


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
    seen: dict[str, tuple[str, str]] = {}
    found = []
    for split in data:
        for row, id_ in zip(split.rows, split.ids, strict=True):
            key = _digest([by_content(row[name], split.files) for name in split.inputs])
            if (first := seen.setdefault(key, (split.name, id_)))[0] != split.name:
                found.append((split.name, id_, *first))
    if found:
        (split_name, id_, in_, there), *more = found
        listed = ", ".join(repr(other) for _, other, *_ in more[:5]) + (", …" if len(more) > 5 else "")
        so = f"; so do those of {len(more):,} more: {listed}" if more else ""
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


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
