"""A small project whose cascade runs in processes of its own, on a model behind a real connection."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letters import PROGRAM

from cascade.journal import Journal, journals
from cascade.lm.ledger import Ledger
from cascade.testing import Reply, ScriptedEndpoint

HERE = Path(__file__).parent
KEY = "sk-canary-0123456789-AbCd"
ROWS = 20
EXPERIMENT = f"""{PROGRAM}experiment = Experiment(
    dataset=Dataset("letters"),
    metric=right,
    program=Asks,
    stages=[Stage("demos", dspy.LabeledFewShot, k=4)],
    plateau=Plateau(patience=9),
)
"""


def answer(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Right where it was shown how, and for some."""
    last = inputs.get("question", "")[-1:]
    return {"answer": last if demos or last < "4" else "?"}


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""

    def line(self, part: str) -> str:
        """The one line, of stdout or stderr, that holds `part`."""
        found = [line for line in (*self.err.splitlines(), *self.out.splitlines()) if part in line]
        assert len(found) == 1, (part, self)
        return found[0]


class Running:
    """A command that runs."""

    def __init__(self, process: Any, out: Path) -> None:
        self.process, self.out = process, out

    @property
    def said(self) -> str:
        """On stderr, so far."""
        file = Path(f"{self.out}.err")
        return file.read_text() if file.exists() else ""

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 100) -> Done:
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.signal(signal.SIGKILL)
            raise AssertionError(f"it did not end in {seconds} s: {self.said}")
        return Done(self.process.exitcode, self.out.read_text(), self.said)


class Faults:
    """What the endpoint does beside answering; a case sets it before a run and changes it between runs.

    Args:
        reply: as in `ScriptedEndpoint`.
        at: called once when the request of this number arrives, before it is answered.
    """

    def __init__(self) -> None:
        self.reply: Callable[[str], Reply | None] = lambda _question: None
        self.at: dict[int, Callable[[], None]] = {}
        self.reached = 0
        self._lock = threading.Lock()

    def __call__(self, _number: int, inputs: Mapping[str, str]) -> Reply | None:
        with self._lock:
            self.reached += 1
            todo = self.at.pop(self.reached, None)
        if todo:
            todo()
        return self.reply(inputs.get("question", ""))


class Project:
    """A project folder and the endpoint behind its models; used as a context.

    Args:
        store: a database with MLflow's tables, to copy.
        endpoint: default: one that answers by `answer`, and does what `faults` says.
    """

    def __init__(self, folder: Path, store: Path, endpoint: ScriptedEndpoint | None = None) -> None:
        self.folder, self.store = folder, store
        self.faults = Faults()
        self.endpoint = endpoint or ScriptedEndpoint(answer, reply=self.faults, key=KEY)
        self.options: dict[str, Any] = {"num_retries": 1, "timeout": 30.0}
        self.environ: dict[str, str] = {}
        self._commands = 0

    def __enter__(self) -> "Project":
        self.write("experiments/letters.py", EXPERIMENT)
        self.write("datasets/letters/dataset.toml", 'inputs = ["question"]\n')
        for split in ("train", "dev", "test"):
            rows = [{"question": f"{split} {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(ROWS)]
            self.write(f"datasets/letters/{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        self.endpoint.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.endpoint.__exit__()

    @property
    def asked(self) -> list[str]:
        """Questions that reached the endpoint."""
        return [inputs.get("question", "") for inputs in self.endpoint.asked]

    @property
    def home(self) -> Path:
        return self.folder / ".cascade"

    @property
    def journal(self) -> Journal:
        """Of the newest run."""
        return next(journals(self.home, "letters"))

    @property
    def answers(self) -> int:
        """How many the ledger holds."""
        with Ledger(self.home / "ledger.db") as ledger:
            return len(ledger)

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text("utf-8")
        assert old in text
        self.write(path, text.replace(old, new))

    def one_at_a_time(self) -> None:
        """Examples in their order, so that the first that fails is the same each time."""
        self.environ["CASCADE_THREADS"] = "1"

    def errors(self, stage: str = "0-baseline") -> dict[str, str]:
        """Error by example, of those that failed."""
        table = self.journal.read(f"{stage}/examples.json")
        return {id_: error for id_, error in zip(table["id"], table["error"], strict=True) if error}

    def run(self, *words: str, limit: int = 0, back: float = 0.0) -> Done:
        return self.start(*words, limit=limit, back=back).wait()

    def start(self, *words: str, limit: int = 0, back: float = 0.0) -> Running:
        """`cascade run letters --no-mlflow` in a process of its own, unless other words are given."""
        options = {"model": "openai/fake", "api_base": self.endpoint.url, **self.options}
        lines = [f"{name} = {_toml(value)}" for name, value in options.items()]
        self.write("pyproject.toml", "\n".join(["[tool.cascade.lm.default]", *lines, ""]))
        self._commands += 1
        out = self.folder / f"command-{self._commands}.out"
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "OPENAI_API_KEY": KEY, "CASCADE_THREADS": "4",
                   "LITELLM_LOCAL_MODEL_COST_MAP": "True", **self.environ}  # fmt: skip
        arguments = (list(words) or ["run", "letters", "--no-mlflow"], str(self.folder), environ, str(out), limit, back)
        process = _forking().Process(target=_play, args=arguments)
        process.start()
        return Running(process, out)

    def tidy(self, text: str) -> str:
        """The text without what differs from one time to the next: folders, run ids, ports, times; and intervals."""
        text = text.replace(str(self.folder), "…").replace(str(self.folder.resolve()), "…")
        text = re.sub(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b", "RUN", text)
        text = re.sub(r"(127\.0\.0\.1:|port=)\d+", r"\1PORT", text)
        text = re.sub(r"\[[+-]?[\d.]+(–|, )[+-]?[\d.]+\]", "[…]", re.sub(r", [\d:]+s?$", "", text))
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", text)

    def mlflow(self, place: str = "store") -> str:
        """The URI of a MLflow database in the project, made when it is not there."""
        file = self.folder / place / "mlflow.db"
        if not file.exists():
            file.parent.mkdir(parents=True)
            shutil.copy(self.store, file)
        return f"sqlite:///{file}"


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {json.dumps(inner)}' for key, inner in value.items())}}}"
    return json.dumps(value)


def _play(*arguments: Any) -> None:
    import fault_child

    fault_child.play(*arguments)


def _forking() -> Any:
    """Processes forked from a server that has imported everything and started no thread."""
    context = multiprocessing.get_context("forkserver")
    before = dict(os.environ)
    path = os.pathsep.join(filter(None, (str(HERE), str(HERE.parents[1]), before.get("PYTHONPATH"))))
    os.environ.update({"PYTHONPATH": path, "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    context.set_forkserver_preload(["fault_child"])
    try:
        from multiprocessing.forkserver import ensure_running

        with suppress(OSError):
            ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context
