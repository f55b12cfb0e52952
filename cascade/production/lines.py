"""Files of JSON lines that are only ever added to.

Invariant: values are on the disk when `append` returns, and none of them is there when it raises; a line that a process
which died wrote half of spoils no other; several processes may append at once.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from cascade.journal import written
from cascade.redaction import redacted


def append(path: Path, values: Iterable[Any], *, private: bool = False) -> None:
    """Add values, a line each, without keys, and wait for the disk once.

    Args:
        private: a file that is made is readable by its owner alone.

    Raises:
        JournalError: they cannot be written.
    """
    text = "".join(redacted(json.dumps(value, ensure_ascii=False)) + "\n" for value in values)
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0, opener=_private if private else None) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if not _whole(file, end):
                text = f"\n{text}"
            try:
                _put(file, text.encode("utf-8", "backslashreplace"))
            except OSError:
                with contextlib.suppress(OSError):  # else what is reported as lost would be read, and come again
                    file.truncate(end)
                raise


def read(path: Path, start: int = 0, most: int | None = None) -> tuple[list[Any], int]:
    """Values of the whole lines from a place in the file on, and where to go on; a line that is no JSON is left out.

    Where no line begins at that place, somebody took lines out of the file, and it is read from its beginning.

    Args:
        most: bytes that are read at once, if no line is longer; default: all.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # what is being written may yet be taken back
            start = file.seek(start if _whole(file, start) else 0)
            found = file.read(-1 if most is None else most)
            if b"\n" not in found:
                found += file.readline()
    except FileNotFoundError:
        return [], start
    whole = found[: found.rfind(b"\n") + 1]
    values = []
    for line in whole.splitlines():
        try:
            values.append(json.loads(line))
        except ValueError:  # cut off by a process that died: what was not written whole did not happen
            continue
    return values, start + len(whole)


def _private(path: str, flags: int) -> int:
    """What people asked and said is nobody else's."""
    return os.open(path, flags, 0o600)


def _whole(file: BinaryIO, place: int) -> bool:
    """Whether a line ends just before a place, or the file begins there."""
    return place == 0 or (file.seek(place - 1) == place - 1 and file.read(1) == b"\n")


def _put(file: Any, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())
