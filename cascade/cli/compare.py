"""`cascade compare`: runs of one experiment side by side, or programs on its rows.

Invariant: runs come from their journals, and nothing is asked of MLflow; programs are judged and leave journals.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cascade.cli.counting import counting
from cascade.cli.parts import Json, Parts, experiment_named, parts_of, print_json, stdout_kept
from cascade.cli.run import NoMlflow
from cascade.cli.show import Name
from cascade.cli.tables import (
    Html,
    Markdown,
    check_forms,
    print_aligned,
    print_table,
    print_warning,
    write_page,
)
from cascade.errors import DefinitionError

if TYPE_CHECKING:
    from cascade.development.rating import Rating
    from cascade.report.comparing import SideBySide
    from cascade.report.reading import Run

MOST = 5
"""Examples won, and examples lost, that the terminal shows."""
Runs = Annotated[
    list[str] | None,
    typer.Option("--run", metavar="ID", help="A run to compare, with those named before it."),
]
Last = Annotated[int | None, typer.Option("--last", min=2, help="Compare so many of the newest runs; default: 2.")]


Programs = Annotated[
    list[str] | None,
    typer.Option(
        "--program",
        metavar="WHAT",
        help="A program to judge, with those named before it: a factory of the experiment's file, MODULE:FACTORY, a "
        "saved file, a run's ID, or models:/NAME@ALIAS.",
    ),
]
On = Annotated[
    Literal["dev", "test"] | None,
    typer.Option("--split", help="With --program: judge on dev, or on test too, where each look is recorded."),
]


@dataclass(frozen=True)
class Forms:
    """How a comparison is printed."""

    as_json: bool
    markdown: bool
    html: Path | None


def compare(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    run: Runs = None,
    last: Last = None,
    program: Programs = None,
    split: On = None,
    no_mlflow: NoMlflow = False,
    as_json: Json = False,
    markdown: Markdown = False,
    html: Html = None,
) -> None:
    """Compare runs of an experiment, or programs on its data, side by side.

    Example: cascade compare qa --last 3

    Example: cascade compare qa --program PlainAnswer --program AnswerQuestion
    """
    from cascade.report.comparing import side_by_side
    from cascade.settings import load_settings

    check_forms(as_json, markdown)
    if last and (run or program):
        raise DefinitionError(f"--last {last} and {'--run' if run else '--program'}: give one of them.")
    forms = Forms(as_json, markdown, html)
    if program:
        _check(program, run)
        with stdout_kept():
            rating = _rated(name, program, parts_of(context), test=split == "test", log=not no_mlflow)
        _show(rating.compared, forms)
        if not (as_json or markdown or html):
            _print_rating(rating, test=split == "test")
        return
    if split or no_mlflow:
        raise DefinitionError(f"{'--split' if split else '--no-mlflow'} needs --program: runs are read, not judged.")
    with stdout_kept():
        compared = side_by_side(_runs(load_settings().home, name, run or [], last or 2))
    _show(compared, forms)


def _check(programs: list[str], runs: list[str] | None) -> None:
    if runs:
        raise DefinitionError("--run and --program: give one of them. A run's ID is a --program too.")
    if not all(map(str.strip, programs)):
        raise DefinitionError("--program '' names nothing. Give a factory, a file, a run or a model.")
    if len(programs) == 1:
        raise DefinitionError(f"--program {programs[0]} names one program. Name two or more.")
    if twice := next((one for one in programs if programs.count(one) > 1), ""):
        raise DefinitionError(f"--program {twice} is given twice. Name different programs.")


def _rated(name: str, programs: list[str], parts: Parts, *, test: bool, log: bool) -> "Rating":
    from cascade.development.naming import rival
    from cascade.development.rating import rate
    from cascade.lm.lms import LMs
    from cascade.running import tracker
    from cascade.settings import load_settings

    settings = load_settings()
    lms = parts.lms(settings) if parts.lms else LMs(settings)
    experiment = experiment_named(name, settings.project)
    rivals = [rival(one, experiment, settings, lms) for one in programs]
    with counting() as progress:
        return rate(rivals, test=test, progress=progress, tracker=tracker(settings, lms, log=log))


def _show(compared: "SideBySide", forms: Forms) -> None:
    if forms.html:
        from cascade.report.page import comparison_page

        write_page(forms.html, comparison_page(compared))
    if forms.as_json:
        from cascade.report.document import comparison_document

        print_json(comparison_document(compared))
    elif forms.markdown:
        from cascade.report.markdown import comparison_markdown

        print(comparison_markdown(compared), end="")
    elif not forms.html:
        _print(compared)


def _print_rating(rating: "Rating", *, test: bool) -> None:
    """What a comparison of programs leaves to say."""
    from cascade.report.figures import calls, many_compared

    print(f"\n{calls(rating.spent.to_json())}.")
    if many := many_compared(rating.compared.earlier):
        print(many)
    looks = next((run.test.looks for run in rating.compared.runs if run.test), 0)
    print(f"Look {looks} at this test split." if test else "Test was not looked at: --split test does, and counts it.")


def _runs(home: "Path", name: str, wanted: list[str], last: int) -> "list[Run]":
    """The runs that are meant, the reference first."""
    from cascade.report.finding import named, newest

    if len(wanted) == 1:
        raise DefinitionError("--run names one run. Name two or more, or leave it out for the newest.")
    return named(home, name, wanted) if wanted else newest(home, name, last, print_warning, judged=True)[::-1]


def _print(compared: "SideBySide") -> None:
    from cascade.report import cells
    from cascade.report.document import comparison_document

    told = comparison_document(compared)
    print_table(*cells.side_by_side(told), cells.RIGHT)
    for pair in told["pairs"]:
        print(f"\n{pair['after']} against {pair['before']}:")
        print_aligned([(split, pair[split]["says"]) for split in ("dev", "test")])
    if len(told["pairs"]) == 1:
        _print_pair(told["pairs"][0])
    else:
        print("\nEach confidence is corrected for the number of comparisons.")
        print(f"Prompts and examples: give two {told['of']}s with --{told['of']}, or --html FILE for all.")
    print("\nWhat an example takes:")
    print_table(cells.SERVING, map(cells.serving_row, told["serving"]), cells.RIGHT)
    if told["metric_parts"]:
        print()
        print_table(cells.PARTS, map(cells.part_row, told["metric_parts"]), cells.RIGHT)
    print(
        "\nWhat differs:"
        if told["differences"]
        else "\nNothing differs: the same definition, data, LMs and parameters."
    )
    print_aligned(
        [(what, " | ".join(value or "–" for value in values)) for what, values in told["differences"].items()]
    )
    if compared.points:
        print("\nScore against serving cost, cheapest first:")
        print_table(cells.POINT, [cells.point_row(point, compared.unit) for point in compared.points], cells.RIGHT)
    if compared.left_out:
        print(f"Left out, judged on other rows or by another metric: {', '.join(compared.left_out)}.")


def _print_pair(pair: dict[str, Any]) -> None:
    from cascade.report.text import in_line

    print("\nPrompts:" if pair["prompts_diff"] else "\nThe prompts are the same.")
    for line in pair["prompts_diff"]:
        print(f"  {line}")
    for word in ("lost", "won"):
        if found := pair[word]:
            print(f"\nExamples of dev {word}: {len(found)}" + (f", of which {MOST}:" if len(found) > MOST else ":"))
            print_aligned([(change["id"], _change(change, in_line)) for change in found[:MOST]])


def _change(change: dict[str, Any], in_line: Any) -> str:
    before, after = (in_line(given["error"] or given["predicted"], 40) for given in (change["before"], change["after"]))
    return f"{in_line(change['input'], 70)}  expected {in_line(change['expected'], 40)}: {before} → {after}"
