"""Schedules on this machine: put there, found, taken away.

Invariant: an experiment of a project is started by one thing at most: cron or systemd.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import CascadeError
from cascade.production.schedule import crontab, rendering, systemd
from cascade.production.schedule.entry import At, Schedule
from cascade.production.schedule.kinds import Kind, write


@dataclass(frozen=True)
class Scheduled:
    """What was found on this machine.

    Args:
        name: of the experiment.
        at: when it starts.
        kind: who starts it.
        place: the line in the crontab, or the timer's file.
    """

    name: str
    at: At
    kind: Kind
    place: str


def contents(schedule: Schedule, kind: Kind) -> dict[str, str]:
    """Everything that `install` writes, by the place it goes to.

    Raises:
        CascadeError: `flock` is not there.
    """
    flock = shutil.which("flock")
    if not flock:
        raise CascadeError("`flock`, which keeps two nights apart, is not here. Install util-linux.")
    shown = {str(schedule.script): rendering.script(schedule, flock)}
    if kind == Kind.CRON:
        return {**shown, "crontab": crontab.line(schedule) + "\n"}
    return {**shown, **{str(path): text for path, text in systemd.units(schedule).items()}}


def install(schedule: Schedule, kind: Kind) -> None:
    """Put an experiment's schedule on this machine in place of any it has.

    Raises:
        CascadeError: cron or systemd is not there or says no; nothing is scheduled then.
    """
    script = contents(schedule, kind)[str(schedule.script)]
    before = crontab.read() if kind == Kind.CRON or shutil.which("crontab") else ""
    write(schedule.script, script, 0o700)
    if kind == Kind.CRON:
        systemd.remove(schedule)
        crontab.write(crontab.with_entry(before, schedule))
    else:
        systemd.install(schedule)
        if (rest := crontab.without(before, schedule)) != before:
            crontab.write(rest)


def remove(schedule: Schedule) -> list[Kind]:
    """Take an experiment's schedule away; its log stays. Says what there was.

    Raises:
        CascadeError: cron or systemd says no.
    """
    removed = [Kind.SYSTEMD] if systemd.remove(schedule) else []
    before = crontab.read() if shutil.which("crontab") else ""
    if (rest := crontab.without(before, schedule)) != before:
        crontab.write(rest)
        removed.append(Kind.CRON)
    schedule.script.unlink(missing_ok=True)
    return removed


def found(project: Path) -> list[Scheduled]:
    """What is scheduled of a project, sorted by name.

    Raises:
        CascadeError: the crontab cannot be read.
    """
    text = crontab.read() if shutil.which("crontab") else ""
    by_cron = [Scheduled(name, at, Kind.CRON, line) for name, at, line in crontab.entries(text, project)]
    by_systemd = [Scheduled(name, at, Kind.SYSTEMD, str(path)) for name, at, path in systemd.entries(project)]
    return sorted([*by_cron, *by_systemd], key=lambda one: one.name)


def cron_runs(processes: Path = Path("/proc")) -> bool:
    """Whether a cron daemon is among the processes of this machine."""
    return any(_named(path) in ("cron", "crond", "fcron") for path in processes.glob("[0-9]*/comm"))


def _named(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:  # it has ended
        return ""
