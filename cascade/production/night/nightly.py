"""A night: new rows are taken up, and where something has changed the cascade runs, and its best goes to the gate.

Invariant: a night is done once. Each step is noted when it is done and can be done again: rows by their plan, runs by
their journals, a look at test by its key, a promotion by its entry in the log. So a second call finds the night over,
and one after a kill goes on where it was.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from cascade.check import Prepared
from cascade.checks.answers import expected
from cascade.errors import CascadeError
from cascade.experiment import Experiment
from cascade.journal import next_start
from cascade.lm.lms import LMs
from cascade.production.incoming.taking import take_up
from cascade.production.night.challenging import challenger
from cascade.production.night.due import Counted, Seen, Waiting, Work, due
from cascade.production.night.newest import about_inputs
from cascade.production.night.nights import ROWS, Night, Nights, Ruled
from cascade.production.night.searching import Workplace
from cascade.production.night.watch import Asked, Watch
from cascade.production.promoting.log import Entry, row_hashes
from cascade.production.promoting.promotion import rules_of
from cascade.production.promoting.registrar import Registrar
from cascade.progress import Progress, Silent
from cascade.redaction import told
from cascade.session import alone
from cascade.settings import Settings
from cascade.spending import Spent


def hold_night(
    experiment: Experiment,
    settings: Settings,
    asked: Asked | None = None,
    *,
    make_lms: Callable[[Settings], LMs] | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.time,
) -> tuple[Night, bool]:
    """Hold tonight's night of an experiment, or go on with it; returns it, and whether it was over before.

    Args:
        experiment: as `cascade.discover.discover` gives it.
        make_lms: makes its LMs; default: those that settings name.
        clock: seconds since 1970, which say what night it is.

    Raises:
        CascadeError: it failed, or is being held elsewhere; the next call goes on.
        Interrupted: Ctrl-C or SIGTERM; likewise.
    """
    asked, name = asked or Asked(), experiment.name
    nights = Nights(settings.home, name, clock)
    with alone(settings.home / "locks" / f"night-{name}.lock", f"The night of {name!r}"):
        night = nights.tonight()
        if night and night.over and not asked.anyway:
            return night, True
        if night is None or night.over:
            night = nights.begin(next_start(settings.home, name))
        budget = replace(experiment.budget, **asked.caps)
        place = Workplace(replace(experiment, budget=budget), settings, progress or Silent(), make_lms)
        watch = Watch(place, nights, asked, nights.write(replace(night, state="running", error="")))
        try:
            _hold(watch)
        except Exception as error:
            reason = str(error) if isinstance(error, CascadeError) else told(error)
            watch.end("failed", error=" ".join(reason.split()))
            raise
        return watch.night, False


def _hold(watch: Watch) -> None:
    """Do what is left to do."""
    prepared = watch.place.prepared()
    if watch.night.due is None or dict(prepared.parts) != dict(watch.night.seen.parts):
        prepared = _decided(watch, prepared)
    work = watch.night.due.work if watch.night.due else Work.NOTHING
    if work is Work.NOTHING:
        watch.end("nothing due")
        return
    if not _promoted_before(watch):
        version = challenger(watch, prepared) if work is Work.RUN else watch.night.proposed
        if version:
            _judge(watch, prepared, version)
    watch.end("done")


def _decided(watch: Watch, prepared: Prepared) -> Prepared:
    """Take up new rows and decide what is due."""
    prepared = _grown(watch, prepared)
    with watch.desk() as desk:
        champion, waiting = desk.champion, _waiting(desk, prepared)
    seen = Seen(
        parts=dict(prepared.parts),
        splits={split.name: Counted(len(split), split.fingerprint) for split in prepared.data},
        champion=champion.number if champion else "",
    )
    last = watch.last
    decided = due(
        seen,
        last.seen if last else None,
        since=last.since if last else "",
        unfinished=last.unfinished if last else "",
        waiting=waiting,
        promote=watch.asked.promote,
        anyway=watch.asked.anyway,
    )
    since = watch.night.id if decided.work is Work.RUN or last is None else last.since
    proposed = waiting.version if waiting else ""
    watch.note(due=decided, seen=seen, since=since, champion=seen.champion, proposed=proposed)
    watch.place.progress.tell(decided.reason)
    return prepared


def _grown(watch: Watch, prepared: Prepared) -> Prepared:
    """The experiment with the rows that waited, of which the night tells."""
    kept, experiment, settings = watch.nights.journal(watch.night.id), watch.place.experiment, watch.place.settings
    rows = kept.read(ROWS)
    if rows is None:
        known = watch.nights.journal(watch.last.id).read(ROWS) if watch.last else None
        rows = {"before": known["after"] if known else _hashes(prepared)}
        kept.write(ROWS, rows)
    answers = expected(prepared).compared
    taken = take_up(
        experiment.dataset, answers, settings, accept_data=watch.asked.accept_data,
        note=lambda taken: watch.note(taken=watch.night.taken + taken),
    )  # fmt: skip
    watch.note(taken=watch.night.taken + taken)
    prepared = watch.place.prepared() if taken.accepted else prepared
    kept.write(ROWS, {**rows, "after": _hashes(prepared)})
    drift = about_inputs(prepared, {split: set(hashes) for split, hashes in rows["before"].items()}, answers)
    for sentence in (*taken.notes, drift):
        watch.warn(sentence)
    return prepared


def _waiting(desk: Registrar, prepared: Prepared) -> Waiting | None:
    """A challenger that is neither what serves nor rejected, and what the gate said of it."""
    number = desk.challenger_now
    version = desk.versions.numbered(number) if number else None
    serves = desk.champion
    if version is None or version.rejected or (serves and serves.program == version.program):
        return None
    look = desk.judged(prepared, version)
    return Waiting(version.number, look.granted if look else None)


def _judge(watch: Watch, prepared: Prepared, number: str) -> None:
    """The look at test, and the promotion where it is granted and asked for."""
    with watch.desk() as desk:
        version = desk.versions.numbered(number)
        done = desk.judge(prepared, version, rules_of(prepared, version))
        before = Spent.from_json(watch.night.spent_beside) if watch.night.spent_beside else Spent()
        watch.note(ruled=_ruled(done.entry), spent_beside=(before + done.spent).to_json())
        if done.ruling.granted and watch.asked.promote:
            reason, figures = done.ruling.reason, done.ruling.figures()
            entry = desk.take_into_service(version, reason, note=watch.signed, figures=figures)
            watch.note(promoted=entry.version)


def _promoted_before(watch: Watch) -> bool:
    """Whether this night took a version into service before it was killed."""
    with watch.desk() as desk:
        entries = desk.log.entries()
    mine = [entry for entry in entries if entry.event == "promoted" and entry.note == watch.signed]
    if not mine:
        return False
    look = next(entry for entry in reversed(entries) if entry.event == "judged" and entry.version == mine[-1].version)
    watch.note(ruled=_ruled(look), promoted=mine[-1].version)
    return True


def _hashes(prepared: Prepared) -> dict[str, list[str]]:
    return {split.name: list(row_hashes(split)) for split in prepared.data}


def _ruled(look: Entry) -> Ruled:
    return Ruled(look.version, look.reference, look.granted, look.reason, look.attempt, look.figures["alpha"])
