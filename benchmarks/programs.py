"""What each way of putting steps together wins against the plain one, on a scripted model that takes its time.

`python benchmarks/programs.py` prints the table of docs/composing.md in about half a minute. No model is asked: what is
measured is what the structure does, and how good it is where answers are as the script draws them.
"""

import hashlib
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import dspy

from cascade.programs import Adaptive, AskUntilAgreed, Each, Loop, Parallel, Pipeline, Router, Rule, Step, Vote
from cascade.testing import AsyncScriptedEngine, ScriptedEngine

QUESTIONS = [f"question {number}" for number in range(60)]
LATENCY = 0.2
"""Seconds that the model takes where time is measured."""


def luck(*parts: object) -> float:
    """Between 0 and 1, by chance and the same every time."""
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@contextmanager
def model(answer: Callable[[Mapping[str, str], int], Mapping[str, str]], latency: float = 0.0) -> Iterator[list[int]]:
    """A model that answers by a function of the inputs and how often it was asked them; counts its calls."""
    calls, turns, lock = [0], Counter[str](), threading.Lock()

    def counted(_model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str]:
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


def parallel() -> tuple[str, str, str]:
    """Three sources, one after the other and at once."""
    parts = {name: dspy.Predict(f"question -> {name}") for name in ("web", "wiki", "own")}
    with model(nothing, LATENCY):
        plain, ours = seconds(Pipeline(**parts), question="q"), seconds(Parallel(**parts), question="q")
    return f"{plain * 1000:.0f} ms", f"{ours * 1000:.0f} ms", f"{plain / ours:.2f} times as fast"


def each() -> tuple[str, str, str]:
    """Eight sub-questions."""
    ask = dspy.Predict("question -> answer")
    program = Each(ask, over="questions", each="question")
    plain = Each(ask, over="questions", each="question", at_once=1)
    with model(nothing, LATENCY):
        slow, fast = seconds(plain, 3, questions=QUESTIONS[:8]), seconds(program, 3, questions=QUESTIONS[:8])
    return f"{slow * 1000:.0f} ms", f"{fast * 1000:.0f} ms", f"{slow / fast:.2f} times as fast"


def drawn(inputs: Mapping[str, str], turn: int) -> Mapping[str, str]:
    """Right in 7 of 10 draws; wrong answers differ."""
    question = inputs["question"]
    return {"answer": question if luck(question, turn) < 0.7 else f"wrong {turn % 5}"}


def voting() -> tuple[str, str, str]:
    """One answer, and five that vote."""
    with model(drawn):
        plain = right(dspy.Predict("question -> answer"))
    with model(drawn) as calls:
        ours = right(Vote([dspy.Predict("question -> answer") for _ in range(5)]))
    return f"{plain:.2f} right", f"{ours:.2f} right", f"for {calls[0] / len(QUESTIONS):.1f} calls a question"


def agreeing() -> tuple[str, str, str]:
    """Five that vote, and one asked until three of its answers agree, five times at most."""
    with model(drawn) as calls:
        plain, voted = right(Vote([dspy.Predict("question -> answer") for _ in range(5)])), calls[0]
    with model(drawn) as calls:
        ours, asked = right(AskUntilAgreed(dspy.Predict("question -> answer"), agree=3, limit=5)), calls[0]
    saved = f"{1 - asked / voted:.0%} of the calls saved"
    return f"{voted} calls, {plain:.2f} right", f"{asked} calls, {ours:.2f} right", saved


def drafted(inputs: Mapping[str, str], turn: int) -> Mapping[str, str]:
    """As good as it happens to be."""
    return {"draft": f"{luck(inputs['question'], turn):.3f}"}


def float_of(draft: str) -> float:
    return float(draft)


def looping() -> tuple[str, str, str]:
    """The last of four drafts, and the best of them; the judge says how good a draft is."""
    loop = Loop(dspy.Predict("question, former_draft -> draft"), Step(float_of, gives="score"), limit=4)
    lasts, bests = [], []
    with model(drafted):
        for question in QUESTIONS:
            found = loop(question=question)
            lasts.append(found.scores[-1])
            bests.append(float(found.draft))
    last, best = statistics.mean(lasts), statistics.mean(bests)
    return f"score {last:.2f}", f"score {best:.2f}", f"{best - last:+.2f}"


class Kind(dspy.Signature):
    """Say of what kind a question is."""

    question: str = dspy.InputField()
    kind: Literal["easy", "hard"] = dspy.OutputField()


def hard(question: str) -> bool:
    return int(question.removeprefix("question ")) % 3 == 0


def worked(inputs: Mapping[str, str], _turn: int) -> Mapping[str, str]:
    """Hard questions are answered right only after notes were made."""
    question = inputs["question"]
    known = not hard(question) or "notes" in inputs
    return {"answer": question if known else "?", "kind": "hard" if hard(question) else "easy"}


def _structures() -> dict[str, Any]:
    plain = dspy.Predict("question -> answer")
    return {"easy": plain, "hard": Pipeline(a=dspy.Predict("question -> notes"), b=dspy.Predict("question -> checks"),
                                            c=dspy.Predict("question, notes, checks -> answer"))}  # fmt: skip


def adapting() -> tuple[str, str, str]:
    """Three steps for every question, and only for those that a rule calls hard."""
    parts = _structures()
    rules = [Rule("hard", hard, "its number is a multiple of three")]
    with model(worked) as calls:
        plain, before = right(parts["hard"]), calls[0]
        ours = right(Adaptive(rules, parts, default="easy"))
    return (f"{before} calls, {plain:.2f} right", f"{calls[0] - before} calls, {ours:.2f} right",
            f"{1 - (calls[0] - before) / before:.0%} of the calls saved")  # fmt: skip


def routing() -> tuple[str, str, str]:
    """One predictor for all, and a route for each kind that a predictor tells."""
    parts = _structures()
    with model(worked) as calls:
        plain, before = right(parts["easy"]), calls[0]
        ours = right(Router(dspy.Predict(Kind), parts))
    return f"{plain:.2f} right", f"{ours:.2f} right", f"for {(calls[0] - before) / len(QUESTIONS):.1f} calls a question"


def overhead() -> tuple[str, str, str]:
    """Ten functions called in a row, and as a pipeline."""
    steps = {f"s{n}": Step(lambda x: x + 1, gives="x") for n in range(10)}
    program, parts = Pipeline(**steps), list(steps.values())

    def plain(x: int) -> Any:
        for part in parts:
            x = part(x=x).x
        return x

    slow, fast = seconds(program, 101, x=1), seconds(plain, 101, x=1)
    return f"{fast * 1000:.2f} ms", f"{slow * 1000:.2f} ms", f"{(slow - fast) * 1e5:.0f} µs a step"


ROWS: tuple[Callable[[], tuple[str, str, str]], ...] = (
    parallel, each, voting, agreeing, looping, routing, adapting, overhead,
)  # fmt: skip

if __name__ == "__main__":
    print("| what | plain | so | what it wins |\n|---|---|---|---|")
    for measure in ROWS:
        told = " | ".join(measure())
        print(f"| {(measure.__doc__ or '').splitlines()[0].rstrip('.')} | {told} |", flush=True)
