"""The commands, and the one place where an error becomes a line and an exit code.

Invariant: whatever goes wrong, a person reads one line on stderr and a script reads the exit code; a traceback is
shown only to who asked for it with `--debug`.
"""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from cascade.cli.compare import compare
from cascade.cli.ledger import ledger
from cascade.cli.listing import list_experiments
from cascade.cli.models import models
from cascade.cli.parts import Parts
from cascade.cli.run import run
from cascade.cli.show import show
from cascade.cli.ui import ui
from cascade.errors import CascadeError, Interrupted

DEBUG = "--debug"
INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("list")(list_experiments)
app.command("run")(run)
app.command("show")(show)
app.command("compare")(compare)
app.add_typer(models, name="models")
app.add_typer(ledger, name="ledger")
app.command("ui")(ui)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; also after the command.")] = False,
) -> None:
    """Take a DSPy program to the best that its data can prove.

    Example: cascade run qa
    """


def main(argv: Sequence[str] | None = None, *, parts: Parts | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: without the program's name; default: that of the process.
        parts: what commands are put together from; tests give scripted LMs.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = DEBUG in words
    try:
        app([word for word in words if word != DEBUG], prog_name="cascade", obj=parts or Parts())
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return _interrupted() if code == INTERRUPTED else code
    except (Interrupted, KeyboardInterrupt):
        return _interrupted()
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _failed(error)
    return 0


def _failed(error: Exception) -> int:
    if isinstance(error, CascadeError):
        _say(str(error))
        return error.exit_code
    _say(f"{type(error).__name__}: {str(error) or 'no message'}. Run again with {DEBUG} for the traceback.")
    return 1


def _interrupted() -> int:
    _say("interrupted; `cascade run NAME` goes on.")
    return INTERRUPTED


def _say(sentence: str) -> None:
    print("cascade:", " ".join(sentence.split()), file=sys.stderr)
