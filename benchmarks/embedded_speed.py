"""Requests a second of the embedded engine against plain llama.cpp, same run, same questions, one JSON line.

Plain is what one gets without this package: `xllamacpp` chat completion on one single-slot server with prefix
cache, prompts of `dspy.ChatAdapter`, and the stop string at which its answers end; most of them do not parse.
`plain_with_grammar` makes them parse with a grammar for the whole answer. All are deterministic and answer the same
questions in rounds that alternate, so that other load on the machine hits all.

Run: python benchmarks/embedded_speed.py [--rounds 5] [--questions 24] [--shipped FILE.gguf]
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import dspy

from cascade.lm.embedded import EmbeddedEngine, FormatForcingAdapter, Models, embedded_lm
from cascade.lm.embedded.forcing import quote, slots
from cascade.lm.embedded.servers import Shape, cores, start_server

BAR = 1.5
LABELS = ("transfer", "balance", "freeze_account", "pin_change", "lost_luggage", "book_flight", "weather", "alarm")
THINGS = (
    "my card",
    "the money",
    "a suitcase",
    "the rain in Rome",
    "my alarm",
    "the PIN",
    "a flight to Oslo",
    "my account",
)
STARTS = ("What happened to", "I need help with", "Could you please check", "Tell me everything about", "Where is")
MAX_TOKENS = 40


class Route(dspy.Signature):
    """Answer the question with the action that helps."""

    question: str = dspy.InputField()
    answer: Literal[LABELS] = dspy.OutputField()


def forced(models: Models) -> Callable[[str], str]:
    """Ask through DSPy, with the format forced."""
    engine = EmbeddedEngine(models)
    lm = embedded_lm("smollm2-135m", engine, cache=False, max_tokens=MAX_TOKENS)

    def ask(question: str) -> str:
        with dspy.context(lm=lm, adapter=FormatForcingAdapter()):
            return str(dspy.Predict(Route)(question=question).answer)

    return ask


def plain(gguf: Path, threads: int, grammar: str = "") -> Callable[[str], str]:
    """Ask llama.cpp's chat completion with the messages of `dspy.ChatAdapter`, under a grammar if one is given."""
    server = start_server(gguf, Shape(servers=1, slots=1, threads=threads))
    options: dict[str, Any] = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "cache_prompt": True}
    options |= {"stop": ["[[ ## completed"]} | ({"grammar": grammar} if grammar else {})

    def ask(question: str) -> str:
        messages = dspy.ChatAdapter().format(Route, [], {"question": question})
        return str(
            server.handle_chat_completions({**options, "messages": messages})["choices"][0]["message"]["content"]
        )

    return ask


def rate(ask: Callable[[str], str], questions: list[str], callers: int) -> tuple[float, list[str]]:
    """Requests a second with this many callers, and the answers."""
    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        answers = list(pool.map(ask, questions))
    return len(questions) / (time.perf_counter() - start), answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--shipped", type=Path, help="the Q4_1 file as shipped, to compare with as well")
    arguments = parser.parse_args()
    models = Models(Path(os.environ.get("CASCADE_HOME", ".cascade")))
    file = models.prepare()
    questions = [f"{start} {thing}?" for thing in THINGS for start in STARTS][: arguments.questions]
    # Plain gets the better of its two settings: all threads are faster on an idle machine, one on a busy one.
    asks = {"ours": forced(models), "plain": plain(file, cores()), "plain_1_thread": plain(file, 1)}
    (slot,) = slots(Route)
    asks["plain_with_grammar"] = plain(file, 1, f'root ::= {quote(slot.header)} ({slot.rule}) "\\n\\n[[ ## completed"')
    if arguments.shipped:
        asks["plain_shipped_q4_1"] = plain(arguments.shipped, cores())
    rates: dict[str, list[float]] = {name: [] for name in asks}
    answers: dict[str, list[list[str]]] = {name: [] for name in asks}
    for ask in asks.values():
        rate(ask, questions[:2], callers=2)
    for number in range(arguments.rounds):
        order = questions if number % 2 == 0 else questions[::-1]
        for name, ask in asks.items():
            found, given = rate(ask, order, callers=2)
            rates[name].append(found)
            answers[name].append(given if number % 2 == 0 else given[::-1])
    print(json.dumps(report(rates, answers)))


def report(rates: dict[str, list[float]], answers: dict[str, list[list[str]]]) -> dict[str, Any]:
    """Medians, the ratio to the faster plain setting on the same file, and how many answers changed between rounds."""
    medians = {name: round(statistics.median(values), 2) for name, values in rates.items()}
    best = max(medians["plain"], medians["plain_1_thread"])
    changed = {name: sum(len(set(column)) > 1 for column in zip(*runs, strict=True)) for name, runs in answers.items()}
    ratio = round(medians["ours"] / best, 2)
    return {"requests_per_s": medians, "ratio": ratio, "bar": BAR, "passed": ratio >= BAR, "answers_changed": changed}


if __name__ == "__main__":
    main()
