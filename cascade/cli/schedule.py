"""`cascade schedule`: who starts the nights of an experiment, and when.

Invariant: what is put on this machine is shown before it is put there.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.parts import Json, experiment_named, print_json, stdout_kept
from cascade.cli.tables import print_warning
from cascade.errors import SettingsError
from cascade.production.schedule.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from cascade.production.schedule import Schedule
    from cascade.settings import Settings

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment: a file experiments/NAME.py.")]
Time = Annotated[str, typer.Option("--at", metavar="HH:MM", help="When, by the clock of whatever starts it.")]
As = Annotated[
    Kind | None,
    typer.Option(
        "--as",
        help="Start it by this. Default: systemd's user timers, else cron. The last three print a file; gate is the "
        "workflow of a pull request.",
        show_default=False,
    ),
]
Promote = Annotated[bool, typer.Option("--promote", help="Promote what passes the gate. Else it is only proposed.")]
EnvFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="NAME=value lines for the night, such as keys: your own file, mode 600."),
]
To = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the file of github, gate or kubernetes there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be put where, and change nothing.")]
Remove = Annotated[bool, typer.Option("--remove", help="Take its schedule off this machine.")]
ListAll = Annotated[bool, typer.Option("--list", help="List what this machine starts for this project.")]


@dataclass(frozen=True)
class _Asked:
    kind: Kind
    to: Path | None
    dry_run: bool
    as_json: bool


def schedule(  # noqa: PLR0913, PLR0917 - one an option
    name: Name = "",
    at: Time = "02:00",
    kind: As = None,
    promote: Promote = False,
    env_file: EnvFile = None,
    to: To = None,
    dry_run: DryRun = False,
    remove: Remove = False,
    list_all: ListAll = False,
    as_json: Json = False,
) -> None:
    """Try every night to beat the program that serves.

    Example: cascade schedule qa --at 02:00 --env-file ~/.config/cascade.env
    """
    from cascade.production.schedule import At, Schedule, kind_here
    from cascade.settings import load_settings

    settings = load_settings()
    if list_all:
        _list(settings, as_json)
        return
    if not name:
        raise SettingsError("Which experiment? Say cascade schedule NAME; `cascade list` shows them all.")
    file = env_file.expanduser().absolute() if env_file else None
    wanted = Schedule(
        name, settings.project, settings.home.absolute(), Path(sys.executable), At.parse(at), promote, file
    )
    if remove:
        _remove(wanted, as_json)
        return
    with stdout_kept():
        experiment_named(name, settings.project)
        asked = _Asked(kind or kind_here(), to, dry_run, as_json)
    if asked.kind.installed:
        _install(wanted, settings, asked)
    else:
        _print(wanted, settings, asked)


def _install(wanted: "Schedule", settings: "Settings", asked: _Asked) -> None:
    from cascade.production.schedule import contents, install
    from cascade.production.schedule.environment import machine_zone

    if asked.to:
        raise SettingsError(
            f"--to {str(asked.to)!r} goes with --as github, gate or kubernetes, which only print a file."
        )
    shown, notes = contents(wanted, asked.kind), _notes(wanted, settings, asked.kind)
    for note in notes:
        print_warning(note)
    if not asked.as_json:
        _show(shown, sys.stdout if asked.dry_run else sys.stderr)
    if not asked.dry_run:
        install(wanted, asked.kind)
    zone = machine_zone()
    if asked.as_json:
        facts = {"zone": zone, "log": str(wanted.log), "contents": shown, "warnings": notes}
        print_json({**_facts(wanted, asked.kind), **facts, "installed": not asked.dry_run})
    elif not asked.dry_run:
        print(f"{wanted.name}: every night at {wanted.at} ({zone}), started by {asked.kind}. Log: {wanted.log}")


def _show(contents: "Mapping[str, str]", out: "TextIO") -> None:
    for place, text in contents.items():
        print(f"--- {place}\n{text}", file=out, flush=True)


def _notes(wanted: "Schedule", settings: "Settings", kind: Kind) -> list[str]:
    """What may keep the nights from running as they are meant."""
    from datetime import date

    from cascade.production.schedule import environment, installing, systemd

    given = environment.assigned(wanted.env_file) if wanted.env_file else []
    needed = [*environment.keys_of(settings.describe().values()), *environment.set_here(os.environ)]
    notes = []
    if missing := [name for name in dict.fromkeys(needed) if name not in given]:
        notes.append(
            f"A night sees nothing of this shell: it will not have {', '.join(missing)}. Write what it needs into a "
            "file of yours, chmod 600 it, and name it with --env-file."
        )
    if kind == Kind.SYSTEMD and not systemd.lingers():
        notes.append("Your timers run only while you are logged in. `loginctl enable-linger` lets them run always.")
    zone = environment.machine_zone()
    if kind == Kind.SYSTEMD and (day := environment.skipped(wanted.at, zone, date.today())):
        notes.append(
            f"On {day} clocks go forward past {wanted.at} ({zone}): no night then. Another time has none missing."
        )
    if kind == Kind.CRON:
        notes.append(
            "cron does not make up for a night in which this machine was off or asleep; a timer of systemd does."
        )
        if not installing.cron_runs():
            notes.append("No cron daemon runs on this machine, so nothing will start. Start it: service cron start.")
    return notes


def _print(wanted: "Schedule", settings: "Settings", asked: _Asked) -> None:
    from cascade.production.schedule import environment, rendering

    models = list(settings.describe().values())
    zone = environment.zone_here(os.environ)
    given = environment.assigned(wanted.env_file) if wanted.env_file else environment.set_here(os.environ)
    secrets = environment.elsewhere(environment.keys_of(models), given)
    embedded = any(model.startswith("embedded/") for model in models)
    text = rendering.printed(wanted, asked.kind, zone=zone, secrets=secrets, embedded=embedded)
    if asked.to and not asked.dry_run:
        _write(asked.to, text)
    facts = {"zone": zone, "secrets": secrets, "text": text, "file": str(asked.to) if asked.to else ""}
    if asked.as_json:
        print_json({**_facts(wanted, asked.kind), **facts})
    elif asked.to and not asked.dry_run:
        print(f"Wrote {asked.to}. It needs the secrets {', '.join(secrets)}.")
    else:
        print(text, end="")


def _write(path: Path, text: str) -> None:
    """Write a file that is new or was made by this command."""
    if path.exists() and "`cascade schedule`" not in path.read_text("utf-8", "replace"):
        raise SettingsError(f"--to {str(path)!r} is there and was not made by `cascade schedule`. Give another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise SettingsError(f"--to {str(path)!r} cannot be written: {error.strerror}. Give another place.") from None


def _remove(wanted: "Schedule", as_json: bool) -> None:
    from cascade.production.schedule import remove

    removed = remove(wanted)
    if as_json:
        print_json({"experiment": wanted.name, "removed": removed})
    elif removed:
        print(f"{wanted.name}: not started by {' and '.join(removed)} any more. Its log stays: {wanted.log}")
    else:
        print(f"{wanted.name}: nothing on this machine starts it for {wanted.project}.")


def _list(settings: "Settings", as_json: bool) -> None:
    from cascade.production.schedule import found

    scheduled = found(settings.project)
    if as_json:
        print_json(
            [{"experiment": one.name, "at": str(one.at), "kind": one.kind, "place": one.place} for one in scheduled]
        )
    elif not scheduled:
        print(f"Nothing on this machine starts a night for {settings.project}.")
    for one in scheduled if not as_json else []:
        print(f"{one.name}  {one.at}  {one.kind}  {one.place}")


def _facts(wanted: "Schedule", kind: Kind) -> dict[str, Any]:
    return {"experiment": wanted.name, "at": str(wanted.at), "kind": kind, "promote": wanted.promote}
