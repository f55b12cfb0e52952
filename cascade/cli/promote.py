"""`cascade promote` and `cascade rollback`: which version serves.

Invariant: figures and sentences come from the promotion log; nothing is decided here.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.counting import counting
from cascade.cli.parts import Json, experiment_named, parts_of, print_json, stdout_kept

if TYPE_CHECKING:
    from cascade.production.promoting import Entry

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment that has a version in MLflow.")]
RunId = Annotated[
    str, typer.Option("--run", metavar="ID", help="The version of this run; the beginning or end of its id will do.")
]
Number = Annotated[str, typer.Option("--version", metavar="N", help="This version of the model.")]
Force = Annotated[bool, typer.Option("--force", help="Promote whatever the gate says; the log says so.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, for the log.")]
To = Annotated[str, typer.Option("--to", metavar="N", help="The version to go back to; default: the one before.")]


def promote(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    run: RunId = "",
    version: Number = "",
    force: Force = False,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Take the challenger into service if it is better than the champion on test; exit code 3 if not.

    Example: cascade promote qa --run 20261127-070950-3796
    """
    from cascade.check import prepare
    from cascade.production.promoting import promote as promoted
    from cascade.settings import load_settings

    with stdout_kept(), counting() as progress:
        settings, parts = load_settings(), parts_of(context)
        experiment = replace(experiment_named(name, settings.project), start=None)  # nothing is begun here
        prepared = prepare(experiment, settings, parts.lms(settings) if parts.lms else None)
        done = promoted(prepared, run=run, number=version, force=force, note=note, progress=progress)
    _say(done.entry, as_json=as_json)


def rollback(name: Name, to: To = "", note: Note = "", as_json: Json = False) -> None:
    """Take the champion out of service for the version before it, and reject it.

    Example: cascade rollback qa --note "wrong about printers"
    """
    from cascade.production.promoting import roll_back
    from cascade.settings import load_settings

    with stdout_kept(), counting() as progress:
        entry = roll_back(load_settings(), name, to=to, note=note, progress=progress)
    _say(entry, as_json=as_json)


def _say(entry: "Entry", *, as_json: bool) -> None:
    if as_json:
        print_json(shown(entry))
        return
    print(f"Version {entry.version} of {entry.experiment} serves. {entry.reason}")


def shown(entry: "Entry") -> dict[str, Any]:
    """An entry as plain values, without the hashes of rows."""
    return {name: value for name, value in entry.to_json().items() if name not in ("rows", "key")}
