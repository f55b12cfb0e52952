"""Does the cascade help a 135M model answer help-desk questions?

It starts near guessing. Demos show it the answers there are; its own right answers and the labels of others then
train it.
"""

from typing import Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Stage, metric
from cascade.optimizers import BootstrapFinetune

Answer = Literal[
    "password",
    "vpn",
    "printer",
    "permission",
    "phishing",
    "hardware",
    "lost file",
    "sound",
]


class HelpDesk(dspy.Signature):
    """Tell the employee what to do about their question."""

    question: str = dspy.InputField()
    answer: Answer = dspy.OutputField()


class AnswerQuestion(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict(HelpDesk)

    def forward(self, question: str) -> dspy.Prediction:
        return self.answer(question=question)


@metric
def exact_answer(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    return prediction.answer == example.answer


# A 135M model writes no better instructions for reading its own source and summaries of its data, only slower ones.
PLAIN_PROPOSALS = {"program_aware_proposer": False, "data_aware_proposer": False, "fewshot_aware_proposer": False}
# It reads 200 tokens a second on a core: every demo that a search tries costs it a quarter of a second an answer.
FEW_DEMOS = {"max_bootstrapped_demos": 2, "max_labeled_demos": 4}

experiment = Experiment(
    dataset=Dataset("qa"),
    metric=exact_answer,
    program=AnswerQuestion,
    stages=[
        Stage("instructions", dspy.MIPROv2, auto="light", **FEW_DEMOS, **PLAIN_PROPOSALS),
        Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=4, max_labeled_demos=8),
        Stage(
            "together",
            dspy.BetterTogether,
            strategy="w -> p",
            w=Stage("w", BootstrapFinetune, max_labeled_rows=80, exclude_demos=True, train_kwargs={"epochs": 4}),
            p=Stage("p", dspy.BootstrapFewShot, **FEW_DEMOS),
        ),
        Stage("weights", BootstrapFinetune, max_labeled_rows=40, exclude_demos=True, train_kwargs={"epochs": 1}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=5_000, minutes=60),
    target=0.95,
)
