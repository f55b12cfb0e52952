"""What is put around and between steps: what it saves, on a scripted model."""

import json
import random
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

import dspy
from _programs_model import LATENCY, QUESTIONS, hard, luck, model, nothing, seconds
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel, Field

from cascade.programs import (
    Cached,
    Contract,
    ContractBroken,
    Each,
    Filtered,
    Guarded,
    Lazy,
    Pipeline,
    Step,
    fuse,
    fuse_filter,
    fuse_retrieval,
)


def caching() -> tuple[str, str, str]:
    """Two hundred calls of which few questions are asked often (the k-th question in 1/k of the calls), 20 kept."""
    weights = [1 / (number + 1) for number in range(len(QUESTIONS))]
    asked = random.Random(0).choices(QUESTIONS, weights, k=200)
    step = Cached(dspy.Predict("question -> answer"), size=20)
    with model(nothing) as calls:
        for question in asked:
            step(question=question)
    return f"{len(asked)} calls", f"{calls[0]} calls", f"{1 - calls[0] / len(asked):.0%} of the calls saved"


def at_once() -> tuple[str, str, str]:
    """Eight equal questions at the same time."""
    plain = dspy.Predict("question -> answer")
    step = Cached(dspy.Predict("question -> answer"))
    counts = []
    with model(nothing, LATENCY) as calls:
        for one in (plain, step):
            before = calls[0]
            with ThreadPoolExecutor(8) as pool:
                for job in [pool.submit(copy_context().run, partial(one, question="q")) for _ in range(8)]:
                    job.result()
            counts.append(calls[0] - before)
    return f"{counts[0]} calls", f"{counts[1]} call", f"{step.stats.waited} waited for it"


def hits() -> tuple[str, str, str]:
    """What an answer takes where the model takes no time: asked, and kept."""
    plain = dspy.Predict("question -> answer")
    step = Cached(plain)
    with model(nothing):
        asked, kept = seconds(plain, 200, question="q"), seconds(step, 200, question="q")
    return f"{asked * 1e6:.0f} µs", f"{kept * 1e6:.0f} µs", "the rest is the model's time"


def unread() -> tuple[str, str, str]:
    """A step whose answer one question in three needs."""
    counts = []
    with model(nothing) as calls:
        for explain in (dspy.Predict("question -> why"), Lazy(dspy.Predict("question -> why"))):
            before = calls[0]
            _ = [said.why for said, needed in ((explain(question=q), hard(q)) for q in QUESTIONS) if needed]
            counts.append(calls[0] - before)
    return f"{counts[0]} calls", f"{counts[1]} calls", f"{1 - counts[1] / counts[0]:.0%} of the calls saved"


def fused(plain: Any, ours: Any, fields: Mapping[str, Any]) -> tuple[str, str, str]:
    """Calls of both on the same input."""
    with model(lambda _inputs, _turn: {"fits": "True", "fact": json.dumps(["x"] * 5)}) as calls:
        plain(**fields)
        before = calls[0]
        ours(**fields)
    return f"{before} calls", f"{calls[0] - before} call", f"{before / (calls[0] - before):.0f} times fewer"


def fusing() -> tuple[str, str, str]:
    """Two predictors, the second of which takes what the first gives."""
    first, second = dspy.Predict("question -> notes"), dspy.Predict("question, notes -> answer")
    return fused(Pipeline(first=first, second=second), fuse(first, second), {"question": "q"})


def sifting() -> tuple[str, str, str]:
    """A filter and a change, of what passes."""
    keep, change = dspy.Predict("text -> fits: bool"), dspy.Predict("text -> short")
    return fused(Filtered(keep, change, passes="fits"), fuse_filter(keep, change), {"text": "t"})


def reading() -> tuple[str, str, str]:
    """Five passages, one call each and all in one."""
    process, how = dspy.Predict("question, passage -> fact"), {"passages": "passages", "passage": "passage"}

    def search(question: str) -> list[str]:
        return [f"{question} {number}" for number in range(5)]

    many = Pipeline(search=Step(search, gives="passages"), process=Each(process, over="passages", each="passage"))
    return fused(many, fuse_retrieval(search, process, **how), {"question": "q"})


def formatting() -> tuple[str, str, str]:
    """A model that keeps no format in one draw of five, as it is and guarded: asked again twice."""

    def draws(inputs: Mapping[str, str], turn: int) -> Mapping[str, str] | str:
        return {"answer": inputs["question"]} if luck(inputs["question"], turn) < 0.8 else "in no format"

    return again(dspy.Predict("question -> answer"), {AdapterParseError: 2}, draws)


def contracting() -> tuple[str, str, str]:
    """A step that breaks its contract in three draws of ten, refused, and guarded: asked again twice."""

    class Named(BaseModel):
        answer: str = Field(pattern="^question")

    def draws(inputs: Mapping[str, str], turn: int) -> Mapping[str, str]:
        return {"answer": inputs["question"] if luck(inputs["question"], turn) < 0.7 else "something else"}

    return again(Contract(dspy.Predict("question -> answer"), gives=Named), {ContractBroken: 2}, draws)


def again(step: Any, retry: Any, draws: Any) -> tuple[str, str, str]:
    """Questions that a step answers, alone and asked again."""

    def answered(program: Any) -> int:
        count = 0
        for question in QUESTIONS:
            with suppress(AdapterParseError, ContractBroken):
                count += program(question=question).answer == question
        return count

    with model(draws):
        plain = answered(step)
    with model(draws) as calls:
        ours = answered(Guarded(step, retry=retry))
    return (f"{plain / len(QUESTIONS):.2f} right", f"{ours / len(QUESTIONS):.2f} right",
            f"for {calls[0] / len(QUESTIONS):.2f} calls a question")  # fmt: skip
