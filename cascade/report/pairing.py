"""Two programs on the same examples of dev: which examples the second wins and loses.

Invariant: examples are paired by id; one that only one program was judged on is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.report.figures import counted
from cascade.report.reading import Judged, Run


@dataclass(frozen=True)
class Change:
    """One example, judged twice."""

    before: Judged
    after: Judged

    @property
    def gain(self) -> float:
        """Score after minus score before."""
        return self.after.score - self.before.score


@dataclass(frozen=True)
class Paired:
    """Examples that the second program wins and loses, the largest change first, and how many are level."""

    won: tuple[Change, ...] = ()
    lost: tuple[Change, ...] = ()
    level: int = 0

    @property
    def sentence(self) -> str:
        """How many there are of each."""
        return f"{counted(len(self.won), 'example')} won, {len(self.lost):,} lost, {self.level:,} level"


def paired(before: Sequence[Judged], after: Sequence[Judged]) -> Paired:
    """Pair two evaluations of the same split."""
    first = {example.id: example for example in before}
    changes = [Change(first[example.id], example) for example in after if example.id in first]
    ordered = sorted(changes, key=lambda change: (-abs(change.gain), change.after.id))
    won = tuple(change for change in ordered if change.gain > 0)
    lost = tuple(change for change in ordered if change.gain < 0)
    return Paired(won, lost, len(changes) - len(won) - len(lost))


def against_baseline(run: Run) -> Paired:
    """The best program against the baseline; nothing where the best is the baseline."""
    if not run.baseline or not run.best or run.best is run.baseline:
        return Paired()
    return paired(run.examples.get(run.baseline.folder, ()), run.examples.get(run.best.folder, ()))
