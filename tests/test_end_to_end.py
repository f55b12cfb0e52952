"""The whole path on the real embedded model: run, log, and load in a process that has never seen the weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.discover import discover
from cascade.journal import Journal
from cascade.lm.embedded import Models
from cascade.running import run
from cascade.settings import Settings

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


def test_a_trained_program_answers_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    store = Path(os.environ.get("CASCADE_HOME") or Path(__file__).parents[1] / ".cascade")
    Models(store).prepare()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.py").write_text(EXPERIMENT)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    settings = Settings(tmp_path, home_with_base(tmp_path / "home", store / "models"), uri)

    result = run(discover("tiny", tmp_path), settings=settings)

    assert [stage.status for stage in result.stages] == ["done"] * 3
    weights = result.stages[-1]
    assert weights.taken is not None
    assert weights.dev is not None
    name = weights.taken.lms["name"]
    trained, base = Models(settings.home).identity(name), Models(settings.home).identity("smollm2-135m")
    assert trained != base
    assert name.endswith(trained)
    assert result.test is not None

    published = json.loads((Path(result.journal) / "published.json").read_text())
    model = published["stages"]["2-weights"]["model_id"]
    texts = [row["text"] for row in weights.dev.split.rows]
    fresh = subprocess.run(
        [sys.executable, "-c", LOAD, f"models:/{model}"],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "CASCADE_HOME": str(home_with_base(tmp_path / "elsewhere", store / "models")),
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
    )
    assert fresh.returncode == 0, fresh.stderr[-2000:]
    answers = json.loads(fresh.stdout.splitlines()[-1])
    assert answers == [outcome.predicted["animal"] for outcome in weights.dev.outcomes]
    assert Journal(Path(result.journal)).run.status == "completed"
