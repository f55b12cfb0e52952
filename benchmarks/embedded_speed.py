"""Requests a second of the embedded engine against plain llama.cpp, same run, same questions, one JSON line.

Plain is what one gets without this package: `xllamacpp` chat completion on one single-slot server with prefix
cache, prompts of `dspy.ChatAdapter`, and the stop string at which its answers end; most of them do not parse.
`plain_with_grammar` makes them parse with a grammar for the whole answer. All are deterministic and answer the same
questions in rounds that alternate, so that other load on the machine hits all.

Run: python benchmarks/embedded_speed.py [--rounds 5] [--questions 24] [--plain-threads 1 2] [--shipped FILE]
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


def rate(ask: Callable[[str], str], questions: list[str], callers: int) -> tuple[float, float, list[str]]:
    """Requests a second with this many callers, CPU seconds a request, and the answers."""
    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(callers) as pool:
        answers = list(pool.map(ask, questions))
    count = len(questions)
    return count / (time.perf_counter() - start), (time.process_time() - cpu) / count, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--plain-threads", type=int, nargs="+", default=sorted({1, cores()}))
    parser.add_argument("--shipped", type=Path, help="the Q4_1 file as shipped, to compare with as well")
    arguments = parser.parse_args()
    models = Models(Path(os.environ.get("CASCADE_HOME", ".cascade")))
    file = models.prepare()
    questions = [f"{start} {thing}?" for thing in THINGS for start in STARTS][: arguments.questions]
    # Plain gets the best of its settings: all cores win on an idle machine, one thread wins on a busy one.
    asks = {"ours": forced(models)} | {
        f"plain_{count}_threads": plain(file, count) for count in arguments.plain_threads
    }
    (slot,) = slots(Route)
    asks["plain_with_grammar"] = plain(file, 1, f'root ::= {quote(slot.header)} ({slot.rule}) "\\n\\n[[ ## completed"')
    if arguments.shipped:
        asks["plain_shipped_q4_1"] = plain(arguments.shipped, max(arguments.plain_threads))
    print(json.dumps(report(measure(asks, questions, arguments.rounds))))


def measure(asks: dict[str, Callable[[str], str]], questions: list[str], rounds: int) -> dict[str, list[Any]]:
    """`rate` of each in each round; every second round asks in reverse order."""
    found: dict[str, list[Any]] = {name: [] for name in asks}
    for ask in asks.values():
        rate(ask, questions[:2], callers=2)
    for number in range(rounds):
        step = 1 if number % 2 == 0 else -1
        for name, ask in asks.items():
            speed, cpu, answers = rate(ask, questions[::step], callers=2)
            found[name].append((speed, cpu, answers[::step]))
    return found


def report(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Medians, the ratio to the fastest plain setting on the same file, and how many answers changed between rounds."""
    speeds = {name: round(statistics.median(run[0] for run in runs), 2) for name, runs in found.items()}
    costs = {name: round(statistics.median(run[1] for run in runs), 3) for name, runs in found.items()}
    changed = {
        name: sum(len(set(column)) > 1 for column in zip(*(run[2] for run in runs), strict=True))
        for name, runs in found.items()
    }
    best = max((name for name in speeds if name.endswith("_threads")), key=lambda name: speeds[name])
    ratio = round(speeds["ours"] / speeds[best], 2)
    verdict = {"ratio": ratio, "against": best, "bar": BAR, "passed": ratio >= BAR}
    return {"requests_per_s": speeds, **verdict, "cpu_s_per_request": costs, "answers_changed": changed}


if __name__ == "__main__":
    main()
