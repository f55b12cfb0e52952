"""`cascade compare`: runs of one experiment side by side.

Invariant: everything comes from the runs' journals; nothing is asked of MLflow and nothing is computed here.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.parts import Json, print_json, stdout_kept
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
    from pathlib import Path

    from cascade.report.comparing import SideBySide
    from cascade.report.reading import Run

MOST = 5
"""Examples won, and examples lost, that the terminal shows."""
Runs = Annotated[
    list[str] | None,
    typer.Option("--run", metavar="ID", help="A run to compare, with those named before it."),
]
Last = Annotated[int, typer.Option("--last", min=2, help="Compare so many of the newest runs.")]


def compare(
    name: Name, run: Runs = None, last: Last = 2, as_json: Json = False, markdown: Markdown = False, html: Html = None
) -> None:
    """Compare runs of an experiment, side by side.

    Example: cascade compare qa --last 3
    """
    from cascade.report.comparing import side_by_side
    from cascade.settings import load_settings

    check_forms(as_json, markdown)
    with stdout_kept():
        compared = side_by_side(_runs(load_settings().home, name, run or [], last))
    if html:
        from cascade.report.page import comparison_page

        write_page(html, comparison_page(compared))
    if as_json:
        from cascade.report.document import comparison_document

        print_json(comparison_document(compared))
    elif markdown:
        from cascade.report.markdown import comparison_markdown

        print(comparison_markdown(compared), end="")
    elif not html:
        _print(compared)


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
    print_table(cells.RUN, map(cells.run_row, told["runs"]), cells.RIGHT)
    for pair in told["pairs"]:
        print(f"\n{pair['after']} against {pair['before']}:")
        print_aligned([(split, pair[split]["says"]) for split in ("dev", "test")])
    if len(told["pairs"]) == 1:
        _print_pair(told["pairs"][0])
    else:
        print("\nEach confidence is corrected for the number of comparisons.")
        print("Prompts and examples: give two runs with --run, or --html FILE for all.")
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
