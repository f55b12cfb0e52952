"""The loop: baseline, stages, decisions, one look at test.

    evaluate the baseline on dev
    each stage: optimize(incumbent) → evaluate on dev → compare with the anchor → decide
    evaluate baseline and best on test, once, from what the budget kept back for it

Invariant: whatever ends the run, what was paid for is in the ledger, what was found is in the journal, and a run that
ends by its budget still ends with a judged result. Going on with an interrupted run is running it again: the ledger
gives the same answers at no cost.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from cascade.check import Prepared, build_program
from cascade.checks import examine, refuse, tell
from cascade.comparison import Comparison, Verdict, compare, corrected, score_interval
from cascade.costs import serving
from cascade.decision import Kept, decide
from cascade.errors import BudgetSpent, CascadeError, ExperimentError, Interrupted, JournalError, StageFailed
from cascade.evaluation import Evaluation
from cascade.evidence import Ahead, Evidence, Standing
from cascade.experiment import NO_LEVER, Stage
from cascade.headroom import stages_without_room
from cascade.journal import Status, Tracker, interrupted, next_start
from cascade.lm.gateway import installed
from cascade.program import snapshot
from cascade.progress import Progress, Silent
from cascade.proving import look_at_test
from cascade.recording import begin_journal, decisions, summary, test_document, test_metrics, write_stage
from cascade.reserve import Early
from cascade.result import Result, StageResult
from cascade.session import Session, alone, begin, interruptible, open_ledger
from cascade.spending import Spent
from cascade.stage import Bench, best_so_far, optimize


def execute(
    prepared: Prepared,
    *,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
    new: bool = False,
    fresh: bool = False,
    kind: str = "cascade",
) -> Result:
    """Run an experiment to its end, or go on with one that was interrupted.

    Args:
        tracker: is shown the journal after each stage; None keeps the run local.
        progress: is told what happens; None is nobody.
        new: start over although an interrupted run of the same definition exists.
        fresh: pay for every answer again, whatever the ledger holds. Going on with such a run repeats nothing.
        kind: of the run that begins; one is gone on with by its own kind only.

    Raises:
        DefinitionError: a check found an error; nothing was begun.
        CascadeError: the baseline cannot be judged, the same experiment runs elsewhere, or the ledger cannot be used.
        Interrupted: Ctrl-C or SIGTERM; running again goes on.
    """
    home, progress = prepared.settings.home, progress or Silent()
    refuse(found := examine(prepared))
    with alone(home / "locks" / f"{prepared.name}.lock", f"Experiment {prepared.name!r}"):
        earlier = None if new else interrupted(home, prepared.name, prepared.signature, kind)
        started = earlier.run.started if earlier else next_start(home, prepared.name)
        with open_ledger(prepared.settings, started, progress) as ledger:
            journal = earlier or begin_journal(prepared, started, kind)
            session = begin(prepared, journal, ledger, tracker, progress, fresh)
            progress.begin(prepared, session.journal, session.meter, resumed=earlier is not None)
            tell(found, session.journal, progress)
            return _guarded(session)


def _guarded(session: Session) -> Result:
    """Run with everything in place, and leave a journal that says how it ended."""
    gateway = session.gateway
    with interruptible(session.meter, session.progress.tell):
        try:
            with installed(gateway), session.configured():
                session.publisher.publish()
                return _cascade(session)
        except BaseException as error:
            stopped = isinstance(error, Interrupted | KeyboardInterrupt | JournalError)
            ended: Status = "interrupted" if gateway.failure or stopped else "failed"
            reason = gateway.failure or str(error) or "stopped at once"
            with suppress(CascadeError):  # on a full disk, who reads the journal sees that the process is gone
                session.journal.update(status=ended, ended=session.journal.now(), summary=f"{ended}: {reason}")
            if gateway.failure:
                raise gateway.failure from None
            raise
        finally:
            session.tally.close()
            session.prepared.lms.close()
            session.publisher.close(wait=not session.meter.abandoned)


@dataclass(frozen=True)
class _Position:
    """Where the cascade stands between two stages."""

    incumbent: StageResult
    anchor: StageResult
    standing: Standing


def _cascade(session: Session) -> Result:
    baseline = _baseline(session)
    dev = _judged(baseline)
    position = _Position(baseline, baseline, Standing(dev.mean))
    waiting = list(enumerate(session.prepared.experiment.stages, 1))
    reached = _target_reached(session, dev.mean)
    status = "target" if reached else "completed"
    skipped = reached or stages_without_room(session, baseline.program)
    for number, stage in waiting:
        if stage.name in skipped:
            left_out = StageResult(f"{number}-{stage.name}", stage.lever, "skipped", Spent(), error=skipped[stage.name])
            _record(session, number, left_out, stage=stage)
            continue
        ahead = [Ahead(one.name, one.lever, one.aim) for _, one in waiting[number:] if one.name not in skipped]
        result, position = _run_stage(session, number, stage, position, ahead)
        if decision := result.decision:
            skipped |= dict.fromkeys(decision.skipped, "skipped by an earlier decision")
            status = decision.status if decision.status not in (None, "completed") else status
    return _finish(session, status, position.incumbent)


def _baseline(session: Session) -> StageResult:
    name, started, prepared = "0-baseline", time.time(), session.prepared
    program, experiment, data = build_program(prepared.experiment), prepared.experiment, prepared.data
    early = Early(experiment.budget, experiment.repeats * (len(data.dev) + 2 * len(data.test)))
    try:
        with session.accounted(name):
            dev = session.evaluate(program, data.dev, name, on_outcome=early)
    except BudgetSpent as error:
        raise ExperimentError(f"Budget: it was spent before the baseline was judged ({error}). Raise it.") from None
    result = StageResult(name, "none", "done", session.spent_by_stage[name], program, snapshot(program), dev)
    result = _record(session, 0, _with_interval(session, result), started=started)
    if words := session.shortage():
        raise ExperimentError(f"Budget: {words}. Test is judged twice: baseline and best.")
    return result


def _target_reached(session: Session, dev_mean: float) -> dict[str, str]:
    """Stages that aim at `better` and why they are skipped, where the baseline is good enough already."""
    experiment = session.prepared.experiment
    if experiment.target is None or round(dev_mean, 9) < experiment.target:
        return {}
    reason = f"skipped: the baseline's {dev_mean:.1%} on dev reaches the target of {experiment.target:.1%}."
    return dict.fromkeys((stage.name for stage in experiment.stages if stage.aim == "better"), reason)


def _run_stage(
    session: Session, number: int, stage: Stage, position: _Position, ahead: Sequence[Ahead]
) -> tuple[StageResult, _Position]:
    name, started, before = f"{number}-{stage.name}", time.time(), position.incumbent
    bench = Bench(lambda candidate: session.progress.tick(f"candidate {candidate.score:.1%} on {candidate.n}"))
    program, taken, dev, failure, cap = None, None, None, "", ""
    with session.accounted(name):
        try:
            program, cap = _search(session, stage, name, before, bench)
            taken = snapshot(program)
            if taken.digest != (before.taken.digest if before.taken else ""):
                with session.meter.holding(session.judging(session.prepared.data.test, session.prepared.data.test)):
                    dev = session.evaluate(program, session.prepared.data.dev, name)
        except BudgetSpent as error:
            failure = cap = f"the budget ended before the program was judged ({error})"
        except CascadeError as error:
            failure = str(error)
    if dev and (words := session.shortage(name)):
        dev, failure, cap = None, f"the budget could not show on test what this program is worth: {words}", words
    spent = session.spent_by_stage[name]
    evidence = replace(_evidence(session, stage, position, dev, failure), cost=spent.cost_usd)
    if dev and taken and before.taken:
        costs = serving(dev, _judged(before), same_lms=taken.lms == before.taken.lms)
        evidence = replace(evidence, serving=costs)
    plateau = session.prepared.experiment.plateau
    decision, standing = decide(
        evidence,
        position.standing,
        replace(plateau, patience=2) if stage.lever == NO_LEVER else plateau,  # one stage makes no plateau of nothing
        ahead=ahead,
        target=session.prepared.experiment.target,
        budget_spent=f"the budget is spent ({cap})" if cap else None,
    )
    result = StageResult(name, stage.lever, "failed" if failure else "done", spent, decision=decision, error=failure)
    if not failure:
        result = _with_interval(session, replace(result, program=program, taken=taken, dev=dev or before.dev))
    _record(session, number, result, stage=stage, bench=bench, incumbent=before, started=started)
    incumbent = result if decision.kept is Kept.NEW else before
    anchor = result if decision.verdict is Verdict.BETTER else position.anchor
    return result, _Position(incumbent, anchor, standing)


def _search(session: Session, stage: Stage, name: str, incumbent: StageResult, bench: Bench) -> tuple[Any, str]:
    """The stage's program; when the budget ends the search, the best candidate so far and the cap that was reached."""
    data, workshop = session.prepared.data, session.workshop(name)
    session.announce(name, stage)
    try:
        with session.meter.holding(session.judging(data.dev, data.test, data.test)):
            try:
                program = optimize(stage, incumbent.program, workshop, bench)
            except StageFailed:
                session.meter.check()  # a training that is told to stop fails, and the order is the reason
                raise
            session.meter.check(minutes=False)  # time that ran out after the last answer takes no finished program away
            return program, session.meter.late
    except BudgetSpent as error:
        return best_so_far(bench, incumbent.program, workshop), str(error)


