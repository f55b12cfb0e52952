"""A project in a temporary folder, and the command line over it."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from letters import EXPERIMENT, answer

from cascade.cli import main
from cascade.cli.parts import Parts
from cascade.testing import ScriptedEngine, ScriptedLMs


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str


@dataclass
class Project:
    """A project with one experiment, `letters`."""

    folder: Path
    engine: ScriptedEngine
    capture: pytest.CaptureFixture[str]
    clock: Callable[[], float] = time.time

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def cascade(self, *words: str, lms: Callable[[Any], Any] | None = None) -> Done:
        """Run a command with scripted LMs."""
        scripted = lms or (lambda settings: ScriptedLMs(settings, self.engine))
        self.capture.readouterr()
        code = main(list(words), parts=Parts(scripted, self.clock))
        captured = self.capture.readouterr()
        return Done(code, captured.out, captured.err)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Project:
    made = Project(tmp_path, ScriptedEngine(answer), capfd)
    made.write("experiments/letters.py", EXPERIMENT)
    made.write("datasets/letters/dataset.toml", 'inputs = ["question"]\n')
    for split in ("train", "dev", "test"):
        rows = [
            {"question": f"{split} {number // 10} {number % 10}", "answer": str(number % 10)} for number in range(30)
        ]
        made.write(f"datasets/letters/{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    for name in ("CASCADE_LM", "CASCADE_HOME", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def store(project: Project, empty_store: Path) -> Path:
    """The project's MLflow database."""
    return Path(shutil.copy(empty_store, project.folder / "mlflow.db"))
