"""Tables and pages that commands put out.

Invariant: a table on a pipe is as wide as it needs to be and has no colours.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from cascade.errors import CascadeError, DefinitionError

Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page that needs nothing else.")
]

_STYLES = {"better": "green", "proven on test": "green", "worse": "red", "failed": "red", "skipped": "dim"}


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """Print rows under a head; the columns `right` hold figures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table, right = Table(box=None, padding=(0, 2, 0, 0), header_style="dim"), set(right)
    for name in head:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def print_aligned(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and what is said of them, a line each."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        print(f"  {name:<{width}}  {text}")


def print_warning(sentence: str) -> None:
    """Say on stderr what does not stop the command."""
    print(f"cascade: warning: {' '.join(sentence.split())}", file=sys.stderr)


def check_forms(as_json: bool, markdown: bool) -> None:
    """Refuse two documents on one stdout.

    Raises:
        DefinitionError: both were asked for.
    """
    if as_json and markdown:
        raise DefinitionError("--json and --markdown both print on stdout. Give one of them.")


def write_page(path: Path, page: str) -> None:
    """Write an HTML page and say so on stderr.

    Raises:
        CascadeError: the file cannot be written.
    """
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise CascadeError(
            f"--html {path} cannot be written ({error.strerror}). Give a file in a folder that exists."
        ) from None
    print(f"Written: {path}", file=sys.stderr)
