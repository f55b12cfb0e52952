"""The files of an experiment, put where they belong.

Invariant: nothing is overwritten, and every file appears whole or not at all. Whoever dies in between goes on with the
same command.
"""

import os
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cascade.dataset import SPLITS
from cascade.development.scaffold import Plan, Wish
from cascade.errors import DatasetError, ExperimentError
from cascade.journal import written
from cascade.session import alone
from cascade.settings import Settings


def write(made: Plan, wish: Wish, settings: Settings) -> list[str]:
    """Write what is not there yet, the experiment's file last; returns the paths that were written.

    What stands in a folder of the dataset already stays; rows are added to it only where it has none.

    Raises:
        ExperimentError: rows are there with another content.
        CascadeError: the same is under way elsewhere, or the disk refuses.
    """
    folder, own = f"datasets/{wish.name}", f"experiments/{wish.name}.py"
    data = {Path(path).name: text for path, text in made.files.items() if path.startswith(f"{folder}/")}
    with alone(settings.home / "locks" / f"new-{wish.name}.lock", f"`cascade new {wish.name}`"):
        with written(settings.project / folder):
            done = [f"{folder}/{name}" for name in _write_data(settings.project / folder, data)]
        with written(settings.project / own):
            return [*done, own] if _put(settings.project / own, made.files[own]) else done


def as_described(wish: Wish, project: Path) -> Wish:
    """The wish with the inputs and the group that the dataset's description has, where there is one.

    Raises:
        DatasetError: the description is no TOML, has no such names, or names others than were asked for.
    """
    path = project / "datasets" / wish.name / "dataset.toml"
    if not path.is_file():
        return wish
    try:
        info = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is not valid TOML: {error}.") from None
    inputs, group = info.get("inputs", list(wish.inputs)), info.get("group")
    if not isinstance(inputs, list) or not all(isinstance(name, str) for name in (*inputs, group or "")):
        raise DatasetError(
            f'{path} has inputs = {inputs!r} and group = {group!r}. Write inputs = ["question"], a list of names, and '
            "group as one name or not at all."
        )
    if wish.group and wish.group != group:
        raise DatasetError(f"{path} has no group = {wish.group!r}. Write it there, or leave --group out.")
    if tuple(wish.inputs) not in {tuple(inputs), Wish.inputs}:
        raise DatasetError(f"{path} has inputs = {inputs!r}. Write others there, or leave --inputs out.")
    return replace(wish, inputs=tuple(inputs), group=group)


def _write_data(folder: Path, files: Mapping[str, str]) -> list[str]:
    """A folder that is not there is made whole beside its place and moved there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".new-{folder.name}-*"):
        shutil.rmtree(left)  # of somebody who was killed: the lock is ours
    if folder.exists():
        return _fill(folder, {name: files[name] for name in files if name.removesuffix(".jsonl") in SPLITS})
    draft = Path(tempfile.mkdtemp(prefix=f".new-{folder.name}-", dir=folder.parent))
    draft.chmod(0o755)
    for name, text in files.items():
        (draft / name).write_text(text, "utf-8")
    draft.rename(folder)
    return list(files)


def _fill(folder: Path, rows: Mapping[str, str]) -> list[str]:
    for name, text in rows.items():
        path = folder / name
        if path.exists() and path.read_text("utf-8") != text:
            raise ExperimentError(
                f"{path} is there already, and nothing is overwritten. Leave --from out to use it, or give another "
                "name."
            )
    return [name for name, text in rows.items() if _put(folder / name, text)]


def _put(path: Path, text: str) -> bool:
    """A file that is not there appears whole, because a link refuses to replace one; returns whether it was not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, "utf-8")
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
