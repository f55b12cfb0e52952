"""`docs/seeds.md` names what there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cascade
from cascade import programs, recipes
from cascade.discover import discover

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/seeds.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| heading")
]
ISSUE = {"research", "finance", "privacy", "llms_txt", "memory", "multihop", "triage", "judge"}
BUILT = {path.stem for path in (ROOT / "experiments").glob("*.py")}
"""Of those of the task, the ones that this tree has."""
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])})


def test_every_block_has_a_row():
    assert len(ROWS) == 25
    assert all(len(row) == 3 and all(row) for row in ROWS)


def test_the_experiments_are_those_of_the_task():
    assert {Path(name).stem for name in NAMED if name.startswith("experiments/")} == ISSUE


@pytest.mark.parametrize("name", sorted(BUILT & ISSUE))
def test_an_experiment_of_this_tree_can_be_built(name):
    experiment = discover(name, ROOT)
    assert experiment.program().predictors()


@pytest.mark.parametrize("name", [name for name in NAMED if not name.startswith(("cascade ", "experiments/"))])
def test_what_replaces_something_is_there(name):
    if name.startswith("cascade."):
        assert callable(getattr(recipes, name.rpartition(".")[2]))
    else:
        assert hasattr(programs, name) or hasattr(cascade, name)


@pytest.mark.parametrize("command", [name.split()[1] for name in NAMED if name.startswith("cascade ")])
def test_a_command_that_replaces_something_is_there(command):
    done = subprocess.run([sys.executable, "-m", "cascade", command, "--help"], capture_output=True, check=False)
    assert done.returncode == 0
