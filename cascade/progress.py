"""Who watches a run, and what they are told.

Invariant: a watcher changes nothing; a run under `Silent` does the same work.
"""

import warnings
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cascade.bounds import Bound
    from cascade.check import Prepared
    from cascade.journal import Journal
    from cascade.lm.meter import Meter
    from cascade.result import Result, StageResult


class Progress(Protocol):
    """Someone who watches a run; called from the thread that runs it, `tick` also from others."""

    def begin(self, prepared: "Prepared", journal: "Journal", meter: "Meter", resumed: bool) -> None:
        """The run begins, or goes on."""

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        """A stage begins something that takes `total` ticks, or an unknown number."""

    def tick(self, note: str = "") -> None:
        """One example, candidate or training step is done."""

    def stage_begins(self, stage: str, optimizer: str, bound: "Bound") -> None:
        """A stage's optimizer begins; `bound` is what the stage may ask of its LMs, judging included."""

    def stage_ended(self, result: "StageResult") -> None:
        """A stage is done, failed or skipped."""

    def tell(self, sentence: str) -> None:
        """Something was found that is worth knowing."""

    def warn(self, sentence: str) -> None:
        """Something is wrong that does not stop the run."""

    def end(self, result: "Result") -> None:
        """The run is over."""


class Silent:
    """Nobody watches; warnings become Python warnings."""

    def begin(self, prepared: "Prepared", journal: "Journal", meter: "Meter", resumed: bool) -> None:
        """Say nothing."""

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        """Say nothing."""

    def tick(self, note: str = "") -> None:
        """Say nothing."""

    def stage_begins(self, stage: str, optimizer: str, bound: "Bound") -> None:
        """Say nothing."""

    def stage_ended(self, result: "StageResult") -> None:
        """Say nothing."""

    def tell(self, sentence: str) -> None:
        """Say nothing."""

    def warn(self, sentence: str) -> None:
        """Warn."""
        warnings.warn(sentence, stacklevel=3)

    def end(self, result: "Result") -> None:
        """Say nothing."""