def _evidence(session: Session, stage: Stage, position: _Position, dev: Evaluation | None, failure: str) -> Evidence:
    bare = Evidence(stage.name, stage.lever, stage.aim, stage.margin, unchanged=True)
    if failure:
        return replace(bare, unchanged=False, failed=failure)
    if dev is None:
        return bare
    experiment, groups = session.prepared.experiment, session.prepared.data.dev.groups
    plateau, scores = experiment.plateau, dev.scores
    confidence = corrected(plateau.confidence, experiment.claims)

    def against(other: StageResult) -> Comparison:
        margin = plateau.equivalence_margin
        return compare(scores, _judged(other).scores, groups=groups, confidence=confidence, margin=margin)

    return replace(
        bare,
        unchanged=False,
        against_anchor=against(position.anchor),
        against_incumbent=against(position.incumbent) if stage.aim == "cheaper" else None,
        dev_score=dev.mean,
    )


def _record(  # noqa: PLR0913 - a stage's files come from all of these
    session: Session,
    number: int,
    result: StageResult,
    *,
    stage: Stage | None = None,
    bench: Bench | None = None,
    incumbent: StageResult | None = None,
    started: float | None = None,
) -> StageResult:
    candidates, before = bench.candidates if bench else [], incumbent.taken if incumbent else None
    write_stage(
        session.journal, number, result, stage=stage, bound=session.bounds.get(result.name), incumbent=before,
        candidates=candidates, started=started,
    )  # fmt: skip
    session.results.append(result)
    session.progress.stage_ended(result)
    session.publisher.publish()
    return result


