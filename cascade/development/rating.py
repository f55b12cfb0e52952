"""Programs on the same rows under the same metric, one beside another.

Invariant: each program leaves a journal, as a run without stages does; verdicts, pages and MLflow read it like any
other. A look at test is written down before it is taken, and the same programs on the same rows are one look.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from cascade.comparison import compare, corrected, score_interval
from cascade.decision import proven
from cascade.development.naming import Rival
from cascade.errors import TrackingError
from cascade.evaluation import Evaluation
from cascade.journal import Journal, Tracker
from cascade.production.promoting.scoring import Scorer, scoring
from cascade.program import Snapshot, snapshot
from cascade.progress import Progress
from cascade.proving import count_look
from cascade.recording import begin_journal, figures_on_test, test_document, test_metrics, test_outcomes, write_stage
from cascade.report.comparing import COMPARED, SideBySide, side_by_side
from cascade.report.reading import Run, read
from cascade.result import StageResult, Test
from cascade.spending import Spent

PLACE = "compared"
"""Folder of the state, beside `runs`: what asks for the newest run is not told of comparisons."""
BASELINE = "0-baseline"
NOTE = "pairs.json"


@dataclass(frozen=True)
class _Rated:
    rival: Rival
    taken: Snapshot
    dev: Evaluation
    test: Evaluation | None
    spent: Spent
    began: float


@dataclass(frozen=True)
class Rating:
    """What came of it.

    Args:
        compared: each program's label stands where a run's id would.
        spent: on all of them; what the ledger answered is free.
    """

    compared: SideBySide
    spent: Spent


def rate(rivals: Sequence[Rival], *, test: bool, progress: Progress, tracker: Tracker | None = None) -> Rating:
    """Judge programs on dev, and on test where that is asked for.

    Args:
        rivals: the first is what the others are compared with first; of one experiment, with one set of LMs.
        tracker: is shown the journals.

    Raises:
        CascadeError: a program was not scored: the budget does not suffice, or too many examples failed.
        Interrupted: doing it again goes on, because answers are kept.
    """
    first = rivals[0].prepared
    with scoring(first, progress) as scorer:
        taken = [snapshot(rival.program) for rival in rivals]
        looks = _look(rivals, taken) if test else 0
        rated = [_rated(scorer, rival, state, test) for rival, state in zip(rivals, taken, strict=True)]
    journals = [_journal(one, rated[0], looks, len(rated) - 1) for one in rated]
    runs = [_named(journal, one.rival.label) for journal, one in zip(journals, rated, strict=True)]
    compared = side_by_side(runs)
    pairs = [sorted(pair) for pair in combinations([run_key(run) for run in runs], 2)]
    home, name, fingerprint = first.settings.home, first.name, first.data.dev.fingerprint
    before = {tuple(pair) for one in notes(home, name) if one["dev"] == fingerprint for pair in one["pairs"]}
    says = compared.pairs[-1].dev.says
    journals[-1].write(NOTE, {"dev": fingerprint, "judged_by": judged_by(first.parts), "pairs": pairs, "says": says})
    for journal in journals if tracker else ():
        _publish(tracker, journal, progress)
    spent = sum((one.spent for one in rated), Spent())
    return Rating(replace(compared, earlier=len(before - {tuple(pair) for pair in pairs})), spent)


def notes(home: Path, experiment: str) -> list[dict[str, Any]]:
    """What was compared, oldest first: `dev` (fingerprint), `judged_by`, `pairs` of programs, what it `says`.

    What is damaged is left out.
    """
    found = []
    for path in sorted((home / PLACE / experiment).glob(f"*/{NOTE}")):
        try:
            found.append(dict(json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, TypeError):
            continue
    return [note for note in found if note.keys() >= {"dev", "judged_by", "pairs", "says"}]


def judged_by(parts: Mapping[str, str]) -> list[str]:
    """Hashes of the rows and of the metric."""
    return [parts.get(part, "") for part in ("data", "metric", "metric_code")]


def run_key(run: Run) -> str:
    """The same for the same program."""
    return _key(run.record.parts, run.programs[BASELINE])


def _key(parts: Mapping[str, str], digest: str) -> str:
    """Code, LMs and state."""
    return ".".join((parts.get("source", ""), parts.get("lms", ""), digest))


def _look(rivals: Sequence[Rival], taken: Sequence[Snapshot]) -> int:
    """Write down that these programs are looked at on test; returns how many looks there have been."""
    first = rivals[0].prepared
    keys = [_key(rival.prepared.parts, state.digest) for rival, state in zip(rivals, taken, strict=True)]
    return count_look(first.settings.home, first.data.test, f"{first.name} compared {' '.join(sorted(keys))}")


def _rated(scorer: Scorer, rival: Rival, taken: Snapshot, test: bool) -> _Rated:
    before, began, data = scorer.spent, time.time(), rival.prepared.data
    dev = scorer.score(rival.program, data.dev, rival.label)
    scorer.progress.tell(f"{rival.label}: dev {dev.mean:.1%}")
    on_test = scorer.score(rival.program, data.test, rival.label) if test else None
    return _Rated(rival, taken, dev, on_test, scorer.spent - before, began)


def _journal(one: _Rated, reference: _Rated, looks: int, claims: int) -> Journal:
    """A run without stages, whose baseline is the program."""
    prepared = one.rival.prepared
    plateau = prepared.experiment.plateau
    journal = begin_journal(prepared, one.began, COMPARED, place=PLACE)
    interval = score_interval(one.dev.scores, groups=one.dev.split.groups, confidence=plateau.confidence)
    result = StageResult(BASELINE, "none", "done", one.spent, one.rival.program, one.taken, one.dev, interval)
    record = write_stage(journal, 0, result, stage=None, bound=None, incumbent=None, candidates=[], started=one.began)
    test = _test(one, reference, looks, claims)
    if test:
        journal.write("test.json", test_outcomes(test))
        journal.write_stage(replace(record, test_metrics=figures_on_test(test, "test")))
    chosen = " (selected on dev)" if one.rival.selected else ""
    journal.update(
        status="completed",
        ended=journal.now(),
        params={**prepared.params(), "program": one.rival.label},
        spent=one.spent.to_json(),
        spent_by_stage={BASELINE: one.spent.to_json()},
        proven=test.proven if test else None,
        summary=f"{one.rival.label}: dev {one.dev.mean:.1%}{chosen}.",
        metrics={**one.spent.to_json(), **(test_metrics(test) if test else {})},
        test=test_document(test) if test else {},
    )
    return journal


def _test(one: _Rated, reference: _Rated, looks: int, claims: int) -> Test | None:
    """The program against the first one; the first against itself, as in a run whose best is its baseline."""
    if one.test is None or reference.test is None:
        return None
    plateau = one.rival.prepared.experiment.plateau
    comparison = compare(
        one.test.scores,
        reference.test.scores,
        groups=one.test.split.groups,
        confidence=corrected(plateau.confidence, claims),
        margin=plateau.equivalence_margin,
    )
    return Test(reference.test, one.test, comparison, proven(comparison), looks)


def _named(journal: Journal, label: str) -> Run:
    run = read(journal)
    return replace(run, record=replace(run.record, id=label))


def _publish(tracker: Tracker | None, journal: Journal, progress: Progress) -> None:
    try:
        if tracker:
            tracker.publish(journal)
    except TrackingError as error:
        progress.warn(str(error))
