"""Servers of others that tests talk to."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    port = _free_port()
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


@contextmanager
def postgres() -> Iterator[str]:
    """A throwaway PostgreSQL cluster on the loopback interface; the URI of its database."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.fail("This test needs PostgreSQL. Install it: apt-get install postgresql", pytrace=False)
    # It refuses to run as root, and its user must reach the folder.
    user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if user:
        shutil.chown(folder, "postgres")
    command, port = str(binaries[-1] / "pg_ctl"), _free_port()
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
    quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, **user}
    try:
        subprocess.run(
            [str(binaries[-1] / "initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "mlflow"], check=True, **quiet
        )
        subprocess.run(
            [command, "-D", f"{folder}/data", "-l", f"{folder}/log", "-o", options, "-w", "start"], check=True, **quiet
        )
        try:
            yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([command, "-D", f"{folder}/data", "-m", "immediate", "stop"], check=True, **quiet)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
