"""`cascade serve` on the real embedded model: typed answers, two programs on one engine, a switch under load."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow_journals
import pytest
from by_hand_versions import Shop, eventually
from processes import Process, started

import cascade
from cascade.lm.embedded import Models
from cascade.mlflow_store import load_program

pytestmark = [pytest.mark.slow, pytest.mark.embedded, pytest.mark.timeout(1500)]
ANIMALS = mlflow_journals.FACTORY.replace(
    'dspy.Predict("question -> answer")',
    "dspy.Predict(dspy.Signature(\"question -> answer: Literal['cat', 'dog']\", custom_types={\"Literal\": Literal}))",
).replace("import dspy", "from typing import Literal\n\nimport dspy")
QUESTIONS = ["My cat purrs. Cat or dog?", "The dog barks at the post. Cat or dog?", "It hunts mice. Cat or dog?"]
EMBEDDED = dict.fromkeys(("task", "prompt", "teacher", "student"), "embedded/smollm2-135m")


@pytest.fixture
def animals(shop: Shop) -> Shop:
    """Two versions on the embedded model, which show one demo and two."""
    store = Path(os.environ.get("CASCADE_HOME") or Path(__file__).parents[3] / ".cascade")
    Models(store).prepare()
    models = shop.settings.home / "models"
    models.mkdir(parents=True)
    for file in (store / "models").glob("smollm2-135m.*"):
        shutil.copy2(file, models / file.name)
    file = shop.folder / "experiments" / "qa.py"
    file.parent.mkdir()
    file.write_text(ANIMALS)
    shop.publish("champion", lms=EMBEDDED)
    shop.publish("challenger", lms=EMBEDDED)
    return shop


@pytest.fixture
def server(animals: Shop) -> Iterator[Process]:
    environ = {
        **os.environ, "PYTHONPATH": str(Path(cascade.__file__).parents[1]), "MLFLOW_TRACKING_URI": animals.uri,
        "CASCADE_HOME": str(animals.settings.home),
    }  # fmt: skip
    words = ["serve", "qa", "--port", "0", "--json", "--refresh", "0.5", "--timeout", "300", "--challenger", "50%"]
    command = [sys.executable, "-c", "import sys; from cascade.cli import main; sys.exit(main())", *words]
    log = animals.folder / "serve.log"
    with log.open("w") as written:
        child = subprocess.Popen(
            command, env=environ, cwd=animals.folder, stdout=subprocess.PIPE, stderr=written, text=True
        )
        with started(child, log) as process:
            yield process


def test_it_answers_what_the_programs_answer_and_switches(animals: Shop, server: Process) -> None:
    here = {number: load_program(f"models:/qa/{number}", animals.settings) for number in ("1", "2")}
    expected = {(number, q): program(question=q).answer for number, program in here.items() for q in QUESTIONS}
    found: list[tuple[int, str, str, str]] = []
    over = threading.Event()

    def customer(name: int) -> None:
        with httpx.Client(timeout=600, base_url=server.url) as client:
            turn = 0
            while not over.is_set():
                question, turn = QUESTIONS[turn % len(QUESTIONS)], turn + 1
                told = client.post("/predict", json={"question": question, "user": f"{name}-{turn}"})
                document = told.json()
                answer = document.get("outputs", {}).get("answer", told.text)
                found.append((told.status_code, document.get("version", ""), question, answer))

    made = [threading.Thread(target=customer, args=(name,)) for name in range(3)]
    for one in made:
        one.start()
    eventually(lambda: {"1", "2"} <= {version for _, version, _, _ in found}, 300)
    animals.point("challenger", "")
    animals.point("champion", "2")
    eventually(lambda: len(found) > 12 and {version for _, version, _, _ in found[-6:]} == {"2"}, 300)
    over.set()
    for one in made:
        one.join()
    assert {status for status, _, _, _ in found} == {200}
    assert [one for one in found if one[3] != expected[one[1], one[2]]] == []
    assert {answer for _, _, _, answer in found} <= {"cat", "dog"}
    schemas = httpx.get(f"{server.url}/openapi.json", timeout=60).json()["components"]["schemas"]
    assert schemas["Outputs"]["properties"]["answer"]["enum"] == ["cat", "dog"]
    assert server.end(number=signal.SIGTERM) == 0
