"""What each way of putting steps together wins against the plain one, on a scripted model that takes its time.

`python benchmarks/programs.py` prints the table of docs/composing.md in about half a minute. No model is asked: what is
measured is what the structure does, and how good it is where answers are as the script draws them.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import dspy
from _programs_model import LATENCY, QUESTIONS, Answer, hard, luck, model, nothing, right, seconds
from _programs_steps import at_once, caching, contracting, formatting, fusing, hits, reading, sifting, unread

from cascade.programs import (
    Adaptive,
    AskUntilAgreed,
    Consensus,
    Each,
    Loop,
    MostConfident,
    Parallel,
    Pipeline,
    Router,
    Rule,
    Step,
    Vote,
)


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
    return against(
        drawn, dspy.Predict("question -> answer"), Vote([dspy.Predict("question -> answer") for _ in range(5)])
    )


def against(answer: Answer, plain: Any, ours: Any) -> tuple[str, str, str]:
    """How often both are right, and what ours takes."""
    with model(answer):
        before = right(plain)
    with model(answer) as calls:
        after = right(ours)
    return f"{before:.2f} right", f"{after:.2f} right", f"for {calls[0] / len(QUESTIONS):.1f} calls a question"


def agreeing() -> tuple[str, str, str]:
    """Five that vote, and one asked until three of its answers agree, five times at most."""
    with model(drawn) as calls:
        plain, voted = right(Vote([dspy.Predict("question -> answer") for _ in range(5)])), calls[0]
    with model(drawn) as calls:
        ours, asked = right(AskUntilAgreed(dspy.Predict("question -> answer"), agree=3, limit=5)), calls[0]
    saved = f"{1 - asked / voted:.0%} of the calls saved"
    return f"{voted} calls, {plain:.2f} right", f"{asked} calls, {ours:.2f} right", saved


def surest() -> tuple[str, str, str]:
    """One answer, and the surest of three whose confidence says something."""

    def sure(inputs: Mapping[str, str], turn: int) -> Mapping[str, str]:
        said = drawn(inputs, turn)["answer"]
        base = 0.6 if said == inputs["question"] else 0.3
        return {"answer": said, "confidence": f"{base + 0.4 * luck('sure', inputs['question'], turn):.3f}"}

    members = [dspy.Predict("question -> confidence: float, answer") for _ in range(3)]
    return against(sure, dspy.Predict("question -> answer, confidence: float"), MostConfident(members))


def consenting() -> tuple[str, str, str]:
    """An expert for every question, and only where two members do not agree."""
    asked = Counter[str]()

    def said(inputs: Mapping[str, str], turn: int) -> Mapping[str, str]:
        asked["expert" if "notes" in inputs else "member"] += 1
        return {"answer": inputs["question"]} if "notes" in inputs else drawn(inputs, turn)

    expert = Pipeline(notes=Step(lambda: "all", gives="notes"), ask=dspy.Predict("question, notes -> answer"))
    members = [dspy.Predict("question -> answer") for _ in range(2)]
    with model(said):
        plain, before = right(expert), asked["expert"]
        ours = right(Consensus(members, agree=1.0, otherwise=expert))
    after = asked["expert"] - before
    return (f"{before} calls of the expert, {plain:.2f} right", f"{after} calls of the expert, {ours:.2f} right",
            f"{1 - after / before:.0%} of the expert's calls saved")  # fmt: skip


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
    parallel, each, voting, agreeing, surest, consenting, looping, routing, adapting, overhead, formatting, contracting,
    caching, at_once, hits, unread, fusing, sifting, reading,
)  # fmt: skip

if __name__ == "__main__":
    print("| what | plain | so | what it wins |\n|---|---|---|---|")
    for measure in ROWS:
        told = " | ".join(measure())
        print(f"| {(measure.__doc__ or '').splitlines()[0].rstrip('.')} | {told} |", flush=True)
