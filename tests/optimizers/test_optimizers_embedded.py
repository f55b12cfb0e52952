"""Every optimizer once on the real embedded model: tiny data, real answers, real training."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest

from cascade.building import Workshop
from cascade.dataset import Split
from cascade.experiment import Budget, Stage
from cascade.lm.embedded import Models
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.lms import LMs
from cascade.lm.meter import Meter
from cascade.metrics import Score, metric
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.program import restore, snapshot
from cascade.settings import Settings
from cascade.stage import Bench, optimize

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

SAID = ["a cat purrs on the sofa", "the dog barks at the post", "my cat hunts mice", "a dog digs in the yard",
        "the cat licks its paw", "our dog fetches sticks", "that cat climbs trees", "the dog chews a bone"]  # fmt: skip


class Animal(dspy.Signature):
    """Name the animal."""

    text: str = dspy.InputField()
    animal: Literal["cat", "dog"] = dspy.OutputField()


class NameAnimal(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.name = dspy.Predict(Animal)

    def forward(self, text: str) -> Any:
        return self.name(text=text)


@metric
def exact(example: Any, prediction: Any) -> Score:
    return Score(float(prediction.animal == example.animal), f"It is a {example.animal}.")


ROWS = tuple({"text": f"{text} {round_}", "animal": text.split()[1]} for round_ in ("now", "again") for text in SAID)
TRAIN = Split("train", ROWS, tuple(str(n) for n in range(len(ROWS))), None, ("text",))
QUICK = {"epochs": 1, "layers": 1}
PLAIN = {"program_aware_proposer": False, "data_aware_proposer": False, "fewshot_aware_proposer": False}
STAGES = {
    "LabeledFewShot": Stage("s", dspy.LabeledFewShot, k=2),
    "BootstrapFewShot": Stage("s", dspy.BootstrapFewShot, max_bootstrapped_demos=1, max_labeled_demos=2),
    "BootstrapFewShotWithRandomSearch": Stage("s", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=1, max_bootstrapped_demos=1, max_labeled_demos=2),
    "BootstrapFewShotWithOptuna": Stage("s", dspy.BootstrapFewShotWithOptuna, max_demos=2, num_candidate_programs=2, max_labeled_demos=2),
    "MIPROv2": Stage("s", dspy.MIPROv2, auto=None, num_candidates=2, num_trials=2, minibatch=False, max_bootstrapped_demos=1, max_labeled_demos=1, **PLAIN),
    "COPRO": Stage("s", dspy.COPRO, breadth=2, depth=1),
    "GEPA": Stage("s", dspy.GEPA, max_metric_calls=20),
    "SIMBA": Stage("s", dspy.SIMBA, bsize=4, max_steps=1, num_candidates=2),
    "InferRules": Stage("s", dspy.InferRules, num_candidates=1, num_rules=2, max_labeled_demos=2, max_bootstrapped_demos=1),
    "NearestDemos": Stage("s", NearestDemos, k=2),
    "Ensemble": Stage("s", dspy.Ensemble, size=2),
    "BootstrapFinetune": Stage("s", BootstrapFinetune, max_labeled_rows=4, exclude_demos=True, train_kwargs=QUICK),
    "BetterTogether": Stage("s", dspy.BetterTogether, strategy="p -> w", p=Stage("p", dspy.LabeledFewShot, k=2),
                            w=Stage("w", BootstrapFinetune, max_labeled_rows=2, train_kwargs=QUICK)),
}  # fmt: skip


@pytest.fixture(scope="module")
def lms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LMs]:
    """The embedded model in a home of its own."""
    store = Path(os.environ.get("CASCADE_HOME") or Path(__file__).parents[2] / ".cascade")
    Models(store).prepare()
    folder = tmp_path_factory.mktemp("embedded")
    (folder / "models").mkdir()
    for file in (store / "models").glob("smollm2-135m.*"):
        shutil.copy2(file, folder / "models" / file.name)
    made = LMs(Settings(folder, folder, ""))
    yield made
    made.close()


@pytest.mark.parametrize("name", STAGES)
def test_it_makes_a_program_that_answers_and_comes_back(name: str, lms: LMs, tmp_path: Path) -> None:
    shown = NameAnimal()
    shown.name.demos = list(ROWS[:2])
    meter, bench = Meter(Budget()), Bench()
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        installed(Gateway(ledger, meter, lms.identity)),
        dspy.context(
            lm=lms["task"], adapter=lms.adapter, num_threads=lms.threads, max_errors=10_000, disable_history=True
        ),
    ):
        shop = Workshop(NameAnimal, exact, TRAIN, lms, 1, tmp_path / "log", [shown])
        made = optimize(STAGES[name], NameAnimal(), shop, bench)
        again = restore(NameAnimal, snapshot(made), lms.by_model)
        answers = [[one(text=text).animal for text in SAID[:3]] for one in (made, again)]
    assert answers[0] == answers[1]
    assert set(answers[0]) <= {"cat", "dog"}
    assert meter.spent.lm_calls > 0
    assert all(0 <= candidate.score <= 1 for candidate in bench.candidates)
