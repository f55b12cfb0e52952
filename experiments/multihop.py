"""Does taking a question apart help a 135M model to find what no single search finds?

"How does the builder of the Winter Apple earn a living?" stands in no passage: one names the builder, another what that
person lives on. The program asks the two questions one after the other and searches for each; the plain one searches
once and answers from what it found.
"""

import re
from collections.abc import Mapping, Sequence

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, Stage, metric
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.programs import Pipeline, Renamed, Step
from cascade.tools.search import Search

CORPUS = {"corpus": "multihop", "fingerprint": "e4310a063e43", "by": "words"}


class Decompose(dspy.Signature):
    """Take the question apart: first who or what is meant, second what is asked of it, which is called #1."""

    question: str = dspy.InputField()
    first: str = dspy.OutputField()
    second: str = dspy.OutputField()


class Resolve(dspy.Signature):
    """Answer the first question with a name from the passages."""

    first: str = dspy.InputField()
    found: list[str] = dspy.InputField()
    bridge: str = dspy.OutputField()


class Synthesize(dspy.Signature):
    """Answer the question from the passages, and name the passages that this took."""

    question: str = dspy.InputField()
    notes: list[str] = dspy.InputField()
    sources: list[str] = dspy.InputField()
    facts: list[str] = dspy.OutputField(desc="names of passages")
    answer: str = dspy.OutputField(desc="in the words of the passage")


class AnswerAtOnce(dspy.Signature):
    """Answer the question from the passages, and name the passages that this took."""

    question: str = dspy.InputField()
    sources: list[str] = dspy.InputField()
    facts: list[str] = dspy.OutputField(desc="names of passages")
    answer: str = dspy.OutputField(desc="in the words of the passage")


def named(passages: Sequence[Mapping[str, str]]) -> list[str]:
    return [f"{one['id']}: {one['text']}" for one in passages]


def with_answer(second: str, bridge: str) -> str:
    return second.replace("#1", bridge.strip())


def noted(first: str, bridge: str, then: str, early: Sequence[str], late: Sequence[str]) -> dict[str, list[str]]:
    """What is known, and the passages of both searches: the best of the first, and all of the second."""
    return {"notes": [f"{first} {bridge}", then], "sources": list(dict.fromkeys([*early[:1], *late]))}


def searched(question: str, found: str, k: int) -> Pipeline:
    """Passages for the question that stands in one field, under the name of another."""
    return Pipeline(
        search=Renamed(Search(**CORPUS, k=k), takes={"question": question}, gives={"passages": f"{found}_passages"}),
        name=Renamed(Step(named, gives="lines"), takes={"passages": f"{found}_passages"}, gives={"lines": found}),
    )


def TwoHops() -> Pipeline:
    return Pipeline(
        decompose=dspy.Predict(Decompose, max_tokens=64),
        first_search=searched("first", "found", k=2),
        resolve=dspy.Predict(Resolve, max_tokens=16),
        fill=Step(with_answer, gives="then"),
        second_search=searched("then", "late", k=3),
        note=Renamed(Step(noted, gives=("notes", "sources")), takes={"early": "found"}),
        synthesize=dspy.Predict(Synthesize, max_tokens=64),
    )


def OneHop() -> Pipeline:
    return Pipeline(
        search=searched("question", "sources", k=5),
        answer=dspy.Predict(AnswerAtOnce, max_tokens=64),
    )


@metric
def answer_and_facts(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    """Half for the answer, half for the F1 of the passages named (supporting facts, as in HotpotQA)."""
    answer = float(plain(prediction.answer) == plain(example.answer))
    wanted, given = set(example.facts), {name.strip() for name in prediction.facts}
    facts = 2 * len(wanted & given) / (len(wanted) + len(given))
    faults = [f"the answer is {example.answer!r}"] * (answer < 1)
    faults += [f"it takes the passages {', '.join(sorted(wanted))}"] * (facts < 1)
    return Score((answer + facts) / 2, "; ".join(faults) or "Right.", {"answer": answer, "facts": facts})


def plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


LABELS = {"max_labeled_rows": 80, "exclude_demos": True}

experiment = Experiment(
    dataset=Dataset("multihop"),
    metric=answer_and_facts,
    program=TwoHops,
    stages=[
        Stage("nearest", NearestDemos, k=2, order="rows"),
        Stage("weights", BootstrapFinetune, **LABELS, train_kwargs={"epochs": 4}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=4_000, minutes=120),
    guardrails={"facts": 0.05},
    target=0.95,
)