def _finish(session: Session, status: str, best: StageResult) -> Result:
    test, cap = None, ""
    try:
        with session.accounted("test"):
            test = look_at_test(session, best)
    except BudgetSpent as error:
        status, cap = "budget", str(error)
    spent, baseline = session.meter.spent, session.results[0]
    text = summary(best.name, _judged(best).mean, _judged(baseline).mean, test or cap, spent)
    session.journal.write("decisions.json", decisions(session.results))
    record = session.journal.update(
        status=status,
        ended=session.journal.now(),
        best_stage=best.name,
        proven=test.proven if test else None,
        summary=text,
        metrics={**spent.to_json(), **(test_metrics(test) if test else {})},
        test=test_document(test) if test else {},
    )
    session.tally.remove()
    result = Result(
        session.prepared.name, record.id, record.status, tuple(session.results), best, test, spent,
        str(session.journal.folder), text, session.prepared.lms,
    )  # fmt: skip
    session.progress.end(result)
    return result


def _with_interval(session: Session, result: StageResult) -> StageResult:
    dev, confidence = _judged(result), session.prepared.experiment.plateau.confidence
    return replace(result, interval=score_interval(dev.scores, groups=dev.split.groups, confidence=confidence))


def _judged(result: StageResult) -> Evaluation:
    if result.dev is None:
        raise CascadeError(f"Stage {result.name!r} has no evaluation on dev.")
    return result.dev
