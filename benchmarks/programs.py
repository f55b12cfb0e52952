"""What each way of putting steps together wins against the plain one, on a scripted model that takes its time.

`python benchmarks/programs.py` prints the table of docs/composing.md in about half a minute. No model is asked: what is
measured is what the structure does, and how good it is where answers are as the script draws them.
"""

import hashlib
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, Literal

import dspy

from cascade.programs import (
    Adaptive,
    AskUntilAgreed,
    Cached,
    Each,
    Filtered,
    Lazy,
    Loop,
    Parallel,
    Pipeline,
    Router,
    Rule,
    Step,
    Vote,
    fuse,
    fuse_filter,
    fuse_retrieval,
)  # fmt: skip
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


ROWS: tuple[Callable[[], tuple[str, str, str]], ...] = (
    parallel, each, voting, agreeing, looping, routing, adapting, overhead, caching, at_once,
    hits, unread, fusing, sifting, reading,
)  # fmt: skip

if __name__ == "__main__":
    print("| what | plain | so | what it wins |\n|---|---|---|---|")
    for measure in ROWS:
        told = " | ".join(measure())
        print(f"| {(measure.__doc__ or '').splitlines()[0].rstrip('.')} | {told} |", flush=True)
