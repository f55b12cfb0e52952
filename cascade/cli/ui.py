"""`cascade ui`: MLflow's own server on the project's store, for this machine only.

Invariant: the server listens on the loopback interface, ends with this command, and shows no password in the list of
processes.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.parts import Json, print_json
from cascade.errors import CascadeError

if TYPE_CHECKING:
    from cascade.settings import Settings

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds in which the server must answer; a new database takes a while."""
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Where the server listens; 0 takes a free port.")]


def ui(port: Port = 5000, as_json: Json = False) -> None:
    """Open MLflow on this project's runs, until Ctrl-C.

    Example: cascade ui --port 5001
    """
    from cascade.cli.links import experiments_page
    from cascade.mlflow_store.store import redact
    from cascade.settings import load_settings

    settings = load_settings()
    uri, page = settings.tracking_uri, experiments_page(settings.home)
    if uri.startswith(("http://", "https://")):
        _announce(redact(uri).replace("***@", "").rstrip("/"), page, redact(uri), as_json)
        return
    port = _free(port)
    url = f"http://{HOST}:{port}"
    with _terminating(), _server(settings, port) as server:
        print("Starting MLflow …", file=sys.stderr, flush=True)
        _wait(server, url, settings.home / "ui.log")
        _announce(url, page, redact(uri), as_json)
        print("Ctrl-C ends it.", file=sys.stderr, flush=True)
        if code := server.wait():
            raise _ended(code, settings.home / "ui.log")


def _announce(url: str, page: str, tracking_uri: str, as_json: bool) -> None:
    if as_json:
        print_json({"url": url + page, "tracking_uri": tracking_uri})
    else:
        print(url + page)
    sys.stdout.flush()


def _free(port: int) -> int:
    """The port, or a free one for 0; raises `CascadeError` when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise CascadeError(
                f"Port {port} is taken. End what listens there, or give another, such as --port {port + 1}."
            ) from None
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _server(settings: "Settings", port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, in a process group of its own that ends with this block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "ui.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=settings.project, env=_environment(settings), stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield server
    except KeyboardInterrupt:
        print("MLflow has ended.", file=sys.stderr)
    finally:
        _end(server)


def _environment(settings: "Settings") -> dict[str, str]:
    from cascade.mlflow_store.store import ENVIRONMENT

    wanted = {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    return {**ENVIRONMENT, **os.environ, **wanted}


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    # No proxy: it is this machine that is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if (code := server.poll()) is not None:
            raise _ended(code, log)
        with contextlib.suppress(OSError), opener.open(f"{url}/health", timeout=2):
            return
        time.sleep(0.2)
    raise CascadeError(f"MLflow did not answer at {url} within {PATIENCE:.0f} s. What it said is in {log}.")


def _ended(code: int, log: Path) -> CascadeError:
    from cascade.mlflow_store.store import redact

    said = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    last = redact(said[-1])[:300] if said else "nothing"
    return CascadeError(f"MLflow's server ended with code {code}. Its last words: {last}. All of them: {log}.")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the whole group: the server has children of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)
            return


@contextlib.contextmanager
def _terminating() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the server as Ctrl-C does."""

    def stop(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
