"""The script of a night, run by a shell, with a stand-in for Python."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import FILE_NAMES

from cascade.production.schedule import At, Schedule, rendering

PYTHON = """#!/bin/sh
printf 'says %s\\n' "$@"
printf 'in %s\\n' "$PWD"
printf 'key %s, path %s\\n' "${KEY-unset}" "$PATH"
"""
PARTS = FILE_NAMES | st.text("%\\'\"$`; #a", min_size=1, max_size=8)


def made(folder: Path, name: str = "qa", python: str = PYTHON) -> Schedule:
    """A project with a script that calls `python`."""
    interpreter = folder / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(python)
    interpreter.chmod(0o755)
    schedule = Schedule(name, folder, folder / ".cascade", interpreter, At(2, 0))
    return written(schedule)


def written(schedule: Schedule) -> Schedule:
    schedule.script.parent.mkdir(parents=True, exist_ok=True)
    schedule.script.write_text(rendering.script(schedule, str(shutil.which("flock"))), "utf-8")
    return schedule


def night(schedule: Schedule) -> subprocess.CompletedProcess[str]:
    """Run it as cron does: from elsewhere, with hardly an environment."""
    return subprocess.run(
        ["/bin/sh", schedule.script],
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def logged(schedule: Schedule) -> list[str]:
    """The log's lines without their times."""
    return re.sub(r"^[-0-9]{10} [:0-9]{8} [-+][0-9]{4} ", "", schedule.log.read_text("utf-8"), flags=re.M).splitlines()


@settings(max_examples=40, deadline=None)
@given(PARTS, PARTS)
def test_any_project_and_name(project, name):
    with tempfile.TemporaryDirectory() as folder:
        schedule = made(Path(folder) / project, name)
        done = night(schedule)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        words = ["-P", "-m", "cascade", "nightly", *schedule.named]
        assert schedule.log.read_text("utf-8").splitlines()[1:-1] == [
            *(f"says {word}" for word in words),
            f"in {schedule.project}",
            f"key unset, path {schedule.python.parent}:/usr/bin:/bin",
        ]


def test_a_log_is_the_users_alone_and_says_when(tmp_path):
    schedule = made(tmp_path)
    night(schedule)
    first, *_, last = schedule.log.read_text().splitlines()
    assert first.endswith("begins: cascade nightly qa")
    assert last.endswith("ended with code 0")
    assert time.strptime(first[:25], "%Y-%m-%d %H:%M:%S %z")
    assert schedule.log.stat().st_mode & 0o077 == 0


def test_what_a_night_returns_is_returned_and_told(tmp_path):
    schedule = made(tmp_path, python="#!/bin/sh\necho on stdout; echo on stderr >&2; exit 3\n")
    done = night(schedule)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"cascade: ended with code 3; {schedule.log} says why\n"
    assert logged(schedule)[1:3] == ["on stdout", "on stderr"]


def test_a_night_does_not_start_while_another_runs(tmp_path):
    schedule = made(tmp_path, python="#!/bin/sh\nread line <wait; echo done\n")
    os.mkfifo(tmp_path / "wait")
    first = subprocess.Popen(["/bin/sh", schedule.script])
    try:
        while not (schedule.log.exists() and "begins" in schedule.log.read_text()):
            time.sleep(0.01)
        second = night(schedule)
        assert second.returncode == 0
        assert second.stderr == "cascade: the night before still runs: qa is not started\n"
    finally:
        (tmp_path / "wait").write_text("on\n")
        first.wait()
    assert [line.partition(":")[0] for line in logged(schedule)] == [
        "begins", "the night before still runs", "done", "ended with code 0",
    ]  # fmt: skip
    (tmp_path / "wait").unlink()
    (tmp_path / "wait").write_text("on\n")
    assert night(schedule).stderr == ""


def test_a_night_that_is_told_to_stop_says_its_end(tmp_path):
    schedule = made(tmp_path, python="#!/bin/sh\ntrap 'exit 130' TERM\necho started\nwhile :; do sleep 0.01; done\n")
    process = subprocess.Popen(["/bin/sh", schedule.script], start_new_session=True, stderr=subprocess.PIPE)
    while not (schedule.log.exists() and "started" in schedule.log.read_text()):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert logged(schedule)[-1].startswith("ended with code 130")


def test_a_long_log_makes_way_once(tmp_path):
    schedule = made(tmp_path)
    old = schedule.log.with_name(f"{schedule.log.name}.1")
    for text, kept in [("a", False), ("b", True), ("c", True)]:
        schedule.log.write_text(text * (rendering.LOG_BYTES + 1000 if kept else 1000))
        night(schedule)
        assert old.exists() == kept
        assert len(schedule.log.read_text()) < 2000
    assert set(old.read_text()) == {"c"}


def test_a_project_that_is_gone(tmp_path):
    schedule = made(tmp_path / "p")
    written(gone := replace(schedule, project=tmp_path / "q", home=schedule.home))
    assert night(gone).stderr == f"cascade: the folder {tmp_path / 'q'} is gone\n"


@pytest.mark.parametrize(("mode", "code"), [(0o600, 0), (0o400, 0), (0o640, 2), (0o644, 2), (0o660, 2), (None, 2)])
def test_keys_come_from_a_file_that_nobody_else_reads(tmp_path, mode, code):
    env_file = tmp_path / "my keys 50%.env"
    schedule = written(replace(made(tmp_path), env_file=env_file))
    if mode:
        env_file.write_text("# mine\nKEY='a b'\n")
        env_file.chmod(mode)
    done = night(schedule)
    assert done.returncode == code
    if code:
        assert done.stderr == f"cascade: {env_file} must be yours and nobody else's to read: chmod 600\n"
        assert len(logged(schedule)) == 1
    else:
        assert f"key a b, path {tmp_path / 'bin'}:/usr/bin:/bin" in logged(schedule)
