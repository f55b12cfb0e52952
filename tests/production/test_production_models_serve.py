"""`mlflow models serve`: the champion behind MLflow's own server answers what it answers here."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from by_hand_versions import Shop, answer

import cascade
from cascade.mlflow_store import load_program
from cascade.testing.endpoint import ScriptedEndpoint

BIN = Path(sys.executable).parent
KEY = "any-0123456789"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ScriptedEndpoint(answer, key=KEY) as made:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_API_BASE", made.url)
        yield made.url


@pytest.fixture
def server(shop: Shop, endpoint: str) -> Iterator[str]:
    """Its address, once it answers."""
    shop.publish("champion")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    there = shop.folder / "there"
    there.mkdir()
    environ = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(cascade.__file__).parents[1]),
        "MLFLOW_TRACKING_URI": shop.uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DSPY_CACHEDIR": str(shop.folder / "cache"),
    }
    command = [
        BIN / "mlflow",
        "models",
        "serve",
        "-m",
        "models:/qa@champion",
        "--env-manager",
        "local",
        "-p",
        str(port),
    ]
    with (shop.folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=there, env=environ, stdout=log, stderr=log, start_new_session=True)
    try:
        yield _up(process, f"http://127.0.0.1:{port}", shop.folder / "server.log")
    finally:
        process.terminate()
        process.wait(60)


def _up(process: subprocess.Popen[bytes], url: str, log: Path) -> str:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return url
        except (OSError, urllib.error.URLError):
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_answers_what_the_program_answers_here(server: str, shop: Shop) -> None:
    rows = [{"question": "one"}, {"question": "two"}]
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(f"{server}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as told:
        predictions: Any = json.load(told)["predictions"]
    here = load_program("models:/qa@champion", shop.settings)
    assert predictions == [here.fields(row) for row in rows] == [{"answer": "one, says 1"}, {"answer": "two, says 1"}]
