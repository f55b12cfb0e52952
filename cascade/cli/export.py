"""`cascade export`: a program as plain DSPy JSON.

Invariant: nothing is asked of MLflow unless a model of it is named.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.parts import Json, print_json, stdout_kept
from cascade.cli.show import Name
from cascade.cli.tables import print_warning
from cascade.errors import DefinitionError

if TYPE_CHECKING:
    from cascade.settings import Settings
    from cascade.warm import Existing

To = Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to write; its name ends in .json.")]
RunId = Annotated[
    str,
    typer.Option(
        "--run", metavar="ID", help="The best program of another run than the newest; ID/STAGE for a stage's."
    ),
]
Model = Annotated[str, typer.Option("--model", metavar="URI", help="A model of MLflow: models:/NAME@ALIAS.")]


def export(name: Name, to: To, run: RunId = "", model: Model = "", as_json: Json = False) -> None:
    """Write a program as JSON that DSPy loads without cascade.

    Example: cascade export qa --to qa.json
    """
    from cascade.exporting import plain, write
    from cascade.settings import load_settings

    if run and model:
        raise DefinitionError(f"--run {run} and --model {model} name two programs. Give one of them.")
    with stdout_kept():
        settings = load_settings()
        existing = _existing(name, run or model, settings)
        exported = plain(existing, settings)
        write(exported, to)
    if as_json:
        predictors = list(existing.taken.state)
        print_json({"file": str(to), "program": existing.origin, "predictors": predictors, "notes": exported.notes})
    else:
        print(f"Written: {to}, the program of {existing.origin}. Load it: program.load({str(to)!r})", file=sys.stderr)
        for note in exported.notes:
            print(note)


def _existing(name: str, where: str, settings: "Settings") -> "Existing":
    from cascade.existing import MODEL, find_run, of_newest_run, read_from_mlflow

    if not where:
        return of_newest_run(name, settings, print_warning)
    return read_from_mlflow(where, settings) if where.startswith(MODEL) else find_run(where, name, settings)
