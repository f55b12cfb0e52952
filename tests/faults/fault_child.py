"""What runs in the process of its own that a fault is injected into: the command line, under circumstances.

Imported once in a server that forks for each process, because importing DSPy and MLflow takes seconds.
"""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import dspy  # noqa: F401 - so that each process has it already
import litellm  # noqa: F401
import mlflow.pyfunc
import mlflow.tracking  # noqa: F401

import cascade.check
import cascade.cli.check
import cascade.report.page
import cascade.running  # noqa: F401
from cascade.cli import main


def play(words: list[str], folder: str, environ: dict[str, str], out: str, limit: int, back: float) -> None:
    """Run a command line in `folder` and end the process with its exit code.

    Args:
        out: stdout goes to this file, stderr to one named `….err`.
        limit: bytes that no file may exceed; 0 is none. Stands in for a full disk: writes fail in the same place.
        back: seconds by which the clock jumps back when the file `jump` appears in the folder.
    """
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, name in ((1, out), (2, f"{out}.err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if back:
        real, jump = time.time, Path(folder) / "jump"
        time.time = lambda: real() - (back if jump.exists() else 0.0)
    sys.argv = ["cascade", *words]
    sys.exit(main())
