"""`cascade check`, and `cascade run --dry-run`, which is the same: what is wrong, and what a run would be.

Invariant: no LM is called, and nothing is written anywhere.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.parts import Asked, Json, Parts, experiment_named, parts_of, print_json, stdout_kept
from cascade.errors import DefinitionError

if TYPE_CHECKING:
    from cascade.checks import Finding
    from cascade.forecast import Forecast

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment: a file experiments/NAME.py.")]


Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe", metavar="NAME", help="Take these stages instead of its own: classic, small, distil or prompts."
    ),
]


Start = Annotated[
    str | None,
    typer.Option("--from", metavar="WHAT", help="Begin from a program: a file, a run's ID, or models:/NAME@ALIAS."),
]

Other = Annotated[
    str | None,
    typer.Option(
        "--program", metavar="WHAT", help="Another program in its place: a factory of its file, or MODULE:FACTORY."
    ),
]


def check(
    context: typer.Context,
    name: Name,
    start: Start = None,
    recipe: Recipe = None,
    program: Other = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with an experiment, and what a run may cost.

    Example: cascade check qa
    """
    show(Asked(name, recipe, start, program), parts_of(context), as_json=as_json)


def show(asked: Asked, parts: Parts, *, as_json: bool) -> None:
    """Print findings and plan.

    Raises:
        DefinitionError: what a run would stop for, after all findings were printed.
    """
    from cascade.checks import refuse

    with stdout_kept():
        found, plan, stopped = look(asked, parts)
    if as_json:
        documents = [finding.to_json() for finding in found]
        print_json({"experiment": asked.name, "findings": documents, **(plan.to_json() if plan else {})})
    elif not stopped:
        print_findings(found)
    if stopped:
        raise stopped
    refuse(found)
    if plan and not as_json:
        from cascade.cli.plan import print_forecast

        print()
        print_forecast(plan)


def look(asked: Asked, parts: Parts) -> "tuple[list[Finding], Forecast | None, DefinitionError | None]":
    """Findings, the plan where there is no error, and what kept the experiment from being examined."""
    from cascade.checks import Finding, examine
    from cascade.forecast import forecast
    from cascade.running import ready
    from cascade.settings import load_settings

    try:
        settings = load_settings()
        experiment = experiment_named(asked, settings.project)
        prepared = ready(experiment, settings, parts.lms(settings) if parts.lms else None, write=False)
    except DefinitionError as error:
        return [Finding("error", f"Experiment {asked.name!r}", str(error))], None, error
    found = examine(prepared)
    wrong = any(finding.severity == "error" for finding in found)
    return found, None if wrong else forecast(prepared), None


def print_findings(found: "list[Finding]") -> None:
    """A line each, errors first."""
    if all(finding.severity == "note" for finding in found):
        print("No error and no warning.")
    for finding in found:
        print(f"{finding.severity:<7}  {finding}")
