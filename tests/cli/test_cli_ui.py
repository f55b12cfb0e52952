import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from cascade.cli.links import experiments_page


def test_a_taken_port_is_one_line(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = project.cascade("ui", "--port", str(port))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"cascade: Port {port} is taken. End what listens there, or give another, such as --port {port + 1}.\n"
    )


def test_a_store_that_is_a_server_is_linked_without_its_password(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000/")
    done = project.cascade("ui")
    assert (done.code, done.out) == (0, "http://host:5000/#/experiments?workflowType=machine_learning\n")
    assert "secret" not in project.cascade("ui", "--json").out


def test_the_page_is_that_of_the_experiment_that_ran_last(tmp_path):
    for experiment, run, number in [("b", "2026-1", "7"), ("a", "2026-2", "8"), ("c", "2026-3", None)]:
        folder = tmp_path / "runs" / experiment / run
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        if number:
            (folder / "published.json").write_text(json.dumps({"experiment_id": number, "run_id": "r"}))
    page = "/#/experiments/8/runs?workflowType=machine_learning&viewStateShareKey=cascades"
    assert experiments_page(tmp_path) == page
    assert experiments_page(tmp_path / "nothing") == "/#/experiments?workflowType=machine_learning"


@pytest.fixture
def server(project) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from cascade.cli import main; sys.exit(main(['ui', '--port', '0', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where tests run in the background, Ctrl-C would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_the_server_answers_and_ends_with_ctrl_c(server):
    lines = [server.stdout.readline()]
    while lines[-1] not in ("", "}\n"):
        lines.append(server.stdout.readline())
    document = json.loads("".join(lines))
    url = document["url"].partition("#")[0]
    with urllib.request.urlopen(url) as page:
        assert b"MLflow" in page.read()
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=30)
    assert (server.returncode, out) == (0, "")
    assert err == "Starting MLflow …\nCtrl-C ends it.\nMLflow has ended.\n"
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system calls it
        urllib.request.urlopen(url)
