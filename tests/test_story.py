"""From a run to production and back, as a user does it: `make`, the commands, MLflow's server, a database, a real model."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from servers import mlflow_server, postgres

pytestmark = [pytest.mark.embedded, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[1]
DEMOS = 'Stage("demos", dspy.LabeledFewShot, k=2)'
WEIGHTS = 'Stage("weights", BootstrapFinetune, max_labeled_rows=120, exclude_demos=True, train_kwargs={"epochs": 4})'
USERS = 500
SATISFIED = {"champion": 0.45, "challenger": 0.85}
"""How likely an answer of either arm pleases a simulated user."""
UNHEARD_OF = {
    "since the carpet was cleaned my docking station only charges the laptop": "hardware",
    "every label I send to the warehouse Zebra comes out blank": "printer",
    "the ring light hums and nobody in Oslo hears me speak": "sound",
    "yesterday's budget workbook vanished after I renamed the folder": "lost file",
}
"""Questions that stand in no split, and what the people who ask them say is right."""


@dataclass
class Project:
    """A project as a user has it: files of this one, and one command after the other."""

    folder: Path
    environment: dict[str, str]

    def define(self, stage: str) -> None:
        """One stage, and a budget that a night keeps, too."""
        text = (ROOT / "experiments" / "qa.py").read_text("utf-8")
        for old, new in (
            ("stages=small(),", f"stages=[{stage}],"),
            ("from cascade.recipes import small\n", "from cascade.optimizers import BootstrapFinetune\n"),
            ("Plateau, metric", "Plateau, Stage, metric"),
            ("Budget(lm_calls=5_000, minutes=60)", "Budget(lm_calls=1_500)"),
        ):
            assert old in text
            text = text.replace(old, new)
        (self.folder / "experiments" / "qa.py").write_text(text, "utf-8")

    def make(self, *words: str) -> str:
        return self._run(["make", "--no-print-directory", *words])

    def cascade(self, *words: str) -> Any:
        return json.loads(self._run([str(self.folder / ".venv/bin/cascade"), *words, "--json"]))

    def _run(self, command: list[str]) -> str:
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        print(f"{' '.join(command[1:])}: {time.monotonic() - began:.0f} s\n{done.stderr}{done.stdout[:2000]}")
        return done.stdout

    def state(self) -> dict[str, str]:
        """Hashes of all that lies in the project, but for what SQLite keeps beside its files."""
        files = (path for part in (".cascade", "datasets") for path in (self.folder / part).rglob("*"))
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
        }


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "project"
    (folder / "experiments").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        os.utime(shutil.copy(ROOT / name, folder / name), (0, 0))  # nothing is to be installed again
    shutil.copytree(ROOT / "datasets" / "qa", folder / "datasets" / "qa")
    for name in ("dev", "test"):
        halve(folder / "datasets" / "qa" / f"{name}.jsonl")
    (folder / ".venv").symlink_to(sys.prefix)
    store = Path(os.environ.get("CASCADE_HOME") or ROOT / ".cascade")
    (folder / ".cascade" / "models").mkdir(parents=True)
    for file in (store / "models").glob("smollm2-135m.*"):
        shutil.copy2(file, folder / ".cascade" / "models" / file.name)
    with postgres() as database, mlflow_server(tmp_path, database) as uri:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
        yield Project(folder, {**environment, "MLFLOW_TRACKING_URI": uri})


def halve(split: Path) -> None:
    """Keep two questions of each scenario, which are four: groups are what counts as evidence, and questions cost time."""
    kept, seen = list[str](), Counter[str]()
    for line in split.read_text("utf-8").splitlines(keepends=True):
        scenario = json.loads(line)["scenario"]
        seen[scenario] += 1
        kept += [line] if seen[scenario] <= 2 else []
    split.write_text("".join(kept), "utf-8")


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
        process.communicate(timeout=60)
        assert process.returncode == 0, (project.folder / "serve.log").read_text()[-3000:]


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
            question = self.questions[number % len(self.questions)]
            try:
                self.versions.append(post(f"{self.url}/predict", {"question": question})["version"])
            except (OSError, urllib.error.HTTPError) as error:
                self.failed.append(str(error))
            number += 1

    def until(self, version: str) -> None:
        """Wait until it has been answered by a version ten times in a row, as by what serves alone."""
        for _ in range(600):
            if self.versions[-10:] == [version] * 10:
                return
            self.ended.wait(0.2)
        pytest.fail(f"version {version} never answered: {self.versions[-3:]}, {self.failed[-3:]}")


def test_the_whole_story(project: Project) -> None:
    rows = (json.loads(line) for line in (project.folder / "datasets/qa/dev.jsonl").read_text().splitlines())
    questions = [*(row["question"] for row in rows), *UNHEARD_OF]

    project.define(DEMOS)
    project.make("cascade", "EXP=qa")
    project.make("promote", "EXP=qa", "ARGS=--force --note first")
    project.define(WEIGHTS)
    project.make("cascade", "EXP=qa")

    with serving(project, "--challenger", "50%") as url:
        arms = preferences(url, questions)
        assert sum(arms.values()) == USERS
        told = project.cascade("ab", "qa")
        assert (told["verdict"], told["action"], told["counted"]) == ("better", "promote", USERS)
        assert told["interval"]["low"] < SATISFIED["challenger"] - SATISFIED["champion"] < told["interval"]["high"]
        arrived(project)
        client = Client(url, questions)
        client.start()
        try:
            project.make("promote", "EXP=qa")
            client.until("2")
            project.cascade("rollback", "qa", "--note", "practice")
            client.until("1")
        finally:
            client.ended.set()
            client.join()
        assert client.failed == []

    harvested = project.cascade("harvest", "qa")
    assert {row["question"]: row["answer"] for row in harvested["rows"]} == UNHEARD_OF
    history = project.cascade("show", "qa", "--history")
    assert (history["champion"], history["rejected"]) == ("1", ["2"])
    two_nights(project)
    assert project.cascade("show", "qa", "--history")["champion"] == "1"
    assert not project.cascade("harvest", "qa")["rows"]


def preferences(url: str, questions: list[str]) -> Counter[str]:
    """`USERS` users who ask, and say whether they are pleased, or what had been right; how many each arm answered."""
    draw = random.Random(1)
    lots = [draw.random() for _ in range(USERS)]

    def user(number: int) -> str:
        question = questions[number % len(questions)]
        answer = post(f"{url}/predict", {"question": question}, key=f"user-{number}")
        said = {"value": lots[number] < SATISFIED[answer["arm"]]}
        if right := UNHEARD_OF.get(question):
            said |= {"outputs": {"answer": right}}
        assert post(f"{url}/feedback", {"request_id": answer["request_id"], **said})["recorded"]
        return str(answer["arm"])

    with ThreadPoolExecutor(4) as pool:
        return Counter(pool.map(user, range(USERS)))


def arrived(project: Project) -> None:
    """What people said is in MLflow within a minute: an assessment by a person on each trace."""
    client = MlflowClient(project.environment["MLFLOW_TRACKING_URI"])
    place = client.get_experiment_by_name("qa").experiment_id
    for _ in range(60):
        found = [one for trace in traces(client, place) for one in trace.info.assessments]
        outcomes = [one for one in found if one.name == "outcome" and one.feedback]
        if len(outcomes) == USERS:
            break
        time.sleep(1)
    assert len(outcomes) == USERS
    assert {one.source.source_type for one in found} == {"HUMAN"}
    corrected = [one.expectation.value for one in found if one.expectation]
    assert set(corrected) == set(UNHEARD_OF.values())


def traces(client: MlflowClient, place: str) -> list[Any]:
    found, token = list[Any](), None
    while page := client.search_traces(
        locations=[place], filter_string="tags.`cascade.kind` = 'served'", page_token=token, include_spans=False
    ):
        found += page
        if not (token := page.token):
            break
    return found


def two_nights(project: Project) -> None:
    """The first takes up what was harvested; the second finds the night over and changes nothing."""
    first = project.make("nightly", "EXP=qa")
    assert f"{len(UNHEARD_OF)} new rows joined train" in first
    before = project.state()
    project.make("nightly", "EXP=qa")
    assert project.state() == before
