"""A small cascade on a scripted language model: what the tests of the loop, the stages and the gateway share."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

from cascade.check import Prepared, prepare
from cascade.dataset import Dataset, Split
from cascade.experiment import Experiment, Plateau, Stage
from cascade.metrics import metric
from cascade.progress import Silent
from cascade.runner import execute
from cascade.settings import LMSpec, Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

LABELS = ["a", "b", "c", "d"]


def gold(question: str) -> str:
    return LABELS[int(hashlib.md5(question.encode()).hexdigest(), 16) % 4]


def luck(*parts: object) -> float:
    return int(hashlib.md5("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def answer(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Right more often with more demos, and much more often once trained; the same every time."""
    question = inputs.get("question", "")
    chance = 0.35 + 0.05 * min(demos, 4) + (0.3 if "trained" in model else 0)
    return {"answer": gold(question) if luck(model, question, demos) < chance else "a"}


def rows(split: str, n: int) -> list[dict[str, str]]:
    return [{"question": f"{split} {i}", "answer": gold(f"{split} {i}")} for i in range(n)]


def split(name: str, n: int, groups: tuple[str, ...] | None = None) -> Split:
    return Split(name, tuple(rows(name, n)), tuple(f"{name}-{i:04}" for i in range(n)), groups, ("question",))


class Asks(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


@metric
def right(example: Any, prediction: Any) -> bool:
    return bool(example.answer == prediction.answer)


FOUR_STAGES = (
    Stage("instructions", dspy.MIPROv2, auto="light"),
    Stage("demos", dspy.BootstrapFewShot),
    Stage("together", dspy.BetterTogether, strategy="p -> w", p=Stage("p", dspy.BootstrapFewShot), w=Stage("w", dspy.BootstrapFinetune)),
    Stage("weights", dspy.BootstrapFinetune),
)  # fmt: skip


def experiment(*stages: Stage, train: int = 30, dev: int = 40, test: int = 40, **options: Any) -> Experiment:
    data = Dataset("x", train=rows("train", train), dev=rows("dev", dev), test=rows("test", test), inputs=("question",))
    values: dict[str, Any] = {
        "dataset": data,
        "metric": right,
        "program": Asks,
        "name": "x",
        "stages": stages,
        **options,
    }
    return Experiment(**values)


def settings_in(folder: Path, **options: Any) -> Settings:
    return Settings(**{"project": folder, "home": folder / ".cascade", "tracking_uri": "", "threads": 4, **options})


def specs(**lms: str) -> dict[str, LMSpec]:
    """Settings of LMs by name, for `settings_in(folder, lm=…)`."""
    return {name: LMSpec(model) for name, model in lms.items()}


def prepared(defined: Experiment, folder: Path, engine: ScriptedEngine, **options: Any) -> Prepared:
    settings = settings_in(folder, **options)
    return prepare(defined, settings, ScriptedLMs(settings, engine))


def run(defined: Experiment, folder: Path, engine: ScriptedEngine, **options: Any) -> Any:
    return execute(prepared(defined, folder, engine), **options)


class Untroubled(Silent):
    """For runs whose warnings are not what is looked at."""

    def warn(self, sentence: str) -> None:
        pass


PATIENT = Plateau(patience=9)
"""Never escalates, so that every stage runs."""
