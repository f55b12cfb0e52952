"""Servers of others that tests talk to."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascade.mlflow_store import store

PATIENCE = 180.0
"""Seconds in which a server must answer."""


@contextmanager
def mlflow_server(folder: Path, backend: str = "") -> Iterator[str]:
    """`mlflow server` with artifacts of its own, on a free port.

    Args:
        backend: URI of its database; default: SQLite in the folder.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **os.environ,
        **store.ENVIRONMENT,
        "MLFLOW_BACKEND_STORE_URI": backend or f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], health: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), opener.open(health, timeout=5):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"mlflow server did not answer:\n{log.read_text()[-2000:]}", pytrace=False)
        time.sleep(0.2)
