"""What `--help` says is compared with files in `golden`; `pytest --update-golden` writes them anew."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cascade.cli import main
from cascade.cli.app import app

GOLDEN = Path(__file__).parent / "golden"


def _commands(command: Any, words: str = "") -> Iterator[str]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{words} {name}".strip())


COMMANDS = list(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, capsys, monkeypatch, request):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert "Example: cascade " in said
    golden = GOLDEN / f"{'-'.join(['cascade', *command.split()])}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")


def _seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def test_help_is_fast():
    ours = "import sys; from cascade.cli import main; sys.exit(main(['--help']))"
    pairs = [(_seconds("import typer"), _seconds(ours)) for _ in range(8)][1:]
    typer, cascade = (statistics.median(times) for times in zip(*pairs, strict=True))
    assert cascade < 4 * typer, f"{cascade:.3f} s against {typer:.3f} s"


def test_help_imports_nothing_heavy():
    code = "import sys; from cascade.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"dspy", "mlflow", "torch", "rich.table"} & set(done.stdout.splitlines()[-1].split())
