"""Kills a scripted cascade with SIGKILL at drawn moments, lets it go on, and compares it with one that was not killed.

The cascade is run by the real command line in processes of its own, with an MLflow store. Its engine notes each
question before it answers, so that what is asked twice is seen whatever our own counters say.

Run it: .venv/bin/python tests/kill_points.py 20
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from letters import PROGRAM

from cascade.cli import main
from cascade.cli.parts import Parts
from cascade.journal import ENDED, Journal
from cascade.lm.call import CALL
from cascade.lm.lms import LMs
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

THREADS = 4
LATENCY = 0.002
STAGES = ["0-baseline", "1-instructions", "2-demos", "3-together", "4-weights"]
EXPERIMENT = f"""{PROGRAM}import hashlib


def gold(question):
    return "abcd"[int(hashlib.md5(question.encode()).hexdigest(), 16) % 4]


def rows(split):
    return [{{"question": f"{{split}} {{i}}", "answer": gold(f"{{split}} {{i}}")}} for i in range(20)]


experiment = Experiment(
    dataset=Dataset("x", train=rows("train"), dev=rows("dev"), test=rows("test"), inputs=("question",)),
    metric=right,
    program=Asks,
    stages=[
        Stage("instructions", dspy.MIPROv2, auto="light"),
        Stage("demos", dspy.BootstrapFewShot),
        Stage("together", dspy.BetterTogether, strategy="p -> w",
              p=Stage("p", dspy.BootstrapFewShot), w=Stage("w", dspy.BootstrapFinetune)),
        Stage("weights", dspy.BootstrapFinetune),
    ],
    plateau=Plateau(patience=9),
)
"""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["dspy", "mlflow", "cascade.cli", "cascade.runner", "cascade.running"])


class Asked:
    """Notes each call that reaches an engine, its question and its place in the ledger, before it is answered."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "asked.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, question: str) -> None:
        """Add a line; `O_APPEND` keeps lines of threads apart."""
        call = CALL.get()
        os.write(self._file, (json.dumps({"question": question, "key": call.key if call else ""}) + "\n").encode())


class _Engine(ScriptedEngine):
    def __init__(self, folder: Path) -> None:
        import scripted

        super().__init__(scripted.answer, latency=LATENCY)
        self._asked = Asked(folder)

    def complete(self, request: Any) -> Any:
        self._asked.note(self.digest(request))
        return super().complete(request)


def _scripted(folder: Path) -> None:
    attempt(folder, lambda settings: ScriptedLMs(settings, _Engine(folder)))


def attempt(folder: Path, lms: Callable[[Settings], LMs]) -> None:
    """`cascade run x`, in a process of its own."""
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    for name in [name for name in os.environ if name.startswith("CASCADE_")]:
        del os.environ[name]
    os.environ["CASCADE_THREADS"] = str(THREADS)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"

    sys.exit(main(["run", "x"], parts=Parts(lms=lms)))


