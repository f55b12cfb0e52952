"""Can a 135M model decide what to remember of a talk, and answer from what it remembers?

Each row brings a talk of two users with one assistant. The agent keeps what is worth it, for each user apart, finds
what fits a question, and answers from that; what only the other user said it does not know. `Plain` reads the whole
talk.
"""

import re
from typing import Literal

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, Stage, metric
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.tools.memory import Memories, Memory

NOTHING = "nothing"


class Keep(dspy.Signature):
    """Is the message a lasting fact about the person who says it, or just talk?"""

    message: str = dspy.InputField()
    kind: Literal["fact", "talk"] = dspy.OutputField()


class Answer(dspy.Signature):
    """Answer the user's question in one to three words out of what is remembered; unknown if it is not there."""

    memories: str = dspy.InputField(desc="what the user has said before")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField(max_length=40)


class MemoryAgent(dspy.Module):
    """Recalls, answers, and decides what to keep.

    Args:
        memories: of all users; without them each call has a memory of its own, which makes evaluations repeatable.
    """

    def __init__(self, memories: Memories | None = None) -> None:
        super().__init__()
        self.memories = memories
        self.keep = dspy.Predict(Keep)
        self.answer = dspy.Predict(Answer)

    def forward(self, user: str, history: str, question: str) -> dspy.Prediction:
        memories = self.memories or Memories(None)
        for speaker, message in spoken(history):
            self.tell(memories, speaker, message)
        answer, recalled = self.ask(memories, user, question)
        kept = [one.text for one in memories.all(user)]
        return dspy.Prediction(kept=kept, recalled=[one.text for one in recalled], answer=answer)

    def tell(self, memories: Memories, user: str, message: str) -> None:
        """Keep a message if it is a fact."""
        if self.keep(message=message).kind == "fact":
            memories.remember(user, message)

    def ask(self, memories: Memories, user: str, question: str) -> tuple[str, tuple[Memory, ...]]:
        """An answer, and what it was made of."""
        recalled = memories.recall(user, question, k=3, least=0.0)
        shown = "\n".join(f"- {one.text}" for one in recalled) or NOTHING
        return self.answer(memories=shown, question=question).answer, recalled


class FromTalk(dspy.Signature):
    """Answer the user's question in one to three words; unknown if it was not this user who said it."""

    user: str = dspy.InputField(desc="who asks")
    history: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField(max_length=40)


class Plain(dspy.Module):
    """No memory: the whole talk, of both users, stands in the prompt."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict(FromTalk)

    def forward(self, user: str, history: str, question: str) -> dspy.Prediction:
        answer = self.answer(user=user, history=history, question=question).answer
        return dspy.Prediction(kept=[message for speaker, message in spoken(history) if speaker == user], answer=answer)


def spoken(history: str) -> list[tuple[str, str]]:
    """Who said what."""
    lines = (line.partition(": ") for line in history.splitlines())
    return [(speaker.strip(), message.strip()) for speaker, _, message in lines if message.strip()]


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def f1(kept: list[str], wanted: list[str]) -> float:
    """Of kept messages against those worth keeping."""
    both = len(set(kept) & set(wanted))
    return 2 * both / (len(set(kept)) + len(set(wanted))) if kept or wanted else 1.0


@metric
def remembers(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    said = words(prediction.answer)
    right = said == words(example.answer)
    leaked = not right and words(example.bait) in said
    stored = f1(prediction.kept, example.facts)
    feedback = [] if right else [f"The answer is {example.answer}."]
    feedback += ["That is what the other user said." if leaked else ""]
    feedback += [] if stored == 1 else [f"To be kept were: {' '.join(example.facts)}"]
    value = 0.0 if leaked else (3 * right + stored) / 4
    parts = {"right": float(right), "stored": stored, "no_leak": float(not leaked)}
    return Score(value, feedback=" ".join(filter(None, feedback)), parts=parts)


experiment = Experiment(
    dataset=Dataset("memory"),
    metric=remembers,
    program=MemoryAgent,
    stages=[
        Stage("nearest", NearestDemos, k=4, order="last"),
        Stage("weights", BootstrapFinetune, exclude_demos=True, train_kwargs={"epochs": 4}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=8_000, minutes=120),
    guardrails={"no_leak": 0.02},
    target=0.95,
)
