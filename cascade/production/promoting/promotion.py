"""Promote and roll back.

Invariant: nothing is taken into service that the gate refused, unless somebody forced it, and then the log says so.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from cascade.check import Prepared
from cascade.errors import Refused
from cascade.mlflow_store.versions import Version
from cascade.production.promoting.gate import Rules
from cascade.production.promoting.log import Entry, PromotionLog, Standing, standing
from cascade.production.promoting.registrar import Judgement, Registrar, registrar
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
        version = desk.challenger(run, number)
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
        version, serving = desk.challenger(run, number), desk.standing.champion
        if serving and desk.challenger(number=serving).program == version.program:
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
    if now.champion and version.program and version.program == desk.challenger(number=now.champion).program:
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
