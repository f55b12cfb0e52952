"""A case of every architecture, for the contract that all of them keep. A new one is added here."""

from collections.abc import Mapping
from typing import Any, Literal

import dspy
from step_cases import CASES as STEP_CASES

from cascade.programs import (
    Adaptive,
    Agent,
    AskUntilAgreed,
    Consensus,
    Each,
    Loop,
    MostConfident,
    Parallel,
    Pipeline,
    Renamed,
    Router,
    Rule,
    Step,
    Vote,
    When,
    build,
    concatenate,
)
from cascade.testing import ProgramCase

Predict, ChainOfThought = dspy.Predict, dspy.ChainOfThought


class Sort(dspy.Signature):
    """Say what a question is about."""

    question: str = dspy.InputField()
    topic: Literal["bill", "broken"] = dspy.OutputField()


def passages(question: str) -> dict[str, Any]:
    return {"passages": [f"a passage on {question}", "another"]}


def answering() -> Any:
    return ChainOfThought("question -> answer")


def pipeline() -> Any:
    return Pipeline("question -> answer", retrieve=passages, analyse=Predict("question, passages: list[str] -> notes"),
                    synthesise=ChainOfThought("question, notes -> answer"))  # fmt: skip


def router() -> Any:
    return Router(Predict(Sort), {"bill": answering(), "broken": Predict("question, topic -> answer")})


def topic(inputs: Mapping[str, str]) -> Mapping[str, str]:
    """By the last digit of the question, so that all routes are gone."""
    return {"topic": "bill" if inputs.get("question", "0")[-1:] in "02468" else "broken"}


def rejoined() -> Any:
    return Pipeline("question -> verdict", route=router(), check=Predict("question, answer -> verdict"))


def length(answer: str) -> int:
    return len(answer)


def even(question: str) -> bool:
    return question[-1] in "02468"


def loop() -> Any:
    return Loop(Predict("question, former_draft, former_feedback -> draft"),
                Predict("question, draft -> feedback, score: float"), limit=3)  # fmt: skip


def parallel() -> Any:
    return Parallel(
        web=Predict("question -> found"), wiki=Predict("question -> known"), own=Predict("question -> guess")
    )


def fan_out() -> Any:
    return Pipeline(
        "question -> answer",
        fan=Parallel(web=Predict("question -> passages: list[str]"), wiki=passages, merge=concatenate("passages")),
        synthesise=Predict("question, passages: list[str] -> answer"),
    )


def merged() -> Any:
    return Parallel(a=answering(), b=answering(), merge=Predict("question, a: dict, b: dict -> answer"))


def for_each() -> Any:
    return Pipeline(
        "question -> answer",
        decompose=Predict("question -> parts: list[str]"),
        each=Each(Predict("question, part -> fact"), over="parts", each="part"),
        answer=Predict("question, fact: list[str] -> answer"),
    )


def structures() -> Any:
    return {"brief": Predict("question -> answer"), "full": pipeline()}


def defined() -> Any:
    parts = {"even": even, "brief": Predict("question -> answer"), "retrieve": passages,
             "read": Predict("question, passages: list[str] -> answer")}  # fmt: skip
    steps = {"retrieve": "retrieve", "answer": {"when": {"condition": "even", "then": "brief", "otherwise": "read"}}}
    return build({"pipeline": {"signature": "question -> answer", "steps": steps}}, parts)


class Weigh(dspy.Module):
    """Weighs a text."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = Predict("text -> weight")

    def forward(self, text: str) -> Any:
        return self.judge(text=text)


def agent() -> Any:
    return Agent("question -> answer", {"weigh": Weigh(), "length": length}, limit=3, timeout=5)


def turn(inputs: Mapping[str, str]) -> Mapping[str, str]:
    """A tool with a predictor, then one without, then the end."""
    done = inputs.get("trajectory", "")
    tool = "finish" if "length(" in done else "length" if "weigh(" in done else "weigh"
    return {"tool": tool, "argument": f"what {tool} is given"}


CONFIDENT = "question -> answer, confidence: float"
CASES = STEP_CASES | {
    "Agent": ProgramCase(agent, says=turn),
    "Pipeline": ProgramCase(pipeline),
    "Renamed in a pipeline": ProgramCase(lambda: Pipeline(
        note=Renamed(ChainOfThought("text -> gist"), takes={"text": "question"}, gives={"gist": "note"}),
        answer=Predict("note -> answer"))),
    "Router": ProgramCase(router, says=topic),
    "Router, rejoined": ProgramCase(rejoined, says=topic),
    "When": ProgramCase(lambda: When(even, Predict("question -> answer"), answering())),
    "Adaptive by rules": ProgramCase(lambda: Adaptive([Rule("brief", even, "it is even")], structures(), "full")),
    "Adaptive by a predictor": ProgramCase(
        lambda: Adaptive(Predict(Sort), {"bill": answering(), "broken": pipeline()}), says=topic),
    "Loop": ProgramCase(loop, says={"score": "0.5"}),
    "Parallel": ProgramCase(parallel),
    "Parallel in a pipeline": ProgramCase(fan_out, says={"passages": '["one", "two"]'}),
    "Parallel, merged by a predictor": ProgramCase(merged),
    "Each": ProgramCase(for_each, says={"parts": '["one", "two", "three"]'}),
    "Vote": ProgramCase(lambda: Vote([answering() for _ in range(3)], weights=[1, 2, 1])),
    "MostConfident": ProgramCase(
        lambda: MostConfident({"a": Predict(CONFIDENT), "b": Predict(CONFIDENT)}),
        says=lambda inputs: {"confidence": "0.7"}, silent=("members['b']",)),
    "Consensus": ProgramCase(lambda: Consensus([Predict("question -> answer") for _ in range(3)], agree=0.6)),
    "AskUntilAgreed": ProgramCase(lambda: AskUntilAgreed(answering(), field="answer", agree=2, limit=4)),
    "build": ProgramCase(defined),
    "a function in a pipeline": ProgramCase(
        lambda: Pipeline(answer=answering(), n=Step(length, gives="n"))),
}  # fmt: skip
