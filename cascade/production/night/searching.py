"""A cascade as a part of a night: from the champion, or from scratch.

Invariant: what was searched is not searched again. A run of the same definition that ended in this night is its run,
also after a kill; one of an earlier night that came to its end is found again, because another would find the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cascade.check import Prepared
from cascade.errors import CascadeError, JournalError, LedgerError
from cascade.experiment import Budget, Experiment
from cascade.journal import ENDED, Journal, RunRecord, journals
from cascade.lm.lms import LMs
from cascade.production.night.choosing import Candidate
from cascade.production.night.nights import Search
from cascade.progress import Progress
from cascade.report.reading import Run, read
from cascade.runner import execute
from cascade.running import ready, tracker
from cascade.settings import Settings
from cascade.spending import Spent

KIND = "nightly"
WHOLE = ("completed", "plateau", "target")
"""Statuses of runs that would find the same again."""


@dataclass(frozen=True)
class Workplace:
    """What a night searches with.

    Args:
        experiment: under the budget of the night.
        make_lms: default: those that settings name.
    """

    experiment: Experiment
    settings: Settings
    progress: Progress
    make_lms: Callable[[Settings], LMs] | None = None

    def prepared(self, start: str = "", budget: Budget | None = None) -> Prepared:
        """The experiment, ready to run, with data and LMs of its own.

        Args:
            start: program to begin from; "" is the experiment's own beginning.
            budget: default: that of the night.
        """
        experiment = replace(self.experiment, start=start) if start else self.experiment
        experiment = replace(experiment, budget=budget) if budget else experiment
        return ready(experiment, self.settings, self.make_lms(self.settings) if self.make_lms else None)

    def publish(self, run: Run) -> None:
        """See that MLflow has a run in full.

        Raises:
            TrackingError: it cannot be reached.
        """
        lms = self.make_lms(self.settings) if self.make_lms else LMs(self.settings)
        tracker(self.settings, lms).publish(Journal(run.folder))


def search(
    place: Workplace, name: str, start: str, budget: Budget | None, *, began: float, again: bool = False
) -> tuple[Search, Run | None]:
    """Search once; a search that fails is told of and does not end the night.

    Args:
        name: `from the champion` or `from scratch`.
        start: see `Workplace.prepared`.
        budget: None where nothing is left of the night's.
        began: when the night began.
        again: search although an earlier night has the result.

    Raises:
        JournalError, LedgerError: the disk is full, or the ledger cannot be used.
        Interrupted: Ctrl-C or SIGTERM; the next call goes on.
    """
    told = Search(name)
    if budget is None:
        return replace(told, unfinished="the night's budget was spent before it began"), None
    try:
        prepared = place.prepared(start, budget)
        journal = _found(prepared, began, again)
        earlier = journal is not None and journal.run.started < began
        if journal is None:
            store = tracker(place.settings, prepared.lms)
            done = execute(prepared, tracker=store, progress=place.progress, kind=KIND)
            journal = Journal(Path(done.journal))
        run = read(journal)
    except (JournalError, LedgerError):
        raise
    except CascadeError as error:
        return replace(told, status="failed", unfinished=f"it failed ({' '.join(str(error).split())})"), None
    return _told(told, run, earlier), run


def _found(prepared: Prepared, began: float, again: bool) -> Journal | None:
    for journal in journals(prepared.settings.home, prepared.name):
        run = journal.run
        ours = (run.kind, run.signature) == (KIND, prepared.signature) and run.status in ENDED
        whole = run.status in WHOLE or (run.status == "budget" and run.started >= began)
        if ours and whole and (run.started >= began or not again):
            return journal
    return None


def _told(told: Search, run: Run, earlier: bool) -> Search:
    record, best = run.record, run.best
    return replace(
        told,
        run=run.id,
        status=run.status,
        earlier=earlier,
        best_stage=best.folder if best else "",
        dev_score=best.metrics.get("dev_score") if best else None,
        spent=Spent().to_json() if earlier else dict(record.spent),
        unfinished=_unfinished(record),
    )


def _unfinished(record: RunRecord) -> str:
    """A run that its budget ended goes further the next time, if it paid for anything: that is in the ledger now."""
    if record.status == "budget" and record.spent.get("lm_calls"):
        return "its budget ended it before its last stage"
    return ""


def candidate(run: Run, name: str) -> Candidate | None:
    """What a run found; None where it kept the baseline."""
    best = run.best
    if best is None or best.number == 0:
        return None
    barred = "" if run.test else "it was not judged on test, because the budget was spent"
    return _as_candidate(run, best.folder, name, barred)


def baseline(run: Run) -> Candidate:
    """The unoptimized program of a run."""
    return _as_candidate(run, run.stages[0].folder, "the baseline", "")


def _as_candidate(run: Run, folder: str, name: str, barred: str) -> Candidate:
    stage = next(stage for stage in run.stages if stage.folder == folder)
    scores = {example.id: example.score for example in run.examples[folder]}
    decided = run.decisions[folder]
    margin = decided.margin if decided.aim == "cheaper" else None
    return Candidate(name, run.programs[folder], scores, stage.serving, stage.lms, margin, run.id, barred)
