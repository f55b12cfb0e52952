"""A short cascade over the real embedded model, really trained, that `test_kill_embedded.py` kills."""

import hashlib
import json
import multiprocessing
import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import kill_points

from cascade.lm.embedded import EmbeddedEngine, EmbeddedProvider
from cascade.lm.lms import LMs

HERE = Path(__file__).parents[1]
ROWS = {"train": 24, "dev": 20, "test": 20}
STAGES = ["0-baseline", "1-demos", "2-weights"]
EXPERIMENT = '''"""Does it end the same, whenever it is killed?"""

from typing import Literal

import dspy

from cascade import Dataset, Experiment, Plateau, Stage, metric
from cascade.optimizers import BootstrapFinetune

Answer = Literal["password", "vpn", "printer", "permission", "phishing", "hardware", "lost file", "sound"]


class HelpDesk(dspy.Signature):
    """Tell the employee what to do about their question."""

    question: str = dspy.InputField()
    answer: Answer = dspy.OutputField()


class AnswerQuestion(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict(HelpDesk)

    def forward(self, question):
        return self.answer(question=question)


@metric
def exact(example, prediction):
    return prediction.answer == example.answer


experiment = Experiment(
    dataset=Dataset("x"),
    metric=exact,
    program=AnswerQuestion,
    stages=[
        Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=1, max_labeled_demos=2),
        Stage("weights", BootstrapFinetune, max_labeled_rows=24, exclude_demos=True,
              train_kwargs={"epochs": 3, "layers": 4, "batch_size": 4}),
    ],
    plateau=Plateau(patience=9),
)
'''


class _Engine(EmbeddedEngine):
    """Notes what it is asked before it answers."""

    asked: kill_points.Asked

    def complete(self, request: Any) -> Any:
        text = json.dumps([request.model, str(request.system), [message.text for message in request.messages]])
        self.asked.note(hashlib.sha256(text.encode()).hexdigest())
        return super().complete(request)


class _LMs(LMs):
    """Those of a user, but for notes of what is asked and trained, and a checkpoint every second."""

    @cached_property
    def engine(self) -> Any:
        engine = _Engine(self.models)
        engine.asked = kill_points.Asked(self.settings.project)
        return engine

    @cached_property
    def provider(self) -> Any:
        return EmbeddedProvider(self.engine, checkpoint_every=1.0)

    def watch(self, meter: Any, on_step: Any) -> None:
        file = os.open(self.settings.project / "steps.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

        def noting(step: int, steps: int, loss: float) -> None:
            os.write(file, f"{step}\n".encode())
            on_step(step, steps, loss)

        super().watch(meter, noting)


def _embedded(folder: Path) -> None:
    kill_points.attempt(folder, _LMs)


class EmbeddedProject(kill_points.Project):
    """A folder with some rows of `qa` and the embedded model in which the cascade runs."""

    experiment = EXPERIMENT
    patience = 400.0

    def __init__(self, folder: Path, store: Path) -> None:
        super().__init__(folder, store)
        data = folder / "datasets" / "x"
        data.mkdir(parents=True)
        (data / "dataset.toml").write_text('inputs = ["question"]\n')
        for split, count in ROWS.items():
            lines = (HERE / "datasets" / "qa" / f"{split}.jsonl").read_text("utf-8").splitlines()[:count]
            (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        models = folder / ".cascade" / "models"
        models.mkdir(parents=True)
        for file in (self.home() / "models").glob("smollm2-135m.*"):
            shutil.copy2(file, models / file.name)

    @staticmethod
    def home() -> Path:
        """Where the base model is."""
        return Path(os.environ.get("CASCADE_HOME") or HERE / ".cascade")

    def start(self) -> Any:
        process = multiprocessing.get_context("spawn").Process(target=_embedded, args=(self.folder,))
        process.start()
        return process

    @property
    def steps(self) -> list[int]:
        """Training steps of all attempts, in order."""
        path = self.folder / "steps.txt"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    @property
    def checkpoint(self) -> int:
        """The step at which the training's checkpoint stands; 0 without one."""
        notes = list(self.folder.glob(".cascade/models/.checkpoints/*.json"))
        return int(json.loads(notes[0].read_text())["step"]) if notes else 0

    @property
    def weights(self) -> list[str]:
        """Names of what was trained, made from the weights' content."""
        return sorted(path.stem for path in self.folder.glob(".cascade/models/smollm2-135m-*.gguf"))
