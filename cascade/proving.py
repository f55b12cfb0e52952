"""The one look at test: dev selects, test proves.

Invariant: every look is written down before it is taken, and a result says which look at its split it was.
"""

import dataclasses
from pathlib import Path
from typing import TextIO

from cascade.comparison import compare
from cascade.dataset import Split
from cascade.decision import proven
from cascade.journal import Journal, written
from cascade.recording import figures_on_test, test_outcomes
from cascade.result import StageResult, Test
from cascade.session import Session


def look_at_test(session: Session, best: StageResult) -> Test:
    """Evaluate baseline and best on test and compare them, paired, at the plateau's confidence.

    Raises:
        BudgetSpent: what was kept back did not suffice.
    """
    baseline, data, plateau = session.results[0], session.prepared.data, session.prepared.experiment.plateau
    run = session.journal.run
    looks = count_look(session.prepared.settings.home, data.test, f"{run.experiment} {run.id}")
    before = session.evaluate(baseline.program, data.test, "test of the baseline")
    after = before if best is baseline else session.evaluate(best.program, data.test, f"test of {best.name}")
    comparison = compare(
        after.scores,
        before.scores,
        groups=data.test.groups,
        confidence=plateau.confidence,
        margin=plateau.equivalence_margin,
    )
    test = Test(before, after, comparison, proven(comparison), looks)
    session.journal.write("test.json", test_outcomes(test))
    _note_on_stages(session.journal, test, best)
    return test


def _note_on_stages(journal: Journal, test: Test, best: StageResult) -> None:
    for record in journal.stages():
        which = "test" if record.folder == best.name else "baseline_test" if record.number == 0 else ""
        if which:
            journal.write_stage(dataclasses.replace(record, test_metrics=figures_on_test(test, which)))


def _appended(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8")


def count_look(home: Path, split: Split, entry: str) -> int:
    """Write down that somebody looks at a split; returns how many looks there have been.

    Args:
        entry: who looks, in one line; the same line is the same look.
    """
    with written(path := home / "looks" / f"{split.fingerprint}.txt"), _appended(path) as file:
        file.seek(0)
        looks = file.read().splitlines()
        if entry not in looks:
            file.write(entry + "\n")
            looks.append(entry)
    return len(looks)
