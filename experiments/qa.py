"""Does the cascade help a 135M model answer help-desk questions?

It starts near guessing. The most similar questions, shown with their answers, help it; then its weights learn what the
demos taught. The classic four stages, which score lower for more calls: `cascade run qa --recipe classic`.
"""

from typing import Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, metric
from cascade.recipes import small

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


experiment = Experiment(
    dataset=Dataset("qa"),
    metric=exact_answer,
    program=AnswerQuestion,
    stages=small(),
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=5_000, minutes=60),
    target=0.95,
)
