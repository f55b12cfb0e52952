"""Can a 135M model be taught to judge answers as their labels do?

A judge is a program, and labelled verdicts are its data: what it scores here on test is its agreement. The trained
weights are then the LM of the judge in `experiments/judged.py`, which hears no judge whose agreement is too low.
"""

import dspy
from dspy.evaluate import SemanticF1

from cascade import Budget, Dataset, Experiment, Plateau, Stage, metric
from cascade.judges import RubricJudge
from cascade.optimizers import BootstrapFinetune


def Judging() -> RubricJudge:
    return RubricJudge()


class Semantic(dspy.Module):
    """DSPy's SemanticF1 as a judge: its score, cut in three."""

    def __init__(self) -> None:
        super().__init__()
        self.f1 = SemanticF1()

    def forward(self, question: str, reference: str, response: str) -> dspy.Prediction:
        example = dspy.Example(question=question, response=reference)
        score = self.f1(example, dspy.Prediction(response=response)).score
        verdict = "right" if score >= 2 / 3 else "partly" if score >= 1 / 3 else "wrong"
        return dspy.Prediction(score=score, verdict=verdict)


@metric
def agrees(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    return prediction.verdict == example.verdict


LABELS = {"max_labeled_rows": 237, "exclude_demos": True}

experiment = Experiment(
    dataset=Dataset("judge"),
    metric=agrees,
    program=Judging,
    stages=[
        # No nearest demos before: which answers are alike says nothing of which are right.
        Stage("weights", BootstrapFinetune, **LABELS, train_kwargs={"epochs": 5}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=2_000, minutes=120),
    target=0.95,
)
