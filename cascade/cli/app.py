"""The commands, and the one place where an error becomes a line and an exit code.

Invariant: whatever goes wrong, a person reads one line on stderr and a script reads the exit code; a traceback is
shown only to who asked for it with `--debug`.
"""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Annotated, Any

import typer

from cascade.cli.ab import ab
from cascade.cli.check import check
from cascade.cli.compare import compare
from cascade.cli.draw import draw
from cascade.cli.export import export
from cascade.cli.gate import gate
from cascade.cli.harvest import harvest
from cascade.cli.ledger import ledger
from cascade.cli.listing import list_experiments
from cascade.cli.models import models
from cascade.cli.nightly import nightly
from cascade.cli.parts import Parts
from cascade.cli.promote import promote, rollback
from cascade.cli.run import run
from cascade.cli.schedule import schedule
from cascade.cli.serve import serve
from cascade.cli.show import show
from cascade.cli.ui import ui
from cascade.errors import CascadeError, Interrupted
from cascade.redaction import Redacting, told

DEBUG = "--debug"
INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("list")(list_experiments)
app.command("check")(check)
app.command("draw")(draw)
app.command("run")(run)
app.command("show")(show)
app.command("compare")(compare)
app.command("export")(export)
app.command("promote")(promote)
app.command("rollback")(rollback)
app.command("serve")(serve)
app.command("ab")(ab)
app.command("gate")(gate)
app.command("nightly")(nightly)
app.command("harvest")(harvest)
app.command("schedule")(schedule)
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
    out: Any = Redacting(sys.stdout)
    err: Any = Redacting(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        code, at_once = _run(words, parts or Parts())
    if argv is None and code == INTERRUPTED:
        _leave(at_once)
    return code


def _leave(at_once: bool) -> None:
    """Python waits for threads that wait for a model, so that their answers are kept; who is in a hurry does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if at_once:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(INTERRUPTED)


def _run(words: list[str], parts: Parts) -> tuple[int, bool]:
    """The exit code, and whether the process must not wait for what is in flight."""
    debug = DEBUG in words
    try:
        app([word for word in words if word != DEBUG], prog_name="cascade", obj=parts)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return (_interrupted(words), True) if code == INTERRUPTED else (code, False)
    except Interrupted:
        return _interrupted(words), False
    except KeyboardInterrupt:
        return _interrupted(words), True
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _failed(error), False
    return 0, False


def _failed(error: Exception) -> int:
    if isinstance(error, CascadeError):
        _say(str(error))
        return error.exit_code
    said = told(error) if str(error) else f"{type(error).__name__}: no message"
    _say(f"{said}. Run again with {DEBUG} for the traceback.")
    return 1


def _interrupted(words: list[str]) -> int:
    command = next((word for word in words if not word.startswith("-")), "")
    begun = " --from …" if any(word.partition("=")[0] == "--from" for word in words) else ""
    on = {"run": f"cascade run NAME{begun}", "nightly": "cascade nightly NAME"}.get(command, "")
    _say(f"interrupted; `{on}` goes on." if on else "interrupted.")
    return INTERRUPTED


def _say(sentence: str) -> None:
    print("cascade:", " ".join(sentence.split()), file=sys.stderr)
