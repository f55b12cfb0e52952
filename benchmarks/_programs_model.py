"""What benchmarks of programs ask: a scripted model that takes its time, and is right as often as the script says."""

import hashlib
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dspy

from cascade.testing import AsyncScriptedEngine, ScriptedEngine

Answer = Callable[[Mapping[str, str], int], Mapping[str, str] | str]
QUESTIONS = [f"question {number}" for number in range(60)]
LATENCY = 0.2
"""Seconds that the model takes where time is measured."""


def luck(*parts: object) -> float:
    """Between 0 and 1, by chance and the same every time."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@contextmanager
def model(answer: Answer, latency: float = 0.0) -> Iterator[list[int]]:
    """A model that answers by a function of the inputs and how often it was asked them; counts its calls."""
    calls, turns, lock = [0], Counter[str](), threading.Lock()

    def counted(_model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str] | str:
        with lock:
            calls[0] += 1
            turns[inputs.get("question", "")] += 1
            turn = turns[inputs.get("question", "")]
        return answer(inputs, turn)

    engine = ScriptedEngine(counted, latency=latency)
    lm = dspy.LM("scripted/base", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False, temperature=0.0)
    with dspy.context(
        lm=lm, trace=None, disable_history=True, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)
    ):
        yield calls


def seconds(program: Any, times: int = 7, **fields: Any) -> float:
    """Median time of a call."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        program(**fields)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def right(program: Any) -> float:
    """Share of questions answered with their own name."""
    return statistics.mean(program(question=question).answer == question for question in QUESTIONS)


def nothing(_inputs: Mapping[str, str], _turn: int) -> Mapping[str, str]:
    return {}


def hard(question: str) -> bool:
    return int(question.removeprefix("question ")) % 3 == 0
