"""`cascade gate`: the promotion's question without the promotion, for a build server.

Invariant: the exit code, the files and stdout say the same.
"""

from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.counting import counting
from cascade.cli.parts import Json, experiment_named, parts_of, print_json, stdout_kept
from cascade.cli.promote import Name, Number, RunId, shown
from cascade.cli.tables import Markdown, check_forms
from cascade.errors import CascadeError, Refused

MinGain = Annotated[
    float,
    typer.Option(
        "--min-gain",
        min=-1.0,
        max=1.0,
        help="What the lower bound of the gain must exceed, a fraction: 0 asks for better, -0.02 for not worse by more "
        "than 2 points.",
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0.0, help="Of serving an example: dollars where prices are known, else tokens."),
]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write a JUnit report.")]
Summary = Annotated[
    Path | None, typer.Option("--summary", metavar="FILE", help="Append Markdown, such as to $GITHUB_STEP_SUMMARY.")
]


def gate(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    min_gain: MinGain = 0.0,
    max_cost: MaxCost = None,
    run: RunId = "",
    version: Number = "",
    junit: Junit = None,
    summary: Summary = None,
    as_json: Json = False,
    markdown: Markdown = False,
) -> None:
    """Judge the challenger against the champion on test, and promote nothing; exit code 3 if it does not pass.

    Example: cascade gate qa --min-gain -0.02 --junit gate.xml
    """
    from cascade.check import prepare
    from cascade.production.promoting import checks, judged
    from cascade.settings import load_settings

    check_forms(as_json, markdown)
    with stdout_kept(), counting() as progress:
        settings, parts = load_settings(), parts_of(context)
        experiment = experiment_named(name, settings.project)
        prepared = prepare(experiment, settings, parts.lms(settings) if parts.lms else None)
        done = judged(prepared, run=run, number=version, min_gain=min_gain, progress=progress)
    if done is None:
        print(f"The challenger of {name} is the program that serves: there is nothing to judge.")
        return
    found = checks.checks(done.ruling, max_cost)
    against = f"version {done.entry.reference}" if done.entry.reference else "the baseline"
    told = checks.summary(
        name, f"version {done.version.number}", against, found, checks.decisive((done.challenger, done.reference))
    )
    if junit:
        _write(junit, checks.junit(name, found))
    if summary:
        _write(summary, told, append=True)
    if as_json:
        print_json({**shown(done.entry), "checks": [vars(check) for check in found]})
    elif markdown:
        print(told, end="")
    else:
        for check in found:
            print(f"{'passed' if check.passed else 'failed'}  {check.name}: {check.said}")
    if failed := [check for check in found if not check.passed]:
        raise Refused(f"{name} does not pass the gate: {', '.join(check.name for check in failed)}.")


def _write(path: Path, text: str, *, append: bool = False) -> None:
    try:
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CascadeError(
            f"{path} cannot be written ({error.strerror}). Give a file in a folder that exists."
        ) from None
