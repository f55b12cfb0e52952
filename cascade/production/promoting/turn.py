"""Whose turn it is to move what serves.

Invariant: one process at a time has it, and the kernel takes it from who dies; no clock is in it, and nothing is stale.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cascade.journal import written


class Turn:
    """A turn that is held; made by `turn`."""

    def __init__(self, file: IO[str], wait: Callable[[], None]) -> None:
        self.file = file
        self.wait = wait
        self._take()

    @contextmanager
    def let_go(self) -> Iterator[None]:
        """Let others have theirs meanwhile; what was known before may be wrong afterwards."""
        fcntl.flock(self.file, fcntl.LOCK_UN)
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.wait()
            fcntl.flock(self.file, fcntl.LOCK_EX)


@contextmanager
def turn(path: Path, wait: Callable[[], None]) -> Iterator[Turn]:
    """Hold the turn, once whoever has it is done.

    Args:
        path: of a file that stands for it.
        wait: called where somebody has it.

    Raises:
        JournalError: the file cannot be made.
    """
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with path.open("r+") as file:
        yield Turn(file, wait)
