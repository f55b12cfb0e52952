"""Cases of what is put around steps, for the contract of all programs."""

from typing import Any

import dspy
from pydantic import BaseModel, Field

from cascade.programs import (
    Cached,
    Contract,
    Filtered,
    Guarded,
    Lazy,
    Parallel,
    Pipeline,
    Retry,
    fuse,
    fuse_filter,
    fuse_retrieval,
)
from cascade.testing import ProgramCase

Predict, ChainOfThought = dspy.Predict, dspy.ChainOfThought


class Asked(BaseModel):
    question: str = Field(min_length=1)


class Answered(BaseModel):
    answer: str = Field(min_length=1)


def passages(question: str) -> list[str]:
    return [f"a passage on {question}", "another"]


def guarded() -> Any:
    return Guarded(
        ChainOfThought("question -> answer"), retry={ValueError: Retry(2)}, fallback={Exception: {"answer": ""}}
    )


def in_a_pipeline() -> Any:
    return Pipeline(
        "question -> answer",
        recall=Cached(Predict("question -> notes")),
        draft=Contract(Guarded(Predict("question, notes -> draft"), skip=TimeoutError), version="2"),
        answer=Lazy(ChainOfThought("question, draft -> answer")),
    )


def process() -> Any:
    return Predict("question, passage -> fact")


LISTS = {"fact": '["one", "two"]'}
CASES = {
    "Cached": ProgramCase(lambda: Cached(ChainOfThought("question -> answer"))),
    "Contract": ProgramCase(lambda: Contract(ChainOfThought("question -> answer"), takes=Asked, gives=Answered, version="2")),
    "Guarded": ProgramCase(guarded),
    "Guarded, with a module to fall back on": ProgramCase(
        lambda: Guarded(Predict("question -> answer"), fallback=ChainOfThought("question -> answer")),
        silent=("fallbacks['Exception'].predict",)),
    "Lazy": ProgramCase(lambda: Lazy(ChainOfThought("question -> answer"))),
    "Lazy in a pipeline": ProgramCase(lambda: Pipeline(note=Lazy(Predict("question -> note")), answer=Predict("note -> answer"))),
    "a lazy program in a group": ProgramCase(
        lambda: Parallel(note=Lazy(Pipeline(note=Predict("question -> note"))), answer=Predict("question -> answer"), timeout=60)),
    "all around steps of a pipeline": ProgramCase(in_a_pipeline),
    "fuse": ProgramCase(lambda: fuse(Predict("question -> topic"), ChainOfThought("question, topic -> answer"))),
    "fuse_filter": ProgramCase(
        lambda: Pipeline(all=fuse_filter(Predict("question -> fits: bool"), ChainOfThought("question -> answer"))), says={"fits": "True"}),
    "Filtered": ProgramCase(
        lambda: Filtered(Predict("question -> fits: bool"), Predict("question -> answer"), passes="fits"), says={"fits": "True"}),
    "fuse_retrieval": ProgramCase(
        lambda: fuse_retrieval(passages, process(), passages="passages", passage="passage"), says=LISTS),
}  # fmt: skip
