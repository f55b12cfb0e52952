"""What a rate limit costs, with and without `cascade.lm.pace`, over real HTTP on this machine.

The endpoint takes a few requests at once, 50 ms each, and answers any other with 429. `python benchmarks/rate_limit.py`
prints the table of docs/models.md. No model is asked; it takes about two minutes, most of them waiting.
"""

import os
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from cascade.experiment import Budget
from cascade.lm.call import RoleCallback
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.lm.pace import Pace
from cascade.lm.remote import RemoteLM
from cascade.testing import Reply, ScriptedEndpoint


@dataclass(frozen=True)
class Load:
    """What was asked of it, and how it says no."""

    threads: int
    capacity: int
    retry_after: str | None
    questions: int = 300
    retries: int = 3


@dataclass(frozen=True)
class Measured:
    """Of one run: 429s sent, questions that were never answered, seconds."""

    refused: int
    lost: int
    seconds: float


class Limiter:
    """Takes `capacity` requests at once."""

    def __init__(self, load: Load, latency: float = 0.05) -> None:
        self.load, self.latency = load, latency
        self.refused = self._inside = 0
        self._lock = threading.Lock()

    def reply(self, _number: int, _inputs: Mapping[str, str]) -> Reply | None:
        with self._lock:
            if self._inside < self.load.capacity:
                self._inside += 1
                return None
            self.refused += 1
        said = {} if self.load.retry_after is None else {"Retry-After": self.load.retry_after}
        return Reply(429, headers=said)

    def answer(self, _model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str]:
        time.sleep(self.latency)
        with self._lock:
            self._inside -= 1
        return {"answer": inputs["question"]}


def lm(url: str, load: Load, *, paced: bool) -> Any:
    """Ours, or DSPy's own with as many retries."""
    options: dict[str, Any] = {"api_base": url, "api_key": "any", "timeout": 60.0}
    if not paced:
        return dspy.LM("openai/any", num_retries=load.retries, callbacks=[RoleCallback("task")], **options)
    pace = Pace()
    return RemoteLM("openai/any", pace=pace, retries=load.retries, callbacks=[RoleCallback("task", pace)], **options)


def measure(load: Load, *, paced: bool) -> Measured:
    """Ask all questions once."""
    limiter, lost = Limiter(load), []

    def ask(n: int) -> None:
        try:
            dspy.Predict("question -> answer")(question=str(n))
        except Exception as error:
            lost.append(error)

    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedEndpoint(limiter.answer, reply=limiter.reply) as endpoint,
        Ledger(Path(folder) / "ledger.db") as ledger,
        installed(Gateway(ledger, Meter(Budget()))),
        dspy.context(lm=lm(endpoint.url, load, paced=paced), adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)),
        ThreadPoolExecutor(load.threads) as pool,
    ):
        began = time.monotonic()
        for future in [pool.submit(copy_context().run, ask, n) for n in range(load.questions)]:
            future.result()
        return Measured(limiter.refused, len(lost), time.monotonic() - began)


LOADS = (
    Load(8, 8, None),
    Load(8, 4, None),
    Load(8, 2, None),
    Load(16, 4, None),
    Load(8, 4, "1"),
    Load(8, 2, "1"),
    Load(8, 2, "0"),
)


def main() -> None:
    """Print the table."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    print("| threads | it takes | `Retry-After` | 429s | unanswered | seconds | 429s, paced | unanswered | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for load in LOADS:
        cells: list[object] = [load.threads, load.capacity, load.retry_after or "none"]
        for paced in (False, True):
            seen = measure(load, paced=paced)
            cells += [seen.refused, seen.lost, f"{seen.seconds:.0f}"]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
