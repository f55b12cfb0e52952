"""From a run to production and back, as a user does it: `make`, the commands, a real server of MLflow, a real model."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from servers import mlflow_server

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
DEMOS = 'stages=[Stage("demos", dspy.LabeledFewShot, k=8)],'
WEIGHTS = """stages=[
        Stage("weights", BootstrapFinetune, max_labeled_rows=120, exclude_demos=True, train_kwargs={"epochs": 4}),
    ],"""
USERS = 500
SATISFIED = {"champion": 0.45, "challenger": 0.85}
"""How likely an answer of either arm pleases a simulated user."""


@dataclass
class Project:
    """A project as a user has it: files of this one, and one command after the other."""

    folder: Path
    environment: dict[str, str]
    failed: list[str] = field(default_factory=list)

    def define(self, stages: str) -> None:
        text = (ROOT / "experiments" / "qa.py").read_text("utf-8").replace("stages=small(),", stages)
        text = text.replace("from cascade.recipes import small\n", "from cascade.optimizers import BootstrapFinetune\n")
        text = text.replace(
            "import Budget, Dataset, Experiment, Plateau, metric",
            "import Budget, Dataset, Experiment, Plateau, Stage, metric",
        )
        (self.folder / "experiments" / "qa.py").write_text(text.replace("minutes=60", "minutes=600"), "utf-8")

    def make(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        return self._run(["make", "--no-print-directory", *words], codes)

    def cascade(self, *words: str, codes: tuple[int, ...] = (0,)) -> Any:
        return json.loads(self._run([str(self.folder / ".venv/bin/cascade"), *words, "--json"], codes))

    def _run(self, command: list[str], codes: tuple[int, ...]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in codes, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "project"
    for name in ("experiments", "datasets"):
        (folder / name).mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        os.utime(shutil.copy(ROOT / name, folder / name), (0, 0))  # nothing is to be installed again
    shutil.copytree(ROOT / "datasets" / "qa", folder / "datasets" / "qa")
    (folder / ".venv").symlink_to(sys.prefix)
    store = Path(os.environ.get("CASCADE_HOME") or ROOT / ".cascade")
    (folder / ".cascade" / "models").mkdir(parents=True)
    for file in (store / "models").glob("smollm2-135m.*"):
        shutil.copy2(file, folder / ".cascade" / "models" / file.name)
    with mlflow_server(tmp_path) as uri:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
        yield Project(folder, {**environment, "MLFLOW_TRACKING_URI": uri})


@contextmanager
def serving(project: Project, *options: str) -> Iterator[str]:
    """`cascade serve qa` on a free port; its address."""
    command = [str(project.folder / ".venv/bin/cascade"), "serve", "qa", "--port", "0", "--refresh", "1", "--json"]
    with (project.folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *options],
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("}"):
                break
        assert said, (project.folder / "serve.log").read_text()[-3000:]
        yield json.loads(said)["url"]
    finally:
        process.terminate()
        assert process.wait(60) == 0, (project.folder / "serve.log").read_text()[-3000:]


def post(url: str, body: dict[str, Any], key: str = "") -> Any:
    headers = {"Content-Type": "application/json", **({"X-Cascade-Key": key} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120) as answer:
        return json.loads(answer.read())


class Client(threading.Thread):
    """Asks without a pause until it is stopped, and keeps what failed and which versions answered."""

    def __init__(self, url: str, questions: list[str]) -> None:
        super().__init__()
        self.url, self.questions = url, questions
        self.versions: list[str] = []
        self.failed: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            try:
                self.versions.append(
                    post(f"{self.url}/predict", {"question": self.questions[number % len(self.questions)]})["version"]
                )
            except (OSError, urllib.error.HTTPError) as error:
                self.failed.append(str(error))
            number += 1

    def until(self, version: str) -> None:
        """Wait until a version answers."""
        for _ in range(600):
            if version in self.versions[-1:]:
                return
            self.ended.wait(0.2)
        pytest.fail(f"version {version} never answered: {self.versions[-3:]}, {self.failed[-3:]}")


def test_the_whole_story(project: Project) -> None:
    questions = [
        json.loads(line)["question"] for line in (project.folder / "datasets/qa/dev.jsonl").read_text().splitlines()
    ]

    project.define(DEMOS)
    project.make("cascade", "EXP=qa")
    project.make("promote", "EXP=qa", "ARGS=--force --note first")
    project.define(WEIGHTS)
    project.make("cascade", "EXP=qa")

    with serving(project, "--challenger", "50%") as url:
        pleased = preferences(url, questions)
        assert len(pleased) == USERS
        told = project.cascade("ab", "qa")
        assert told["verdict"] == "better"
        client = Client(url, questions)
        client.start()
        try:
            client.until("1")
            project.make("promote", "EXP=qa")
            client.until("2")
            project.cascade("rollback", "qa", "--note", "practice")
            client.until("1")
        finally:
            client.ended.set()
            client.join()
        assert client.failed == []

    history = project.cascade("show", "qa", "--history")
    assert (history["champion"], history["rejected"]) == ("1", ["2"])
    first = project.make("nightly", "EXP=qa")
    second = project.make("nightly", "EXP=qa")
    assert first and second
    assert project.cascade("show", "qa", "--history") == history


def preferences(url: str, questions: list[str]) -> list[bool]:
    """`USERS` users who ask, and say whether they are pleased."""
    draw = random.Random(1)
    lots = [draw.random() for _ in range(USERS)]

    def user(number: int) -> bool:
        answer = post(f"{url}/predict", {"question": questions[number % len(questions)]}, key=f"user-{number}")
        pleased = lots[number] < SATISFIED[answer["arm"]]
        post(f"{url}/feedback", {"request_id": answer["request_id"], "value": pleased})
        return pleased

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(user, range(USERS)))
