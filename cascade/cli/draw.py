"""`cascade draw`: an experiment's program as a picture.

Invariant: the program is built and not run; no LM is called.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cascade.cli.check import Name, Other
from cascade.cli.parts import Asked, experiment_named, parts_of, stdout_kept
from cascade.errors import CascadeError


class Form(StrEnum):
    """How it is drawn."""

    text = "text"
    mermaid = "mermaid"
    svg = "svg"


Format = Annotated[Form, typer.Option("--format", help="A tree in words, a flowchart in Mermaid, or a picture.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it to a file instead of stdout.")]


def draw(context: typer.Context, name: Name, form: Format = Form.text, out: Out = None, program: Other = None) -> None:
    """Draw the program of an experiment: its steps, what they take and give, and their order.

    Example: cascade draw qa --format svg --out qa.svg
    """
    from cascade.check import build_program
    from cascade.lm.lms import LMs
    from cascade.lm.named import offering
    from cascade.programs.drawing import FORMS, sketch
    from cascade.programs.picture import svg
    from cascade.settings import load_settings

    with stdout_kept():
        settings = load_settings()
        lms = (parts_of(context).lms or LMs)(settings)
        try:
            with offering(lms):
                built = build_program(experiment_named(Asked(name, program=program), settings.project))
            drawn = {**FORMS, "svg": svg}[form](sketch(built, name))
        finally:
            lms.close()
    if out is None:
        print(drawn, end="")
        return
    try:
        out.write_text(drawn, "utf-8")
    except OSError as error:
        raise CascadeError(
            f"--out {out} cannot be written ({error.strerror}). Give a file in a folder that exists."
        ) from None
    print(f"Written: {out}", file=sys.stderr)
