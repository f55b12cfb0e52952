"""Does a 135M model answer from three sources, and name the passage that holds its answer?

The city of Oarholm is made up, so nothing about it can be known: what is right stands in its handbook, in the minutes
of its council or in its register. All three are searched at once; a step quotes from what was found, the next answers
from the quotation, and no citation is shown that was not checked. The plain program answers in one step.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import dspy

from cascade import Budget, Dataset, Experiment, Plateau, Score, Stage, metric
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.programs import Parallel, Pipeline, Step, concatenate
from cascade.tools.citations import citation, fault
from cascade.tools.search import Search

CORPUS = {"corpus": "research", "fingerprint": "c49d367d7f1a", "by": "meaning"}
SOURCES = ("handbook", "minutes", "register")


class Quote(dspy.Signature):
    """Find the passage that answers the question, and copy its name and the words that matter."""

    question: str = dspy.InputField()
    sources: list[str] = dspy.InputField()
    findings: list[str] = dspy.OutputField(desc="each a passage's name, a colon, and words copied from the passage")


class Conclude(dspy.Signature):
    """Answer the question in the fewest words of the findings."""

    question: str = dspy.InputField()
    findings: list[str] = dspy.InputField()
    answer: str = dspy.OutputField()


class AnswerAtOnce(dspy.Signature):
    """Answer the question from the sources: copy the name and words of the passage that matters, then the answer."""

    question: str = dspy.InputField()
    sources: list[str] = dspy.InputField()
    findings: list[str] = dspy.OutputField(desc="each a passage's name, a colon, and words copied from the passage")
    answer: str = dspy.OutputField(desc="the fewest words of the findings")


def named(passages: Sequence[Mapping[str, str]]) -> list[str]:
    return [f"{one['id']}: {one['text']}" for one in passages]


def cite(findings: Sequence[str], passages: Sequence[Mapping[str, str]]) -> dict[str, list[dict[str, str]]]:
    cited = [citation(told) for told in findings]
    wrong = [{**one, "fault": found} for one in cited if (found := fault(one, passages))]
    return {"citations": [one for one in cited if not fault(one, passages)], "refused": wrong}


def show(answer: str, citations: Sequence[Mapping[str, str]]) -> str:
    names = ", ".join(dict.fromkeys(one["id"] for one in citations))
    return f"{answer} [{names or 'no source was found to say so'}]"


def Research() -> Pipeline:
    return Pipeline(
        retrieve=Parallel(
            **{source: Search(**CORPUS, source=source, k=2) for source in SOURCES}, merge=concatenate("passages")
        ),
        name=Step(named, gives="sources"),
        analyse=dspy.Predict(Quote, max_tokens=80),
        check=Step(cite, gives=("citations", "refused")),
        synthesise=dspy.Predict(Conclude, max_tokens=24),
        format=Step(show, gives="response"),
    )


def PlainResearch() -> Pipeline:
    return Pipeline(
        retrieve=Search(**CORPUS, k=6),
        name=Step(named, gives="sources"),
        answer=dspy.Predict(AnswerAtOnce, max_tokens=100),
        check=Step(cite, gives=("citations", "refused")),
        format=Step(show, gives="response"),
    )


@metric(threshold=0.9)
def supported_answer(example: dspy.Example, prediction: dspy.Prediction) -> Score:
    """Half for the words of the answer, half for citations that hold and stand where the answer does."""
    wanted, given = words(example.answer), words(prediction.answer)
    answer = 2 * (wanted & given).total() / ((wanted + given).total() or 1)
    right = {citation(told)["id"] for told in example.findings}
    cited = {one["id"] for one in prediction.citations}
    held = 2 * len(right & cited) / (len(right) + len(cited) + len(prediction.refused))
    faults = [f"the answer is {example.answer!r}"] * (answer < 1) + [one["fault"] for one in prediction.refused]
    faults += [f"it stands in {', '.join(sorted(right))}"] * (not right & cited)
    return Score((answer + held) / 2, "; ".join(faults) or "Right and supported.", {"answer": answer, "citation": held})


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


LABELS = {"max_labeled_rows": 80, "exclude_demos": True}

experiment = Experiment(
    dataset=Dataset("research"),
    metric=supported_answer,
    program=Research,
    stages=[
        # One demo, because each holds six passages.
        Stage("demo", NearestDemos, k=1, order="rows"),
        Stage("weights", BootstrapFinetune, **LABELS, train_kwargs={"epochs": 4}),
    ],
    plateau=Plateau(patience=2, min_gain=0.01, equivalence_margin=0.03, confidence=0.90, on_plateau="escalate"),
    budget=Budget(lm_calls=3_000, minutes=120),
    guardrails={"citation": 0.05},
    target=0.95,
)
