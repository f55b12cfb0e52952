"""What commands are put together from, and how they print.

Invariant: stdout holds what was asked for and nothing else, whatever a library, a user's file or a child process
prints.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from cascade.experiment import Experiment
    from cascade.lm.lms import LMs
    from cascade.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


@dataclass(frozen=True)
class Parts:
    """What a command line is run with.

    Args:
        lms: makes the LMs from settings; default: those that settings name.
        clock: seconds since 1970, which say what night it is.
    """

    lms: "Callable[[Settings], LMs] | None" = None
    clock: "Callable[[], float]" = time.time


def parts_of(context: typer.Context) -> Parts:
    """The parts that `main` was given."""
    return context.obj if isinstance(context.obj, Parts) else Parts()


@contextmanager
def stdout_kept() -> Iterator[None]:
    """Send everything that is printed inside to stderr, also by compiled code and child processes."""
    sys.stdout.flush()
    with redirect_stdout(sys.stderr), _descriptor_redirected(1, 2):
        yield


def print_json(value: Any) -> None:
    """Print one document; what JSON does not know is printed as text."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


@contextmanager
def _descriptor_redirected(source: int, target: int) -> Iterator[None]:
    import ctypes

    try:
        kept = os.dup(source)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            os.dup2(target, source)
        yield
    finally:
        # What C code printed waits in a buffer that would else be written after the descriptor is back.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, source)
        os.close(kept)


class Asked(NamedTuple):
    """Which experiment is meant, and what is asked of it that its file does not say.

    Args:
        recipe: whose stages take the place of its own.
        start: a program to begin from, in place of the one that it may name.
        program: a factory in place of its own, as `cascade.development.naming.under_program` takes it.
    """

    name: str
    recipe: str | None = None
    start: str | None = None
    program: str | None = None


def experiment_named(asked: Asked | str, project: Path) -> "Experiment":
    """`cascade.discover.discover`, with what is asked for in the place of what its file says.

    Raises:
        ExperimentError: no such file, a broken one, no such recipe or program.
    """
    from cascade.discover import discover

    name, recipe, start, program = Asked(asked) if isinstance(asked, str) else asked
    found = discover(name, project)
    if recipe is not None:
        from cascade.recipes import under

        found = under(found, recipe)
    if program is not None:
        from cascade.development.naming import under_program

        found = under_program(found, program, project)
    return replace(found, start=start) if start else found
