"""`cascade show`: the story of one run.

Invariant: everything comes from the run's journal; nothing is asked of MLflow and nothing is computed here.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.history import show_history
from cascade.cli.parts import Json, print_json, stdout_kept
from cascade.cli.tables import (
    Html,
    Markdown,
    check_forms,
    print_aligned,
    print_table,
    print_warning,
    write_page,
)

if TYPE_CHECKING:
    from cascade.report.reading import Run

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment that has run.")]
RunId = Annotated[
    str, typer.Option("--run", metavar="ID", help="Another run; the beginning or the end of its id will do.")
]

History = Annotated[bool, typer.Option("--history", help="Which version served when, and every look at test.")]


def show(
    name: Name,
    run: RunId = "",
    as_json: Json = False,
    markdown: Markdown = False,
    html: Html = None,
    history: History = False,
) -> None:
    """Show what came of a run, by default the newest.

    Example: cascade show qa --html qa.html
    """
    from cascade.report.finding import named, newest
    from cascade.settings import load_settings

    check_forms(as_json, markdown)
    if history:
        show_history(name, as_json=as_json)
        return
    with stdout_kept():
        home = load_settings().home
        found = named(home, name, [run])[0] if run else newest(home, name, 1, print_warning)[0]
    if html:
        from cascade.report.page import run_page

        write_page(html, run_page(found))
    if as_json:
        from cascade.report.document import run_document

        print_json(run_document(found))
    elif markdown:
        from cascade.report.markdown import run_markdown

        print(run_markdown(found), end="")
    elif not html:
        _print(found)


def _print(run: "Run") -> None:
    from cascade.report import cells
    from cascade.report.document import run_document

    told = run_document(run)
    for sentence in told["story"]:
        if sentence != told["way_on"]:
            print(sentence)
    if told["stages"]:
        print()
        print_table(cells.STAGE, map(cells.stage_row, told["stages"]), cells.RIGHT)
    if told["metric_parts"]:
        print()
        print_table(cells.PART, map(cells.part_row, told["metric_parts"]), cells.RIGHT)
    if reasons := [(stage["stage"], stage["reason"]) for stage in told["stages"][1:]]:
        print("\nWhy:")
        print_aligned(reasons)
    print(f"\nJournal: {told['journal']}")
    if told["way_on"]:
        print(told["way_on"])