class Project:
    """A folder in which the cascade runs.

    Args:
        store: an empty MLflow database.
    """

    experiment = EXPERIMENT
    patience = 120.0

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        (folder / "experiments").mkdir(parents=True)
        (folder / "experiments" / "x.py").write_text(self.experiment)
        shutil.copy(store, folder / "mlflow.db")

    def start(self) -> Any:
        """A process that runs the cascade."""
        process = _FORKS.Process(target=_scripted, args=(self.folder,))
        process.start()
        return process

    def finish(self) -> None:
        """Run it to its end."""
        process = self.start()
        process.join(self.patience)
        if process.exitcode != 0:
            process.kill()
            raise AssertionError(f"exit code {process.exitcode}: {self.said[-2000:]}")

    @property
    def said(self) -> str:
        """What all attempts printed."""
        path = self.folder / "output.txt"
        return path.read_text() if path.exists() else ""

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Every question that reached the engine, in order."""
        path = self.folder / "asked.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def recorded(self) -> set[str]:
        """Keys of the answers in the ledger."""
        path = self.folder / ".cascade" / "ledger.db"
        if not path.exists():
            return set()
        connection = sqlite3.connect(path)
        try:
            return {key for (key,) in connection.execute("SELECT key FROM calls")}
        except sqlite3.OperationalError:  # killed before its tables were made
            return set()
        finally:
            connection.close()

    @property
    def journals(self) -> list[Journal]:
        """Runs that began."""
        return [Journal(path.parent) for path in sorted(self.folder.glob(".cascade/runs/x/*/run.json"))]

    @property
    def outcome(self) -> dict[str, Any]:
        """What must be the same whether it was killed or not."""
        (journal,) = self.journals
        run = journal.run
        told = [
            {key: decision[key] for key in ("stage", "verdict", "kept", "next", "reason")}
            for decision in journal.read("decisions.json")
        ]
        return {
            "status": run.status,
            "best": run.best_stage,
            "program": (journal.folder / run.best_stage / "program.json").read_text(),
            "decisions": told,
            "test": {name: value for name, value in run.metrics.items() if "test" in name},
            "trained": sorted(path.name for path in self.folder.glob(".cascade/trained/*.json")),
            "files": sorted(str(path.relative_to(journal.folder)) for path in journal.folder.rglob("*.*")
                            if not path.name.startswith(".")),
            "mlflow": self._mlflow(run.id),
        }  # fmt: skip

    def _mlflow(self, run_id: str) -> dict[str, Any]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        (experiment,) = [one for one in client.search_experiments() if one.name == "x"]
        runs = client.search_runs([experiment.experiment_id])
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        models = client.search_logged_models([experiment.experiment_id])
        return {
            "parents": [(run.info.status, run.data.tags["cascade.status"]) for run in parents],
            "one run": {run.data.tags["cascade.run_id"] for run in runs} == {run_id}
            and {run.data.tags["mlflow.parentRunId"] for run in nested} == {run.info.run_id for run in parents},
            "nested": sorted((run.info.run_name, run.info.status) for run in nested),
            "models": sorted((model.name, str(model.status)) for model in models),
            "versions": len(client.search_model_versions("name = 'x'")),
        }


@dataclass
class Point:
    """One kill and what came of it.

    Args:
        moment: after how many answers, or while what was written.
        stage: that was under way.
        recorded: answers in the ledger when it died.
        lost: questions under way then, whose answers were not recorded.
        repeated: recorded answers that were asked for again.
        differences: from the run that was not killed.
    """

    moment: str
    stage: str = ""
    recorded: int = 0
    lost: int = 0
    repeated: int = 0
    asked: int = 0
    billed: int = 0
    said_so: bool = False
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Whole:
    """The cascade that was not killed."""

    outcome: dict[str, Any]
    questions: Counter[str]

    @classmethod
    def of(cls, project: Project) -> "Whole":
        project.finish()
        return cls(project.outcome, Counter(one["question"] for one in project.asked))


def kill_once(project: Project, whole: Whole, moment: str, happened: Callable[[Project], bool], delay: float) -> Point:
    """Kill the cascade `delay` seconds after something happened, and let it go on to its end.

    Raises:
        AssertionError: it ended before, or cannot go on.
    """
    process, deadline = project.start(), time.monotonic() + project.patience
    while not happened(project) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"not killed but ended with {process.exitcode}: {project.said[-2000:]}"
    before, recorded = project.asked, project.recorded
    ended = any(journal.run.status in ENDED for journal in project.journals)
    trained = {path: path.stat().st_mtime_ns for path in project.folder.glob(".cascade/trained/*.json")}
    point = Point(moment, _under_way(project), len(recorded))
    ids = [journal.run.id for journal in project.journals]
    if ended:  # and only MLflow does not know all of it yet: the next run, of anything, sends what is missing
        _catch_up(project)
    else:
        project.finish()
    return _compared(point, project, whole, before, recorded, ids, trained, ended)


def _compared(
    point: Point, project: Project, whole: Whole, before: list[dict[str, Any]], recorded: set[str], ids: list[str],
    trained: dict[Path, int], ended: bool,
) -> Point:  # fmt: skip
    lost = [one for one in before if one["key"] not in recorded]
    point.lost = len(lost)
    point.repeated = sum(one["key"] in recorded for one in project.asked[len(before) :])
    point.asked = len(project.asked)
    runs = [journal.run for journal in project.journals]
    point.billed = runs[0].spent["lm_calls"]
    point.said_so = ended or not ids or f"Going on with run {ids[0]}, interrupted at" in project.said
    outcome = project.outcome
    point.differences = [name for name, value in whole.outcome.items() if outcome[name] != value]
    if ids and [run.id for run in runs] != ids:
        point.differences.append("run id")
    if Counter(one["question"] for one in project.asked) != whole.questions + Counter(one["question"] for one in lost):
        point.differences.append("questions")
    if any(path.stat().st_mtime_ns != at for path, at in trained.items()):
        point.differences.append("trained twice")
    return point


def points(count: int, answers: int) -> Iterator[tuple[str, Callable[[Project], bool], float]]:
    """Drawn moments: of four, two after an answer, one while a stage or MLflow is being written, one more answer."""
    draw = random.Random(20261127)
    for number in range(count):
        delay = draw.uniform(0, 0.02)
        if number % 4 == 1:
            stage = STAGES[draw.randrange(len(STAGES))]
            yield f"while {stage} is written", _appears(f".cascade/runs/x/*/{stage}/program.json"), delay / 10
        elif number % 4 == 2:
            sent = draw.randrange(len(STAGES))
            yield f"while MLflow has {sent} of 5 stages", _sent(sent), delay * 5
        else:
            after = draw.randrange(1, answers)
            yield f"after answer {after}", _answered(after), delay


def _answered(count: int) -> Callable[[Project], bool]:
    def happened(project: Project) -> bool:
        path = project.folder / "asked.jsonl"
        return path.exists() and path.read_bytes().count(b"\n") >= count

    return happened


def _appears(pattern: str) -> Callable[[Project], bool]:
    return lambda project: any(project.folder.glob(pattern))


def _sent(count: int) -> Callable[[Project], bool]:
    def happened(project: Project) -> bool:
        for path in project.folder.glob(".cascade/runs/x/*/published.json"):
            return len(json.loads(path.read_text())["stages"]) >= count
        return False

    return happened


def _under_way(project: Project) -> str:
    folders = [path.name for path in project.folder.glob(".cascade/runs/x/*/?-*")]
    return max(folders, default="-")


def _catch_up(project: Project) -> None:
    from cascade.mlflow_store import MlflowTracker

    MlflowTracker(f"sqlite:///{project.folder / 'mlflow.db'}").catch_up(project.journals)


def survey(count: int, folder: Path, store: Path) -> tuple[Whole, list[Point]]:
    """Kill the cascade `count` times, each in a project of its own."""
    whole = Whole.of(Project(folder / "whole", store))
    drawn = points(count, sum(whole.questions.values()))
    return whole, [
        kill_once(Project(folder / str(number), store), whole, *point) for number, point in enumerate(drawn, 1)
    ]


def table(whole: Whole, found: list[Point]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{len(found)} kills of a cascade of {sum(whole.questions.values())} calls: "
        f"{sum(point.repeated for point in found)} answered calls repeated, "
        f"{sum(point.lost for point in found)} in flight asked again, "
        f"{sum(not point.differences for point in found)} ended the same.",
        "",
        "| killed | in stage | recorded | in flight | repeated | billed | differences |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = (one.moment, one.stage, one.recorded, one.lost, one.repeated, one.billed, ", ".join(one.differences))
        lines.append("| " + " | ".join(str(cell) or "none" for cell in cells) + " |")
    return "\n".join(lines)


def empty_store(path: Path) -> Path:
    """An MLflow database without runs."""
    from cascade.mlflow_store import store

    with store.reaching(f"sqlite:///{path}", "could not be made", ""):
        store.connect(f"sqlite:///{path}").search_experiments()
    return path


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(table(*survey(int(sys.argv[1]), Path(scratch), empty_store(Path(scratch) / "empty.db"))))
