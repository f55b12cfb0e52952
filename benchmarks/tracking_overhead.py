"""What logging costs: the classic cascade on a scripted model (50 ms a call), with our tracker, without, and under
`mlflow.dspy.autolog` with everything on. Prints one JSON line; bar: ours at most 1.05 times the wall time of none.

Run it: make bench, or .venv/bin/python benchmarks/tracking_overhead.py
"""

import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import dspy
import mlflow

from cascade import Dataset, Experiment, Stage, metric
from cascade.check import prepare
from cascade.mlflow_store import MlflowTracker
from cascade.runner import execute
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

LATENCY = 0.05
ROUNDS = 3
LABELS = "abcd"


def chance(*parts: object) -> float:
    return int(hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def gold(question: str) -> str:
    return LABELS[int(4 * chance("gold", question)) % 4]


def answer(model: str, inputs: dict[str, str], demos: int) -> dict[str, str]:
    question = inputs.get("question", "")
    skill = 0.35 + 0.05 * min(demos, 4) + 0.3 * ("trained" in model)
    return {"answer": gold(question) if chance(model, demos, question) < skill else "a"}


class Program(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        return self.answer(question=question)


@metric
def exact(example: dspy.Example, prediction: dspy.Prediction) -> bool:
    return example.answer == prediction.answer


def rows(split: str, count: int) -> list[dict[str, str]]:
    return [{"question": f"{split} {n}", "answer": gold(f"{split} {n}")} for n in range(count)]


EXPERIMENT = Experiment(
    dataset=Dataset("bench", rows("train", 200), rows("dev", 100), rows("test", 200), inputs=("question",)),
    metric=exact,
    program=Program,
    stages=[
        Stage("instructions", dspy.MIPROv2, auto="light"),
        Stage("demos", dspy.BootstrapFewShot),
        Stage("together", dspy.BetterTogether, strategy="p -> w",
              p=Stage("p", dspy.BootstrapFewShot), w=Stage("w", dspy.BootstrapFinetune)),
        Stage("weights", dspy.BootstrapFinetune),
    ],
    name="bench",
)  # fmt: skip


def wall(kind: str) -> float:
    """Seconds of one run in a fresh project."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        uri = f"sqlite:///{project / 'mlflow.db'}"
        settings = Settings(project=project, home=project / ".cascade", tracking_uri=uri, threads=4)
        prepared = prepare(EXPERIMENT, settings, ScriptedLMs(settings, ScriptedEngine(answer, latency=LATENCY)))
        if kind == "autolog":
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("bench")
            mlflow.dspy.autolog(log_traces=True, log_traces_from_compile=True, log_traces_from_eval=True,
                                log_compiles=True, log_evals=True)  # fmt: skip
        started = time.perf_counter()
        execute(prepared, tracker=MlflowTracker(uri) if kind == "cascade" else None)
        if kind == "autolog":
            mlflow.flush_trace_async_logging()
            mlflow.dspy.autolog(disable=True)
        return time.perf_counter() - started


def main() -> None:
    MlflowTracker(f"sqlite:///{tempfile.mkdtemp()}/warm.db")
    seconds: dict[str, list[float]] = {"none": [], "cascade": [], "autolog": []}
    for _ in range(ROUNDS):
        for kind, found in seconds.items():
            found.append(wall(kind))
    median = {kind: statistics.median(found) for kind, found in seconds.items()}
    ratios = {kind: round(value / median["none"], 3) for kind, value in median.items()}
    print(json.dumps({"seconds": {kind: round(value, 2) for kind, value in median.items()}, "ratio": ratios}))


if __name__ == "__main__":
    main()
