"""Who watches a run for a person: a live table on a terminal, plain lines elsewhere.

Invariant: both write to the stderr of the command's start, because stages send what optimizers print elsewhere.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from cascade.cli.words import bounded, line

if TYPE_CHECKING:
    from cascade.bounds import Bound
    from cascade.check import Prepared
    from cascade.journal import Journal
    from cascade.lm.meter import Meter
    from cascade.progress import Progress
    from cascade.result import Result, StageResult


@contextmanager
def watching(*, resumed_from: str = "") -> "Iterator[Progress]":
    """A watcher that suits stderr.

    Args:
        resumed_from: when the run that goes on was interrupted.
    """
    file = sys.stderr
    if file.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from cascade.cli.live import LiveTable

        with LiveTable(file, resumed_from=resumed_from) as table:
            yield table
    else:
        yield Lines(file, resumed_from=resumed_from)


def opening(prepared: "Prepared", journal: "Journal", resumed_from: str, resumed: bool) -> list[str]:
    """What is said first."""
    about = prepared.experiment.hypothesis.partition("\n")[0]
    run = journal.run.id
    first = f"Going on with run {run}, interrupted at {resumed_from}." if resumed else f"Run {run} of {prepared.name}."
    return [first, *([about] if about else [])]


class Lines:
    """A plain line for the beginning, a stage's begin and end, and what is told or warned of; no control characters.

    Args:
        file: where to.
        resumed_from: when the run that goes on was interrupted.
    """

    def __init__(self, file: TextIO, *, resumed_from: str = "") -> None:
        self._file = file
        self._resumed_from = resumed_from

    def begin(self, prepared: "Prepared", journal: "Journal", meter: "Meter", resumed: bool) -> None:  # noqa: ARG002
        """Say which run it is."""
        for sentence in opening(prepared, journal, self._resumed_from, resumed):
            self._print(sentence)

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        """Say nothing."""

    def tick(self, note: str = "") -> None:
        """Say nothing."""

    def stage_begins(self, stage: str, optimizer: str, bound: "Bound") -> None:
        """A line with what it may take."""
        self._print(f"{stage}: {optimizer}, {bounded(bound)}")

    def stage_ended(self, result: "StageResult") -> None:
        """A line with the figures."""
        self._print(line(result))

    def tell(self, sentence: str) -> None:
        """A line."""
        self._print(sentence)

    def warn(self, sentence: str) -> None:
        """A line."""
        self._print(f"warning: {sentence}")

    def end(self, result: "Result") -> None:
        """Say nothing: the command prints the result."""

    def _print(self, text: str) -> None:
        print(" ".join(text.split()), file=self._file, flush=True)
