"""Files of a project that a process may die over.

Invariant: a file is the old one or the new one, and the new one is on the disk before anything rests on it.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path

from cascade.journal import written


def replaced(path: Path, content: bytes) -> None:
    """Replace a file, also one that a link leads to, and wait for the disk; for one process at a time.

    Raises:
        JournalError: it cannot be written; it is as it was.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name}.draft")
    with written(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, draft)
            draft.replace(target)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        _settle(target.parent)


def digest(content: bytes) -> str:
    """A hash by which a file is known."""
    return hashlib.sha256(content).hexdigest()


def free(path: Path, but: Collection[str] = ()) -> Path:
    """A path at which nothing stands and that has no name of `but`: this one, or `NAME-2`, `NAME-3`, …"""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(other for other in chain([path], others) if not other.exists() and other.name not in but)


def moved(path: Path, target: Path) -> None:
    """Move a file within one file system.

    Raises:
        JournalError: it cannot be moved; it is where it was.
    """
    with written(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


@contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Hold a lock, once whoever holds it lets go; the kernel frees it when a process dies."""
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _settle(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
