"""The faults of MLflow: down, killed, hanging, silent; at the start, in the middle, at the end.

In the manner of `fault_cases`.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fault_cases import WHOLE, Seen
from fault_project import ROWS, Project, until

from cascade.mlflow_store import store

RUN = ("run", "letters")


def mlflow_down(project: Project) -> Seen:
    """MLflow is down from the start"""
    project.environ["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    done = project.run(*RUN)
    assert "MLflow:  not sent yet; the next run sends it" in done.out
    assert f"Journal: {project.journal.folder}" in done.out
    _back(project, project.mlflow(), 2)
    return Seen(done.line("warning: "), done.code, "everything, in the journal", "the next run sends both, by itself")


def mlflow_down_in_the_middle(project: Project) -> Seen:
    """MLflow goes down in the middle"""
    return _gone_at(project, ROWS + 5)


def mlflow_down_at_the_end(project: Project) -> Seen:
    """MLflow goes down at the end"""
    return _gone_at(project, WHOLE)


def mlflow_down_for_a_while(project: Project) -> Seen:
    """MLflow is down at the start and back before the end"""
    uri, folder, away = _store(project)
    _vanish(folder, away)
    project.faults.at[WHOLE] = lambda: _return(folder, away)
    done = project.run(*RUN)
    assert runs(uri) == 1
    return Seen(
        done.line("warning: "), done.code, "everything, in the journal", "the same run sends all of it when it ends"
    )


class Healthy(BaseHTTPRequestHandler):
    """A MLflow that says it is well and answers nothing else."""

    closed = threading.Event()

    def do_GET(self) -> None:
        if self.path != "/health":
            self.closed.wait(60)
            return
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


def mlflow_hangs(project: Project) -> Seen:
    """MLflow says it is well and hangs"""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    project.environ |= {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_port}",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
    }
    try:
        done = project.run(*RUN)
    finally:
        Healthy.closed.set()
        server.shutdown()
        server.server_close()
    assert done.code == 0
    _back(project, project.mlflow(), 2)
    said = done.line("warning: ").partition("(Caused by")[0] + "…"
    return Seen(
        said,
        done.code,
        "everything, in the journal",
        "a request is given up after 30 s (here 1), twice; the next run sends both",
    )


def mlflow_killed(project: Project) -> Seen:
    """MLflow's server is killed in the middle and started again later"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = [_served(project, port)]
    project.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    try:
        project.faults.at[ROWS + 5] = lambda: _kill(server[0])
        done = project.run(*RUN)
        assert done.code == 0
        server.append(_served(project, port))
        _back(project, project.environ["MLFLOW_TRACKING_URI"], 2)
    finally:
        _kill(server[-1])
    said = done.line("no server answers there")
    return Seen(said, done.code, "everything, in the journal", "the next run sends what is missing, and nothing twice")


def mlflow_silent(project: Project) -> Seen:
    """MLflow takes the connection and never answers"""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        project.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        done = project.run(*RUN)
    assert done.code == 0
    _back(project, project.mlflow(), 2)
    return Seen(
        done.line("warning: "),
        done.code,
        "everything, in the journal",
        "each attempt is given up after 5 s; the next run sends both",
    )


def _gone_at(project: Project, number: int) -> Seen:
    uri, folder, away = _store(project)
    project.faults.at[number] = lambda: _vanish(folder, away)
    done = project.run(*RUN)
    assert done.code == 0
    folder.unlink()
    away.rename(folder)
    assert runs(uri, "completed") == 0, "it could not be sent in full"
    _back(project, uri, 2)
    return Seen(
        done.line("[Errno 17]"),  # a write that is under way at that moment may tell of another reason before
        done.code,
        "everything, in the journal",
        "the next run sends what is missing, and nothing twice",
    )


def _served(project: Project, port: int) -> subprocess.Popen[bytes]:
    """A real MLflow server over the project's database, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    options = ["--backend-store-uri", project.mlflow(), "--artifacts-destination", str(project.folder / "artifacts")]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with (project.folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [*command, *options],
            env={**os.environ, **environ, "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until(lambda: _answers(port), 120)
    return server


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
        return bool(reply.status == 200)
    return False


def _kill(server: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


def _store(project: Project) -> tuple[str, Path, Path]:
    uri = project.environ["MLFLOW_TRACKING_URI"] = project.mlflow()
    return uri, project.folder / "store", project.folder / "store.away"


def _vanish(folder: Path, away: Path) -> None:
    folder.rename(away)
    folder.write_text("not a folder")


def _return(folder: Path, away: Path) -> None:
    folder.unlink()
    away.rename(folder)


def _back(project: Project, uri: str, cascades: int) -> None:
    project.environ["MLFLOW_TRACKING_URI"] = uri
    asked = len(project.asked)
    again = project.run(*RUN)
    assert (again.code, len(project.asked)) == (0, asked)
    assert "warning" not in again.err
    assert runs(uri, "completed") == cascades


def runs(uri: str, status: str = "") -> int:
    """Cascades that MLflow shows."""
    with store.reaching(uri, "could not be read", ""):
        client = store.connect(uri)
        found = client.search_runs(
            [one.experiment_id for one in client.search_experiments()], "tags.`cascade.kind` = 'cascade'"
        )
    return sum(run.data.tags["cascade.status"].startswith(status) for run in found)


CASES: tuple[Callable[[Project], Seen], ...] = (
    mlflow_down,
    mlflow_killed,
    mlflow_hangs,
    mlflow_down_in_the_middle,
    mlflow_down_at_the_end,
    mlflow_down_for_a_while,
    mlflow_silent,
)
