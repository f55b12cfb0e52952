"""The promotion log and MLflow's registry of one experiment, in one hand.

Invariant: the log is written before MLflow is told, and `Registrar` first finishes what the entry before it began; so
whoever dies in between, log and aliases agree again the next time anybody looks. A champion that a person set in MLflow
is adopted, with an entry that says so, and is never undone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from cascade.check import Prepared, build_program
from cascade.errors import Refused, TrackingError
from cascade.evaluation import Evaluation
from cascade.mlflow_store import promotions
from cascade.mlflow_store.names import Names
from cascade.mlflow_store.registry import CHALLENGER, CHAMPION
from cascade.mlflow_store.store import connect, reaching, redact
from cascade.mlflow_store.versions import MOVED, Version, Versions
from cascade.production.promoting.gate import Rules, Ruling, gate
from cascade.production.promoting.log import MOVES, Entry, PromotionLog, Standing, look, row_hashes, standing
from cascade.production.promoting.looks import BASELINE, key_of, lms_of, lms_of_baseline, metric_of
from cascade.production.promoting.scoring import Scorer, scoring
from cascade.production.promoting.turn import Turn, turn
from cascade.progress import Progress, Silent
from cascade.settings import Settings
from cascade.spending import Spent

P = ParamSpec("P")
R = TypeVar("R")
_AGAIN = "What stands in the promotion log is finished the next time."


@dataclass(frozen=True)
class Judgement:
    """A look at test.

    Args:
        entry: as it stands in the log.
        version: that was judged.
        challenger, reference: the evaluations on test.
        spent: on them.
    """

    entry: Entry
    version: Version
    ruling: Ruling
    challenger: Evaluation
    reference: Evaluation
    spent: Spent


def reaching_mlflow(method: Callable[P, R]) -> Callable[P, R]:
    """Say in one line that MLflow cannot be reached, whatever is raised by what has or is given a registrar."""

    @wraps(method)
    def asked(*args: P.args, **options: P.kwargs) -> R:
        desk: Any = args[0]
        with reaching(desk.settings.tracking_uri, "could not be used", _AGAIN):
            return method(*args, **options)

    return asked


class Registrar:
    """The log and the registry of one experiment, held by one process; made by `registrar`."""

    def __init__(self, settings: Settings, experiment: str, progress: Progress, turn: Turn) -> None:
        names = Names(settings.experiment_prefix, settings.model_prefix)
        self.settings = settings
        self.progress = progress
        self.turn = turn
        self.experiment = experiment
        self.shown_as = names.experiment(experiment)
        self.log = PromotionLog.of(settings.home, experiment)
        with reaching(settings.tracking_uri, "could not be used", _AGAIN):
            self.client = connect(settings.tracking_uri)
        self.versions = Versions(self.client, names.model(experiment))

    @property
    def standing(self) -> Standing:
        """What the log says is so."""
        return standing(self.log.entries())

    @property
    @reaching_mlflow
    def champion(self) -> Version | None:
        """The version that serves."""
        serving = self.standing.champion
        return self.versions.numbered(serving) if serving else None

    def _serving(self) -> str:
        return f"version {self.standing.champion} serves" if self.standing.champion else "nothing serves"

    @property
    @reaching_mlflow
    def challenger_now(self) -> str:
        """The version that is proposed; "" is none."""
        return self.versions.aliases().get(CHALLENGER, "")

    def judged(self, prepared: Prepared, version: Version) -> Entry | None:
        """The last look at a version beside what serves today, on today's test; None where there was none."""
        key = key_of(prepared, version, self.champion)
        return next((entry for entry in reversed(self.log.entries()) if entry.key == key), None)

    @reaching_mlflow
    def propose(self, number: str) -> None:
        """Let a version be the challenger; "" proposes none."""
        self.versions.point(CHALLENGER, number)

    @reaching_mlflow
    def settle(self) -> None:
        """Know what other machines wrote, finish what was begun, adopt what was done by hand."""
        uri, known = self.settings.tracking_uri, [entry.id for entry in self.log.entries()]
        for values in promotions.pull(self.client, uri, self.shown_as, known):
            self.log.append(Entry.from_json(values, f"An entry of the promotion log of {self.experiment!r} in MLflow"))
        last, serving = self._last_move(), self.versions.aliases().get(CHAMPION, "")
        lost = self._lost(last, serving)  # before anything is sent to a store that may be the wrong one
        promotions.push(self.client, uri, self.shown_as, [entry.to_json() for entry in self.log.entries()])
        if last and last.version and not lost and self.versions.numbered(last.version).tags.get(MOVED) != last.id:
            self._follow(last)
            serving = self.versions.aliases().get(CHAMPION, "")
        if serving != (last.version if last else ""):
            self._adopt(serving, last.version if last else "")

    def _last_move(self) -> Entry | None:
        return next((entry for entry in reversed(self.log.entries()) if entry.event in MOVES), None)

    def _lost(self, move: Entry | None, alias: str) -> bool:
        """Whether the version that the log says serves is gone, and somebody chose another."""
        if move is None or not move.version or any(one.number == move.version for one in self.versions.all()):
            return False
        if alias in ("", move.version):
            raise TrackingError(
                f"Version {move.version} of {self.experiment!r} serves by the promotion log and is not in MLflow at "
                f"{redact(self.settings.tracking_uri)}. Name the right store in MLFLOW_TRACKING_URI; if the version "
                f"was deleted, give the alias {CHAMPION!r} to the one that shall serve."
            )
        return True

    def judge(self, prepared: Prepared, version: Version, rules: Rules) -> Judgement:
        """Look at test: score the version and what serves, let the gate rule, and write the look down.

        Raises:
            CascadeError: a program cannot be loaded or scored.
        """
        reference, test, moved = self.champion, prepared.data.test, self._last_move()
        with self.turn.let_go(), scoring(prepared, self.progress) as scorer:  # a rollback must not wait for a model
            new_program = scorer.load(version)
            new = scorer.score(new_program, test, f"challenger {version.number}")
            old, before = _reference(scorer, reference)
        self.settle()
        if self._last_move() != moved:
            raise Refused(
                f"What serves changed while version {version.number} was judged: {self._serving()} now. Ask again; "
                "what was answered is kept."
            )
        shown = {"test": test.fingerprint, "metric": metric_of(prepared), "signature": prepared.signature}
        key, rows = key_of(prepared, version, reference), row_hashes(test)
        attempt, same = look(self.log.entries(), key, rows), lms_of(new_program) == before
        ruling = gate(new, old, rules, attempt=attempt, same_lms=same)
        entry = self._write(
            "judged", version.number, program=version.program, run=version.run,
            reference=reference.number if reference else "", reason=ruling.reason, granted=ruling.granted, key=key,
            attempt=ruling.attempt, rows=rows, figures=ruling.figures(), fingerprints=shown,
        )  # fmt: skip
        return Judgement(entry, version, ruling, new, old, scorer.spent)

    def take_into_service(self, version: Version, reason: str, **more: Any) -> Entry:
        """Make a version the champion."""
        before = self.standing.champion
        entry = self._write(
            "promoted", version.number, program=version.program, run=version.run, reference=before, reason=reason,
            **more,
        )  # fmt: skip
        self._follow(entry)
        return entry

    def roll_back(self, number: str = "", note: str = "") -> Entry:
        """Take the champion out of service for the one before it, or for a numbered version that served before.

        Raises:
            Refused: nothing serves, nothing served before, or that version never served or was rejected itself.
        """
        now = self.standing
        if not now.champion:
            raise Refused(f"Nothing serves for {self.experiment!r}: there is nothing to roll back.")
        target = number or now.previous
        if not target:
            raise Refused(
                f"Version {now.champion} is the first that serves for {self.experiment!r}: there is nothing to go back "
                f"to."
            )
        version = self.versions.numbered(target)
        if target == now.champion:
            raise Refused(f"Version {target} serves already.")
        if target not in {one.version for one in now.history}:
            raise Refused(
                f"Version {target} of {self.experiment!r} never served, so there is no going back to it. "
                f"`cascade promote {self.experiment} --version {target}` asks the gate."
            )
        if target in now.rejected or version.rejected:
            raise Refused(
                f"Version {target} was rolled back itself. Promote it again with `cascade promote {self.experiment} "
                f"--version {target} --force` if that was wrong."
            )
        reason = f"Version {now.champion} was taken out of service and rejected; version {target} serves again."
        entry = self._write(
            "rolled_back", target, program=version.program, run=version.run, reference=now.champion, reason=reason,
            note=note,
        )  # fmt: skip
        self._follow(entry)
        return entry

    @reaching_mlflow
    def _write(self, event: Any, version: str, **more: Any) -> Entry:
        entry = self.log.add(event, version, **more)
        promotions.push(self.client, self.settings.tracking_uri, self.shown_as, [entry.to_json()])
        return entry

    @reaching_mlflow
    def _follow(self, entry: Entry) -> None:
        """Let aliases and tags say what an entry says."""
        now = self.standing
        figures = entry.figures or next(
            (one.figures for one in reversed(self.log.entries()) if one.key and one.version == entry.version), {}
        )
        tags = {
            "cascade.promoted_by": entry.who,
            "cascade.promoted_at": _clock(entry.at),
            "cascade.promoted_why": entry.reason,
        }
        tags |= {f"cascade.test_{key}": str(figures[key]) for key in ("score", "gain", "gain_ci_low") if key in figures}
        self.versions.serve(
            entry.version,
            now.previous,
            entry.reference if entry.event == "rolled_back" else "",
            entry.id,
            {key: value[:5000] for key, value in tags.items()},
        )

    def _adopt(self, serving: str, expected: str) -> None:
        what = f"version {serving} the champion" if serving else f"away the alias {CHAMPION!r}"
        self.progress.warn(
            f"somebody {'made' if serving else 'took'} {what} of {self.experiment!r} in MLflow, past the gate; the "
            f"promotion log said {f'version {expected}' if expected else 'that nothing serves'}. It is adopted."
        )
        known = self.versions.numbered(serving) if serving else None
        entry = self._write(
            "adopted", serving, program=known.program if known else "", run=known.run if known else "",
            reference=expected, reason=f"Set in MLflow: {what}.",
        )  # fmt: skip
        if known:
            self.versions.tag(serving, {MOVED: entry.id})


@contextmanager
def registrar(settings: Settings, experiment: str, progress: Progress | None = None) -> Iterator[Registrar]:
    """Hold an experiment's log and registry; waits for whoever holds them.

    Raises:
        TrackingError: MLflow cannot be reached; nothing was changed that the next one will not finish.
    """
    told = progress or Silent()

    def wait() -> None:
        told.tell(f"another promotion of {experiment!r} is under way; waiting for it.")

    with turn(settings.home / "locks" / f"production-{experiment}.lock", wait) as mine:
        desk = Registrar(settings, experiment, told, mine)
        desk.settle()
        yield desk


def _reference(scorer: Scorer, serving: Version | None) -> tuple[Evaluation, object]:
    """What serves, or the baseline where nothing does, on test; and which LMs answer."""
    prepared = scorer.prepared
    if serving:
        program = scorer.load(serving)
        return scorer.score(program, prepared.data.test, f"champion {serving.number}"), lms_of(program)
    bare = build_program(prepared.experiment)
    return scorer.score(bare, prepared.data.test, BASELINE), lms_of_baseline(prepared, bare)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))
