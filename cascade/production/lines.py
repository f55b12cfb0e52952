"""Files of JSON lines that are only ever added to.

Invariant: a line is on the disk when `append` returns, and a line that a process which died wrote half of spoils no
other; several processes may append at once.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
        with open(path, "a+b", opener=_private if private else None) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) and _torn(file):
                text = f"\n{text}"
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())


def read(path: Path, start: int = 0) -> tuple[list[Any], int]:
    """Values of the whole lines from a place in the file on, and where to go on; a line that is no JSON is left out.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            found = file.read()
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


def _torn(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) != b"\n")
