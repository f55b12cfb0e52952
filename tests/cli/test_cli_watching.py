"""The table on a terminal, drawn into a pseudo terminal."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cascade.bounds import Bound, Calls
from cascade.cli.live import LiveTable
from cascade.cli.words import bounded
from cascade.experiment import Budget
from cascade.lm.meter import Meter
from cascade.result import StageResult
from cascade.spending import Spent

BOUNDS = [
    (Bound(Calls(), Calls()), "at most 0 LM calls"),
    (Bound(Calls(task=60, teacher=4), Calls(task=60, teacher=4)), "at most 64 LM calls (task 60, teacher 4)"),
    (Bound(Calls(task=8), Calls(task=4)), "at most 8 LM calls, 4 where every answer can be read"),
    (Bound(None, Calls(), "X hides it"), "LM calls not bounded (X hides it): the budget is the only bound"),
]


@pytest.mark.parametrize(("bound", "said"), BOUNDS)
def test_bounds_in_words(bound, said):
    assert bounded(bound) == said


def test_the_table_shows_what_is_done_what_is_being_done_and_what_is_to_come(tmp_path):
    stages = [SimpleNamespace(name="demos"), SimpleNamespace(name="weights")]
    experiment = SimpleNamespace(hypothesis="Why?", stages=stages, budget=Budget(lm_calls=500))
    prepared = SimpleNamespace(experiment=experiment, name="qa")
    journal = SimpleNamespace(run=SimpleNamespace(id="20260101-000000-abcd"))
    meter = Meter(experiment.budget, before=Spent(lm_calls=120, lm_calls_cached=7))
    with (tmp_path / "screen").open("w+") as file, LiveTable(file, resumed_from="noon", width=120) as table:
        table.begin(prepared, journal, meter, resumed=True)
        table.stage_ended(StageResult("0-baseline", "none", "done", Spent(lm_calls=1200, lm_calls_cached=7)))
        table.stage_begins("1-demos", "LabeledFewShot", Bound(Calls(task=1060), Calls(task=60)))
        table.console.print(table._draw())
        table.step("1-demos", "dev", 60)
        for _ in range(12):
            table.tick()
        table.tick("candidate 45.0% on 60")
        table.warn("MLflow is [away]")
        table.console.print(table._draw())
        file.seek(0)
        screen = file.read()
    assert screen.startswith("Going on with run 20260101-000000-abcd, interrupted at noon.\nWhy?\n")
    assert "warning: MLflow is [away]" in screen
    assert "1-demos: LabeledFewShot, at most 1,060 LM calls" in screen
    assert re.search(r"0-baseline +done .* 1,200 \+7 +\$0 +0s", screen)
    assert re.search(r"1-demos +running +", screen)
    assert re.search(r"2-weights *\n", screen)
    assert re.search(r"1-demos: dev .* 13/60 +120 of 500 LM calls", screen)
    assert "  candidate 45.0% on 60" in screen


def test_a_run_on_a_terminal_draws_the_table_and_gives_the_terminal_back(project):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from letters import answer\n"
        "from cascade.cli import main; from cascade.cli.parts import Parts\n"
        "from cascade.testing import ScriptedEngine, ScriptedLMs\n"
        "parts = Parts(lms=lambda settings: ScriptedLMs(settings, ScriptedEngine(answer)))\n"
        "sys.exit(main(['run', 'letters', '--no-mlflow'], parts=parts))"
    )
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", code, str(Path(__file__).parents[1])]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "130"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True) as process:
        os.close(theirs)
        screen = b""
        while chunk := _read(ours):
            screen += chunk
        out = process.stdout.read()
    assert process.returncode == 0, screen.decode()
    assert out.startswith("Best: 1-demos")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.decode())
    assert re.search(r"1-demos +done +100.0% \[\d+–100\] +\+70.0 +better +new +30", shown)
    assert screen.count(b"\x1b[?25l") == screen.count(b"\x1b[?25h") == 1


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
