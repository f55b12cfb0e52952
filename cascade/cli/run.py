"""`cascade run`: one experiment, watched, and what came of it.

Invariant: figures come from the `Result` and the journal; nothing is computed here.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.check import Other, Recipe, Start, show
from cascade.cli.parts import Asked, Json, Parts, experiment_named, parts_of, print_json, stdout_kept

if TYPE_CHECKING:
    from cascade.check import Prepared
    from cascade.result import Result

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment: a file experiments/NAME.py.")]
New = Annotated[bool, typer.Option("--new", help="Start over although an interrupted run could go on.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Pay for every answer again, whatever the ledger holds.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Spend nothing: the same as `cascade check NAME`.")]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Keep the run in the local journal only.")]


def run(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    start: Start = None,
    new: New = False,
    fresh: Fresh = False,
    no_mlflow: NoMlflow = False,
    dry_run: DryRun = False,
    recipe: Recipe = None,
    program: Other = None,
    as_json: Json = False,
) -> None:
    """Run an experiment, or go on with its interrupted run.

    Example: cascade run qa --new
    """
    asked = Asked(name, recipe, start, program)
    if dry_run:
        show(asked, parts_of(context), as_json=as_json)
        return
    with stdout_kept():
        result, mlflow = run_experiment(asked, parts_of(context), new=new, fresh=fresh, log=not no_mlflow)
    if as_json:
        print_json(result.to_json())
    else:
        _print_result(result, mlflow)


def run_experiment(
    asked: Asked, parts: Parts, *, new: bool = False, fresh: bool = False, log: bool = True
) -> "tuple[Result, str]":
    """Run an experiment and show its progress on stderr; returns the result and where MLflow shows it.

    Raises:
        CascadeError: see `cascade.run`.
    """
    from cascade.cli.watching import watching
    from cascade.runner import execute
    from cascade.running import ready, tracker
    from cascade.settings import load_settings

    settings = load_settings()
    experiment = experiment_named(asked, settings.project)
    prepared = ready(experiment, settings, parts.lms(settings) if parts.lms else None)
    store = tracker(settings, prepared.lms, log=log)
    with watching(resumed_from="" if new else _interrupted_at(prepared)) as progress:
        result = execute(prepared, tracker=store, progress=progress, new=new, fresh=fresh)
    return result, _shown_at(result, settings.tracking_uri) if log else "not logged (--no-mlflow)"


def _interrupted_at(prepared: "Prepared") -> str:
    """When the run that is about to go on was last heard of, or ""."""
    from cascade.journal import interrupted

    journal = interrupted(prepared.settings.home, prepared.name, prepared.signature)
    if journal is None:
        return ""
    # A run that was killed did not note when; the last thing it wrote says it nearly.
    moment = journal.run.ended or (journal.folder / "run.json").stat().st_mtime
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def _shown_at(result: "Result", uri: str) -> str:
    from cascade.cli.links import sent_to
    from cascade.journal import Journal
    from cascade.mlflow_store.links import run_link

    experiment, run_id = sent_to(Journal(Path(result.journal)))
    return run_link(uri, experiment, run_id) if run_id else "not sent yet; the next run sends it"


def _print_result(result: "Result", mlflow: str) -> None:
    from cascade.cli.words import reasons

    print(result.summary)
    if lines := reasons(result.stages):
        print("Why:", *lines, sep="\n")
    print(f"Journal: {result.journal}")
    if (report := Path(result.journal) / "report.html").exists():
        print(f"Report:  {report}")
    print(f"MLflow:  {mlflow}")
