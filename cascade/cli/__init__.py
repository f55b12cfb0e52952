"""The command line: parse, call, print.

Invariant: nothing is decided here, and nothing heavy is imported before a command needs it; `cascade --help` stays
nearly as fast as typer itself.
"""

from cascade.cli.app import main

__all__ = ["main"]
