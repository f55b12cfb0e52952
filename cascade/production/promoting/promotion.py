"""Promote and roll back.

Invariant: nothing is taken into service that the gate refused, unless somebody forced it, and then the log says so.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from cascade.check import Prepared
from cascade.errors import Refused
from cascade.journal import journals
from cascade.mlflow_store.publication import version_of
from cascade.mlflow_store.registry import CHALLENGER
from cascade.mlflow_store.versions import Version
from cascade.production.promoting.gate import Rules
from cascade.production.promoting.log import Entry, PromotionLog, Standing, standing
from cascade.production.promoting.registrar import Judgement, Registrar, reaching_mlflow, registrar
from cascade.progress import Progress
from cascade.settings import Settings


def rules_of(prepared: Prepared, version: Version | None = None) -> Rules:
    """What the gate asks of a version: the experiment's confidence, margins and guardrails, and the version's aim."""
    experiment = prepared.experiment
    plateau, margin = experiment.plateau, None
    if version and version.tags.get("cascade.aim") == "cheaper":
        with suppress(ValueError):
            margin = float(version.tags.get("cascade.margin", ""))
    alpha = round((1 - plateau.confidence) / 2, 12)
    return Rules(alpha, plateau.equivalence_margin, dict(experiment.guardrails), margin)


@reaching_mlflow
def challenger(desk: Registrar, run: str = "", number: str = "") -> Version:
    """The version that is proposed, or that of a run, or a numbered one.

    Raises:
        Refused: there is none.
    """
    name = desk.experiment
    if run and not number:
        return _of_run(desk, run)
    if number := number or desk.challenger_now:
        return desk.versions.numbered(number)
    serves = f" Version {desk.standing.champion} serves." if desk.standing.champion else ""
    raise Refused(
        f"Nothing is proposed for {name!r}: no version has the alias {CHALLENGER!r}.{serves} Run `cascade run {name}`, "
        f"or name a run: cascade promote {name} --run ID."
    )


def _of_run(desk: Registrar, run: str) -> Version:
    """The version that a run made, or that it began from and found nothing better than."""
    made = desk.versions.all()
    found = [version for version in made if _is(version.run, run)]
    if not found:
        ours = [journal for journal in journals(desk.settings.home, desk.experiment) if _is(journal.run.id, run)]
        again = {version_of(journal, desk.settings.tracking_uri) for journal in ours}
        found = [version for version in made if version.number in again]
    if len(found) != 1:
        raise Refused(
            f"{'No run' if not found else 'More than one run'} {run!r} of {desk.experiment!r} has a version in MLflow. "
            "A run has one when it completed and found something better than the baseline on dev; there are: "
            f"{', '.join(version.run for version in made[:5]) or 'none'}."
        )
    return found[0]


def _is(id_: str, given: str) -> bool:
    return id_.startswith(given) or id_.endswith(given)


def promote(
    prepared: Prepared,
    *,
    run: str = "",
    number: str = "",
    force: bool = False,
    note: str = "",
    progress: Progress | None = None,
) -> Judgement:
    """Send a version to the gate, and take it into service where the gate grants it.

    Args:
        run: whose version; default: the one with the alias `challenger`.
        number: of the version, instead of a run.
        force: take it into service whatever the gate says; the log says so.
        note: why, in the words of who does it.

    Raises:
        Refused: the gate said no, the version serves already, or it was rolled back before.
        TrackingError: MLflow cannot be reached.
    """
    with registrar(prepared.settings, prepared.name, progress) as desk:
        version = challenger(desk, run, number)
        _refuse_known(desk, version, force=force)
        done = desk.judge(prepared, version, rules_of(prepared, version))
        if not done.ruling.granted and not force:
            raise Refused(f"Version {version.number} is not promoted. {done.ruling.reason}")
        forced = force and not done.ruling.granted
        reason = f"Forced. {done.ruling.reason}" if forced else done.ruling.reason
        entry = desk.take_into_service(version, reason, note=note, forced=forced, figures=done.ruling.figures())
        return replace(done, entry=entry)


def judged(
    prepared: Prepared, *, run: str = "", number: str = "", min_gain: float = 0.0, progress: Progress | None = None
) -> Judgement | None:
    """Send a version to the gate and take nothing into service; None where it is the program that serves.

    Args:
        run, number: as in `promote`.
        min_gain: what the lower bound of the gain must exceed, a fraction; below 0 asks for "not worse by more".
    """
    with registrar(prepared.settings, prepared.name, progress) as desk:
        version, serving = challenger(desk, run, number), desk.standing.champion
        if serving and desk.versions.numbered(serving).program == version.program:
            return None
        return desk.judge(prepared, version, replace(rules_of(prepared, version), min_gain=min_gain))


def roll_back(
    settings: Settings, experiment: str, *, to: str = "", note: str = "", progress: Progress | None = None
) -> Entry:
    """Take the champion out of service and tag it as rejected; see `Registrar.roll_back`."""
    with registrar(settings, experiment, progress) as desk:
        return desk.roll_back(to, note)


def _refuse_known(desk: Registrar, version: Version, *, force: bool) -> None:
    now = desk.standing
    if version.number == now.champion:
        raise Refused(f"Version {version.number} of {desk.experiment!r} serves already.")
    if now.champion and version.program and version.program == desk.versions.numbered(now.champion).program:
        raise Refused(f"Version {version.number} is the same program as version {now.champion}, which serves.")
    rejected = [old for old in desk.versions.all() if old.rejected and old.program == version.program]
    if rejected and not force:
        raise Refused(
            f"Version {version.number} is the program of version {rejected[0].number}, which was rolled back. "
            "--force promotes it all the same."
        )


def champions(settings: Settings) -> Mapping[str, Standing]:
    """Standing by experiment, of those that have a promotion log on this machine."""
    logs = sorted((settings.home / "production").glob("*/promotions.jsonl"))
    return {path.parent.name: standing(PromotionLog(path).entries()) for path in logs}
