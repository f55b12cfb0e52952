"""Who watches work that is no run: a bar on a terminal, a line a step elsewhere.

Invariant: everything goes to stderr.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from cascade.progress import Silent

if TYPE_CHECKING:
    from cascade.progress import Progress


@contextmanager
def counting() -> "Iterator[Progress]":
    """A watcher that suits stderr."""
    file = sys.stderr
    if not file.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield _Lines(file)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=file, highlight=False), transient=True) as bars:
        yield _Bars(bars)


class _Lines(Silent):
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        """A line."""
        self._print(f"{stage}: {doing}, {total} examples" if total else f"{stage}: {doing}")

    def tell(self, sentence: str) -> None:
        """A line."""
        self._print(sentence)

    def warn(self, sentence: str) -> None:
        """A line."""
        self._print(f"warning: {sentence}")

    def _print(self, text: str) -> None:
        print(" ".join(text.split()), file=self._file, flush=True)


class _Bars(Silent):
    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        """A bar."""
        self._task = self._bars.add_task(f"{stage}: {doing}", total=total or None)

    def tick(self, note: str = "") -> None:  # noqa: ARG002
        """One further."""
        if self._task is not None:
            self._bars.advance(self._task)

    def tell(self, sentence: str) -> None:
        """A line above the bars."""
        self._bars.console.print(" ".join(sentence.split()), markup=False)

    def warn(self, sentence: str) -> None:
        """A line above the bars."""
        self.tell(f"warning: {sentence}")
