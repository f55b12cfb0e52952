"""Does optimizing under a validated judge make a 135M model's answers better?

What is asked has two parts, and an answer may be in any words, so no string comparison does. The metric is correctness,
completeness and conciseness; the first two are what a judge says, once it was seen to agree with labelled answers.
`CASCADE_LM_JUDGE` names the LM that judges.
"""

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, Stage, metric
from cascade.judges import Judge
from cascade.optimizers import BootstrapFinetune, NearestDemos

judge = Judge("judge", Dataset("judge"), at_least=0.4)


class Explain(dspy.Signature):
    """Answer both questions from the text, in one or two short sentences."""

    question: str = dspy.InputField()
    text: str = dspy.InputField()
    response: str = dspy.OutputField()


class AnswerBoth(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict(Explain, max_tokens=60)

    def forward(self, question: str, text: str) -> dspy.Prediction:
        return self.answer(question=question, text=text)


WEIGHTS = {"correctness": 0.5, "completeness": 0.3, "conciseness": 0.2}
LONGEST = 1.5
"""Times the reference's length up to which an answer is concise; at three times that it is not at all."""


@metric(threshold=0.9)
def answer_quality(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    said = prediction.response
    verdict = judge(question=example.question, reference=example.response, response=said) if said.strip() else "wrong"
    parts = {
        "correctness": float(verdict != "wrong"),
        "completeness": float(verdict == "right"),
        "conciseness": conciseness(said, example.response) * (verdict != "wrong"),
    }
    value = sum(weight * parts[name] for name, weight in WEIGHTS.items())
    return Score(value, f"The judge says {verdict}; it should say: {example.response}", parts)


def conciseness(response: str, reference: str) -> float:
    """1 up to `LONGEST` times the reference's words, then falling to 0 at three times that."""
    share = len(response.split()) / (LONGEST * len(reference.split()))
    return min(1.0, max(0.0, (3 - share) / 2))


experiment = Experiment(
    dataset=Dataset("judged"),
    metric=answer_quality,
    program=AnswerBoth,
    stages=[
        Stage("nearest", NearestDemos, k=2, order="rows"),
        Stage("weights", BootstrapFinetune, max_labeled_rows=40, exclude_demos=True, train_kwargs={"epochs": 4}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=2_000, minutes=120),
    guardrails={"correctness": 0.05},
    target=0.95,
)
