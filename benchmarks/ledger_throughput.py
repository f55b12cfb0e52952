"""What ledger and meter cost: a DSPy program over a scripted model (50 ms a call, 64 threads), in a bare thread pool
and behind the gateway. Prints one JSON line; bar: at least 0.97 of the bare pool's calls a second, and memory that
does not grow with calls.

The pools take turns, chunk by chunk, so that other load on the machine hits both. Bare means the same program, LM and
callbacks with every cache off. `power_safe` is the ledger as runs use it, which waits for the disk; `process_safe`
leaves that to the operating system; `dspy_cache` is DSPy's own cache as it comes. `cpu_ms` is processor time a call,
all threads.

Run it: make bench, or .venv/bin/python benchmarks/ledger_throughput.py [--quick]
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.cache import Cache
from dspy.lm15 import Message, Response, TextPart, Usage

from cascade.experiment import Budget
from cascade.lm.call import RoleCallback
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Keeping, Ledger
from cascade.lm.meter import Meter

BAR = 0.97
GROWTH_BAR_MB = 10
TEXT = "[[ ## answer ## ]]\nparis\n\n[[ ## completed ## ]]"
AMPLE = Budget(lm_calls=10**9, tokens=10**15, usd=1e9, minutes=10**6)
"""Caps that are never reached but looked at in every call."""


class Engine:
    """Answers the same after `latency` seconds, and remembers nothing."""

    def __init__(self, latency: float) -> None:
        self.latency = latency

    def __deepcopy__(self, memo: dict[int, Any]) -> "Engine":
        return self

    def complete(self, request: Any) -> Response:
        if self.latency:
            time.sleep(self.latency)
        message = Message.assistant([TextPart(TEXT)])
        usage = Usage(input_tokens=120, output_tokens=12)
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)

    def close(self) -> None:
        """Nothing to free."""


class Asks(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.ask(question=question)


@dataclass
class Chunk:
    """Calls that one pool made in one go."""

    rate: float
    cpu_ms: float


class Bench:
    """The program, its pool, and questions that nobody has asked yet."""

    def __init__(self, threads: int, latency: float) -> None:
        self.program = Asks()
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)
        self.asked = 0
        self.lm = dspy.LM(
            "scripted/base", engine=Engine(latency), temperature=0.0, num_retries=0, callbacks=[RoleCallback("task")]
        )

    def ask(self, calls: int) -> Chunk:
        """Ask so many new questions through the pool."""
        first, self.asked = self.asked, self.asked + calls
        started, cpu = time.perf_counter(), time.process_time()
        asking = [
            self.pool.submit(copy_context().run, self.program, question=f"What is the capital of country {number}?")
            for number in range(first, first + calls)
        ]
        answers = {future.result().answer for future in asking}
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        if answers != {"paris"}:
            raise SystemExit(f"The program answered {answers}.")
        return Chunk(calls / seconds, 1000 * cpu / calls)


@contextmanager
def seated(cache: Any) -> Iterator[None]:
    """DSPy with a cache of its own kind, or with none."""
    before, dspy.cache = dspy.cache, cache
    try:
        yield
    finally:
        dspy.cache = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the calls: whether it runs, not what it costs"
    )
    parser.add_argument("--calls", type=int, default=20_000, help="by each pool")
    parser.add_argument("--chunk", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--memory-calls", type=int, default=50_000)
    given = parser.parse_args()
    share = 20 if given.quick else 1
    bench = Bench(given.threads, given.latency)
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    with tempfile.TemporaryDirectory() as folder, dspy.context(lm=bench.lm, adapter=adapter, disable_history=True):
        memory = growth(Path(folder), given.threads, given.memory_calls // share)
        found = measure(bench, Path(folder), given.calls // share, given.chunk // (4 if given.quick else 1))
    print(json.dumps(report(found, memory)))


def growth(folder: Path, threads: int, calls: int) -> dict[str, float]:
    """MB of memory after a fifth, three fifths and all of the calls, which take no time here."""
    bench, memory = Bench(threads, 0.0), {}
    with Ledger(folder / "memory.db") as ledger, installed(Gateway(ledger, Meter(AMPLE))), dspy.context(lm=bench.lm):
        for until in (calls // 5, 3 * calls // 5, calls):
            while bench.asked < until:
                bench.ask(min(1000, until - bench.asked))
            memory[str(until)] = round(resident_mb(), 1)
    return memory


def measure(bench: Bench, folder: Path, calls: int, chunk: int) -> dict[str, list[Chunk]]:
    """Chunks of each pool; every second round in reverse order."""
    safe, fast = (Ledger(folder / f"{safe}.db", Keeping(safe=safe)) for safe in (True, False))
    pools: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "bare": lambda: seated(Cache(False, False, None)),
        "power_safe": lambda: installed(Gateway(safe, Meter(AMPLE))),
        "process_safe": lambda: installed(Gateway(fast, Meter(AMPLE))),
        "dspy_cache": lambda: seated(Cache(True, True, str(folder / "dspy"))),
    }
    found: dict[str, list[Chunk]] = {name: [] for name in pools}
    with safe, fast:
        for pool in pools.values():
            with pool():
                bench.ask(2 * bench.threads)
        for number in range(max(2, calls // chunk)):
            for name in list(pools)[:: 1 if number % 2 == 0 else -1]:
                with pools[name]():
                    found[name].append(bench.ask(chunk))
    return found


def report(found: dict[str, list[Chunk]], memory: dict[str, float]) -> dict[str, Any]:
    """Medians; ratios to the bare pool are those of the chunks of one round."""
    rates = {name: round(statistics.median(chunk.rate for chunk in chunks), 1) for name, chunks in found.items()}
    cpu = {name: round(statistics.median(chunk.cpu_ms for chunk in chunks), 3) for name, chunks in found.items()}
    ratios = {
        name: [chunk.rate / bare.rate for chunk, bare in zip(chunks, found["bare"], strict=True)]
        for name, chunks in found.items()
    }
    quartiles = {name: [round(cut, 3) for cut in statistics.quantiles(each, n=4)] for name, each in ratios.items()}
    grown = round(max(memory.values()) - next(iter(memory.values())), 1)
    ratio = quartiles["power_safe"][1]
    return {
        "calls_per_s": rates, "ratio_quartiles": quartiles, "cpu_ms": cpu, "rounds": len(found["bare"]),
        "ratio": ratio, "bar": BAR, "memory_mb": memory, "grown_mb": grown, "growth_bar_mb": GROWTH_BAR_MB,
        "passed": ratio >= BAR and grown <= GROWTH_BAR_MB,
    }  # fmt: skip


def resident_mb() -> float:
    """Memory of this process that is in use now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
