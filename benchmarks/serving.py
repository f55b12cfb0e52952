"""What serving adds to a program: 20 callers at once, a scripted model that takes 50 ms, the program called directly in
threads against `cascade serve` over loopback, in turns. Prints one JSON line; bar: at most 5 ms more at the median and
15 ms more at the 99th percentile.

Run it: make bench, or .venv/bin/python benchmarks/serving.py [--rounds 7] [--seconds 5] [--challenger 50%]
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dspy

from cascade import Dataset, Experiment, Stage, metric
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

LATENCY = 0.05
CALLERS = 20


def answer(_model: str, inputs: dict[str, str], demos: int) -> dict[str, str]:
    question = inputs.get("question", "")
    return {"answer": question[-1] if demos or question[-1] < "2" else "?"}


class Program(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.answer(question=question)


@metric
def exact(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    return example.answer == prediction.answer


def rows(split: str) -> list[dict[str, str]]:
    return [{"question": f"{split} {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(40)]


EXPERIMENT = Experiment(
    dataset=Dataset("bench", rows("train"), rows("dev"), rows("test"), inputs=("question",)),
    metric=exact,
    program=Program,
    stages=[Stage("demos", dspy.LabeledFewShot, k=4)],
    name="bench",
)


def settings_in(folder: Path) -> Settings:
    return Settings(folder, folder / ".cascade", f"sqlite:///{folder / 'mlflow.db'}")


def lms(settings: Settings, latency: float = LATENCY) -> ScriptedLMs:
    return ScriptedLMs(settings, ScriptedEngine(answer, latency=latency))


def promoted(folder: Path) -> None:
    """A project whose experiment has a champion, and a challenger beside it."""
    from cascade.check import prepare
    from cascade.mlflow_store import MlflowTracker
    from cascade.production.promoting import promote
    from cascade.runner import execute

    (folder / "experiments").mkdir()
    settings = settings_in(folder)
    for demos in (4, 8):
        stages = [Stage("demos", dspy.LabeledFewShot, k=demos)]
        prepared = prepare(replace(EXPERIMENT, stages=stages), settings, lms(settings, 0.0))
        execute(prepared, tracker=MlflowTracker(settings.tracking_uri))
        if demos == 4:
            promote(prepared)


def served(folder: Path, challenger: str) -> None:
    """In a process of its own: `cascade serve`."""
    from cascade.cli import main
    from cascade.cli.parts import Parts

    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = settings_in(folder).tracking_uri
    sys.exit(main(["serve", "bench", "--port", "0", "--challenger", challenger, "--json"], parts=Parts(lms=lms)))


def direct(folder: Path) -> None:
    """In a process of its own: for each line of stdin, so many seconds of calls; a line of latencies each."""
    from cascade.mlflow_store import load_program

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    program = load_program("models:/bench@champion", settings_in(folder), lms=lms)
    for line in sys.stdin:
        until, found = time.perf_counter() + float(line), list[float]()

        def call(caller: int, until: float = until, found: list[float] = found) -> None:
            number = 0
            while (began := time.perf_counter()) < until:
                number += 1
                program.fields({"question": f"{caller} {number}"})
                found.append(time.perf_counter() - began)

        threads = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(found), flush=True)


async def over_http(url: str, seconds: float) -> list[float]:
    """Latencies of callers that each keep a connection."""
    host, port = url.removeprefix("http://").split(":")
    until, found = time.perf_counter() + seconds, list[float]()

    async def call(caller: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        number = 0
        while (began := time.perf_counter()) < until:
            number += 1
            body = json.dumps({"question": f"{caller} {number}"}).encode()
            head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            head += f"Content-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            told = await reader.readuntil(b"\r\n\r\n")
            length = int(told.lower().partition(b"content-length:")[2].split()[0])
            await reader.readexactly(length)
            assert told.startswith(b"HTTP/1.1 200"), told
            found.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
    return found


@contextlib.contextmanager
def process(role: str, folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, __file__, "--role", role, "--folder", str(folder), *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        try:
            yield child
        finally:
            child.terminate()


def document(stream: Iterator[str]) -> dict[str, str]:
    """One JSON document over several lines."""
    lines = ""
    for line in stream:
        lines += line
        if line == "}\n":
            break
    return dict(json.loads(lines))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure(rounds: int, seconds: float, challenger: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder).resolve()
        promoted(project)
        serving = process("served", project, "--challenger", challenger)
        with serving as server, process("direct", project) as caller:
            assert server.stdout
            assert caller.stdin
            assert caller.stdout
            url = document(server.stdout)["url"]
            found: dict[str, list[list[float]]] = {"direct": [], "served": []}
            for number in range(rounds + 1):
                caller.stdin.write(f"{seconds if number else 1}\n")
                caller.stdin.flush()
                called = json.loads(caller.stdout.readline())
                asked = asyncio.run(over_http(url, seconds if number else 1))
                if number:  # the first round warms both
                    found["direct"].append(called)
                    found["served"].append(asked)
    ms: dict[str, list[float]] = {}
    for share, name in ((0.5, "median"), (0.99, "p99")):
        pairs = zip(found["served"], found["direct"], strict=True)
        ms[name] = [1000 * (percentile(ours, share) - percentile(theirs, share)) for ours, theirs in pairs]
    pooled = {
        side: {
            name: round(1000 * percentile([one for some in values for one in some], share), 1)
            for share, name in ((0.5, "median"), (0.99, "p99"))
        }
        for side, values in found.items()
    }
    return {
        "added_ms": {name: round(statistics.median(values), 2) for name, values in ms.items()},
        "rounds_ms": {name: [round(value, 1) for value in values] for name, values in ms.items()},
        "latency_ms": pooled,
        "calls_per_second": {side: round(sum(map(len, values)) / rounds / seconds) for side, values in found.items()},
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--role", choices=["served", "direct"])
    options.add_argument("--folder", type=Path)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--challenger", default="0%", help="share of the requests that a challenger answers")
    chosen = options.parse_args()
    if chosen.role == "served":
        served(chosen.folder, chosen.challenger)
    elif chosen.role:
        direct(chosen.folder)
    else:
        print(json.dumps(measure(chosen.rounds, chosen.seconds, chosen.challenger)))


if __name__ == "__main__":
    main()
