"""The whole path on the real embedded model: run, log, and load in a process that has never seen the weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.discover import discover
from cascade.evaluation import Evaluation
from cascade.journal import Journal
from cascade.lm.embedded import Models
from cascade.program import Snapshot
from cascade.result import Result, StageResult
from cascade.running import run
from cascade.settings import LMSpec, Settings

pytestmark = pytest.mark.embedded

EXPERIMENT = '''
"""Does anything at all change?"""

from typing import Literal

import dspy

from cascade import Dataset, Experiment, Stage, metric

ANIMALS = ["a cat purrs on the sofa", "the dog barks at the post", "my cat hunts mice", "a dog digs in the yard",
           "the cat licks its paw", "our dog fetches sticks", "that cat climbs trees", "the dog chews a bone"]


def rows(split, count):
    return [{"text": f"{ANIMALS[n % 8]}, {split} {n}", "animal": "cat" if n % 2 == 0 else "dog"} for n in range(count)]


class Animal(dspy.Signature):
    """Name the animal."""

    text: str = dspy.InputField()
    animal: Literal["cat", "dog"] = dspy.OutputField()


class NameAnimal(dspy.Module):
    def __init__(self):
        super().__init__()
        self.name = dspy.Predict(Animal)

    def forward(self, text):
        return self.name(text=text)


@metric
def exact(example, prediction):
    return prediction.animal == example.animal


experiment = Experiment(
    dataset=Dataset("tiny", rows("train", 16), rows("dev", 20), rows("test", 20), inputs=["text"]),
    metric=exact,
    program=NameAnimal,
    stages=[
        Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=1, max_labeled_demos=2),
        Stage("weights", dspy.BootstrapFinetune, exclude_demos=True, train_kwargs={"epochs": 1, "layers": 2}),
    ],
)
'''

LOAD = """
import json, sys
from cascade.mlflow_store import load_program
program = load_program(sys.argv[1])
print(json.dumps([program(text=text).animal for text in json.load(sys.stdin)]))
"""


def home_with_base(folder: Path, store: Path) -> Path:
    """A home that has the base model and nothing else."""
    models = folder / "models"
    models.mkdir(parents=True)
    for file in store.glob("smollm2-135m.*"):
        shutil.copy2(file, models / file.name)
    return folder


def ran(folder: Path, experiment: str, **lms: LMSpec) -> tuple[Result, Settings]:
    """A run of an experiment file in a project of its own, whose home has the base model and nothing else."""
    store = Path(os.environ.get("CASCADE_HOME") or Path(__file__).parents[1] / ".cascade")
    Models(store).prepare()
    (folder / "experiments").mkdir()
    (folder / "experiments" / "tiny.py").write_text(experiment)
    home = home_with_base(folder / "home", store / "models")
    settings = Settings(folder, home, f"sqlite:///{folder / 'mlflow.db'}", lm=lms)
    return run(discover("tiny", folder), settings=settings), settings


def answers_elsewhere(result: Result, settings: Settings, texts: list[str]) -> list[str]:
    """What the last stage's program answers in a fresh process, from MLflow, where only the base model is."""
    published = json.loads((Path(result.journal) / "published.json").read_text())
    model = published["stages"][result.stages[-1].name]["model_id"]
    elsewhere = home_with_base(settings.project / "elsewhere", settings.home / "models")
    fresh = subprocess.run(
        [sys.executable, "-c", LOAD, f"models:/{model}"],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.project,
        env={
            **os.environ,
            "CASCADE_HOME": str(elsewhere),
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
    )
    assert fresh.returncode == 0, fresh.stderr[-2000:]
    return list(json.loads(fresh.stdout.splitlines()[-1]))


def judged(stage: StageResult) -> tuple[Snapshot, Evaluation]:
    assert stage.taken is not None
    assert stage.dev is not None
    return stage.taken, stage.dev


def test_a_trained_program_answers_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    result, settings = ran(tmp_path, EXPERIMENT)
    assert [stage.status for stage in result.stages] == ["done"] * 3
    taken, dev = judged(result.stages[-1])
    name = taken.lms["name"]
    trained, base = Models(settings.home).identity(name), Models(settings.home).identity("smollm2-135m")
    assert trained != base
    assert name.endswith(trained)
    assert result.test is not None
    answers = answers_elsewhere(result, settings, [row["text"] for row in dev.split.rows])
    assert answers == [outcome.predicted["animal"] for outcome in dev.outcomes]
    assert Journal(Path(result.journal)).run.status == "completed"


@pytest.mark.slow
def test_a_program_is_moved_to_the_smaller_model_and_answers_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    """The margin is so wide that only what it costs to serve decides."""
    aim = 'dspy.BootstrapFinetune, aim="cheaper", margin=0.9,'
    result, settings = ran(
        tmp_path,
        EXPERIMENT.replace("dspy.BootstrapFinetune,", aim),
        student=LMSpec("embedded/smollm2-135m-small"),
    )
    distilled = result.stages[-1]
    decision = distilled.decision
    taken, dev = judged(distilled)
    assert taken.lms["name"].startswith("embedded/smollm2-135m-small-")
    assert decision and decision.serving
    assert (decision.aim, str(decision.kept), decision.within_margin) == ("cheaper", "new", True)
    assert decision.serving.unit == "weights_gb"
    small = Models(settings.home).path(taken.lms["name"]).stat().st_size
    assert decision.serving.candidate == pytest.approx(dev.tokens * small / 1e9)
    answers = answers_elsewhere(result, settings, [row["text"] for row in dev.split.rows])
    assert answers == [outcome.predicted["animal"] for outcome in dev.outcomes]
