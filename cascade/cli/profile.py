"""`cascade profile` and `cascade trace`: what an experiment's program does on rows of dev.

Invariant: nothing is judged, kept or registered; answers that the ledger knows are not paid for.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.check import Name, Other, Start
from cascade.cli.counting import counting
from cascade.cli.parts import Asked, Json, Parts, experiment_named, parts_of, print_json, stdout_kept
from cascade.cli.tables import Html, print_table, print_warning, write_page

if TYPE_CHECKING:
    from cascade.development.observing import Observed

Examples = Annotated[int, typer.Option("--examples", min=1, metavar="N", help="Run so many rows of dev.")]
Row = Annotated[str, typer.Option("--row", metavar="ID", help="A row of dev; default: the first.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ask the models again, also for what the ledger knows.")]
To = Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Write the spans as JSON lines.")]
Mlflow = Annotated[bool, typer.Option("--mlflow", help="Show the spans in MLflow, too.")]


def profile(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    examples: Examples = 10,
    start: Start = None,
    program: Other = None,
    fresh: Fresh = False,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Show where a program's time and tokens go, by step and by predictor.

    Example: cascade profile qa --examples 20 --fresh
    """
    from cascade.report import profiles

    with stdout_kept():
        found = _observed(Asked(name, start=start, program=program), parts_of(context), fresh, examples)
    told = profiles.document(found.trace.profile, name, len(found.ids), found.errors)
    if html:
        from cascade.report.page import profile_page

        write_page(html, profile_page(told))
    if as_json:
        print_json(told)
        return
    for by in ("step", "predictor"):
        if rows := told[f"by_{by}"]:
            print_table((by, *profiles.HEAD), map(profiles.cells, rows), profiles.HEAD)
            print()
    for sentence in told["notes"]:
        print(sentence)


def trace(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    row: Row = "",
    start: Start = None,
    program: Other = None,
    fresh: Fresh = False,
    to: To = None,
    mlflow: Mlflow = False,
    as_json: Json = False,
) -> None:
    """Show what a program does with one row, call by call.

    Example: cascade trace qa --row 7 --to trace.jsonl
    """
    with stdout_kept():
        found = _observed(Asked(name, start=start, program=program), parts_of(context), fresh, 1, row)
        if to:
            found.trace.write(to)
        link = _shown(name, found) if mlflow else ""
    for id_, error in found.errors.items():
        print_warning(f"row {id_!r} failed: {error}")
    if as_json:
        print_json({"experiment": name, "row": found.ids[0], "link": link, "spans": found.trace.to_json()})
        return
    _print_tree(found)
    if link:
        print(f"\nMLflow: {link}")


def _observed(asked: Asked, parts: Parts, fresh: bool, most: int, row: str = "") -> "Observed":
    from cascade.development.observing import observe
    from cascade.running import ready
    from cascade.settings import load_settings

    settings = load_settings()
    experiment = experiment_named(asked, settings.project)
    prepared = ready(experiment, settings, parts.lms(settings) if parts.lms else None)
    ids = [row] if row else list(prepared.data.dev.ids[:most])
    with counting() as progress:
        return observe(prepared, ids, progress, fresh=fresh)


def _shown(name: str, found: "Observed") -> str:
    from cascade.mlflow_store import spans
    from cascade.settings import load_settings

    settings = load_settings()
    return spans.show(settings.tracking_uri, f"{settings.experiment_prefix}{name}", found.trace.spans, found.ids[0])


def _print_tree(found: "Observed") -> None:
    import sys

    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as captured:
        console.print(found.trace.tree())
    for line in captured.get().splitlines():
        print(line.rstrip())
