"""A night that is interrupted, or killed, goes on to where one that was not would have come."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from letters import EXPERIMENT

import cascade
from cascade.discover import discover
from cascade.journal import journals
from cascade.mlflow_store.store import connect
from cascade.mlflow_store.versions import Versions
from cascade.production.night.nightly import hold_night
from cascade.production.night.nights import Night, Nights
from cascade.production.night.watch import Asked
from cascade.production.promoting.log import PromotionLog
from cascade.progress import Silent
from cascade.settings import load_settings
from cascade.testing import ScriptedEngine, ScriptedLMs

CHILD = Path(__file__).with_name("nightly_child.py")


def learns(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Each demo shows it two more digits."""
    question = inputs.get("question", "")
    return {"answer": question[-1] if int(question[-1]) < 1 + 2 * demos else "?"}


class Killed(KeyboardInterrupt):
    """Somebody died."""


class Mortal(Silent):
    """Dies when it is told something for so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def _told(self) -> None:
        self.left -= 1
        if not self.left:
            raise Killed

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        self._told()

    def tell(self, sentence: str) -> None:
        self._told()

    def stage_ended(self, result: Any) -> None:
        self._told()

    def end(self, result: Any) -> None:
        self._told()

    def warn(self, sentence: str) -> None:
        self._told()


@pytest.fixture(scope="module")
def second_night(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project in whose first night version 1 was promoted, and that may do better in its second."""
    folder = tmp_path_factory.mktemp("nights")
    for split in ("train", "dev", "test"):
        rows = [{"question": f"{split} {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(30)]
        write(folder / f"datasets/letters/{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write(folder / "datasets/letters/dataset.toml", 'inputs = ["question"]\n')
    write(folder / "experiments/letters.py", EXPERIMENT.replace("k=4", "k=1"))
    shutil.copy(empty_store, folder / "mlflow.db")
    engine = ScriptedEngine(learns)
    assert hold(folder, engine, day=0).promoted == "1"
    write(folder / "experiments/letters.py", EXPERIMENT)
    fresh = [{"question": f"fresh {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(9)]
    write(folder / "datasets/letters/incoming/a.jsonl", "".join(json.dumps(row) + "\n" for row in fresh))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def copied(project: Path, to: Path) -> Path:
    """A copy of a project whose MLflow keeps its artifacts in the copy."""
    shutil.copytree(project, to)
    return to


def hold(folder: Path, engine: ScriptedEngine, *, day: int = 1, progress: Any = None) -> Night:
    settings = replace(load_settings(folder, {}), tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    night, _ = hold_night(
        discover("letters", folder), settings, Asked(promote=True), progress=progress or Mortal(0),
        make_lms=lambda found: ScriptedLMs(found, engine), clock=lambda: time.time() + 86_400 * day,
    )  # fmt: skip
    return night


def outcome(folder: Path) -> dict[str, Any]:
    """What there is when all is over, apart from when and how often it was tried."""
    entries = PromotionLog.of(folder / ".cascade", "letters").entries()
    versions = Versions(connect(f"sqlite:///{folder / 'mlflow.db'}"), "letters")
    runs = [journal.run for journal in journals(folder / ".cascade", "letters")]
    night = Nights(folder / ".cascade", "letters").all()[0]
    return {
        "aliases": versions.aliases(),
        "versions": [(version.number, version.program) for version in versions.all()],
        "looks": sorted({(entry.version, entry.attempt) for entry in entries if entry.event == "judged"}),
        "moves": [entry.version for entry in entries if entry.event == "promoted"],
        "runs": [(run.status, run.best_stage, run.kind) for run in runs],
        "night": (night.state, night.promoted, night.taken.accepted, night.choice, night.ruled and night.ruled.reason),
        "nights": len(list((folder / ".cascade/production/letters/nights").iterdir())),
        "rows": len((folder / "datasets/letters/train.jsonl").read_text().splitlines()),
    }


@pytest.fixture(scope="module")
def undisturbed(second_night: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str], int]:
    """What comes of it, what was asked for it, and how often it told of something."""
    folder = copied(second_night, tmp_path_factory.mktemp("whole") / "project")
    engine, progress = ScriptedEngine(learns), Mortal(0)
    hold(folder, engine, progress=progress)
    return outcome(folder), sorted(engine.requests), -progress.left


def test_undisturbed_it_takes_rows_up_and_promotes(undisturbed: Any) -> None:
    found = undisturbed[0]
    assert found["night"][:2] == ("done", "2") and found["rows"] == 39 and found["nights"] == 2
    assert found["aliases"] == {"champion": "2", "previous": "1"} and len(found["runs"]) == 3


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_an_interrupted_night_goes_on(second_night: Path, undisturbed: Any, tmp_path: Path, share: float) -> None:
    wanted, asked, told = undisturbed
    folder, engine = copied(second_night, tmp_path / "project"), ScriptedEngine(learns)
    with pytest.raises(Killed):
        hold(folder, engine, progress=Mortal(max(1, round(share * told))))
    assert Nights(folder / ".cascade", "letters").all()[0].state == "running"
    hold(folder, engine)
    assert outcome(folder) == wanted
    assert sorted(engine.requests) == asked  # nothing is asked twice


WHEN: dict[str, Callable[[Path], bool]] = {
    "rows were taken up": lambda folder: (folder / "datasets/letters/incoming/done").exists(),
    "the first search runs": lambda folder: (
        len(list((folder / ".cascade/runs/letters").glob("*/0-baseline/record.json"))) > 1
    ),
    "the second search runs": lambda folder: (
        len(list((folder / ".cascade/runs/letters").glob("*/0-baseline/record.json"))) > 2
    ),
    "the gate has ruled": lambda folder: (
        (folder / ".cascade/production/letters/promotions.jsonl").read_text().count("\n") > 2
    ),
    "it was promoted": lambda folder: (
        (folder / ".cascade/production/letters/promotions.jsonl").read_text().count("\n") > 3
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("when", WHEN)
def test_a_killed_night_goes_on(second_night: Path, undisturbed: Any, tmp_path: Path, when: str) -> None:
    folder = copied(second_night, tmp_path / "project")
    paths = [str(Path(cascade.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MLFLOW_TRACKING_URI": ""}
    child = subprocess.Popen([sys.executable, str(CHILD), str(folder)], env=environment, stderr=subprocess.DEVNULL)
    try:
        while not WHEN[when](folder) and child.poll() is None:
            time.sleep(0.005)
    finally:
        child.kill()
        child.wait()
    hold(folder, ScriptedEngine(learns))
    assert outcome(folder) == undisturbed[0]
