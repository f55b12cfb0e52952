"""Nights that cron and systemd really start.

Both run in a mount namespace of their own: crontabs, units and sockets of this machine are neither read nor changed.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from letters import answer

from cascade.production.night import Nights
from cascade.production.schedule import At, Schedule, rendering
from cascade.testing import ScriptedEndpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KEY = "sk-nobody-knows-0123456789"
LM = 'lm = "openai/gpt-5-mini"\n'
ODD = '50% of $HOME\'s "a\\b"'
"""A folder of the state that has whatever cron, systemd and shells take for theirs."""
CRON = """
mount -t tmpfs -o mode=1730,gid=crontab none /var/spool/cron/crontabs
mount -t tmpfs none /etc/cron.d
mount --bind /dev/null /etc/crontab
mount -t tmpfs none /run
printf '%s\\n' '# mine' '7 7 7 7 * touch mine' | crontab -
# The entry must be there before its minute begins, and scheduling takes some seconds.
at=$(date +%H:%M)
while [ "$(date -d '+2 seconds' +%H:%M)" = "$at" ] || [ -z "${done-}" ]; do
  at=$(date -d '+1 minute' +%H:%M) done=yes
  "$PYTHON" -P -m cascade schedule letters --as cron --at "$at" --env-file "$ENV_FILE"
done
crontab -l
exec cron -f
"""
SYSTEMD = """
mount -t tmpfs none /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
/lib/systemd/systemd --user 2>"$HOME/systemd.log" &
for _ in $(seq 100); do systemctl --user is-system-running >/dev/null 2>&1 && break; sleep 0.1; done
"$PYTHON" -P -m cascade schedule letters --at 03:17 --env-file "$ENV_FILE"
"$PYTHON" -P -m cascade schedule --list
systemctl --user list-timers --all --no-pager
timer=$(cd "$HOME/.config/systemd/user" && echo cascade-*.timer)
# As if the machine had been off for three days.
systemctl --user stop "$timer"
touch -d '3 days ago' "$HOME/.local/share/systemd/timers/stamp-$timer"
systemctl --user start "$timer"
while ! grep -qs 'ended with code' "$LOGS"/*.log; do sleep 0.2; done
"$PYTHON" -P -m cascade schedule letters --remove
systemctl --user list-timers --all --no-pager
find "$HOME" -name '*cascade*' ! -path '*/.cascade*'
kill %1; wait %1
"""


def needs(*commands: str) -> None:
    for command in commands:
        if not shutil.which(command):
            packages = {"cron": "cron", "crontab": "cron", "unshare": "util-linux"}
            pytest.fail(f"{command!r} is not here: apt-get install {packages.get(command, 'systemd')}", pytrace=False)


def test_a_command_that_is_missing_is_told():
    with pytest.raises(pytest.fail.Exception, match=r"^'systemd-nothing' is not here: apt-get install systemd$"):
        needs("sh", "systemd-nothing")


@contextmanager
def namespace(script: str, environ: dict[str, str], out: Path):
    """Runs a script as root where what it mounts is seen by nobody else."""
    if os.getuid():
        pytest.fail("Mounts of one's own need root: run these tests as root, such as in a container.", pytrace=False)
    with out.open("wb") as file:
        process = subprocess.Popen(
            ["unshare", "--mount", "bash", "-euc", script],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environ},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def environ(project, store):
    """What is in the shell that schedules; nights have the same from a file, without which no model answers them."""
    project.write("pyproject.toml", f"[tool.cascade]\nthreads = 4\n{LM}")
    home, env_file = project.folder / ODD, project.folder / "my keys.env"
    with ScriptedEndpoint(answer, key=KEY) as endpoint:
        yield made(home, env_file, endpoint.url)


def made(home: Path, env_file: Path, url: str) -> dict[str, str]:
    variables = {"CASCADE_HOME": str(home), "OPENAI_API_BASE": url, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    env_file.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    env_file.chmod(0o600)
    return {
        **variables,
        "HOME": str(env_file.parent),
        "PYTHON": sys.executable,
        "ENV_FILE": str(env_file),
        "LOGS": str(home / "schedule"),
        "XDG_RUNTIME_DIR": "/run/user/0",
    }


def logged(folder: str, seconds: float) -> str:
    """The log of the night that ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        text = "".join(path.read_text() for path in Path(folder).glob("*.log"))
        if "ended with code" in text:
            return text
        time.sleep(0.2)
    pytest.fail(f"no night ended within {seconds:.0f} s: {text!r}", pytrace=False)


def held(log: str, project):
    """The night searched, asked the model that the file of keys names, and found what beats the baseline."""
    assert "begins: cascade nightly letters" in log
    assert "Version 1 of letters passed the gate and waits: `cascade promote letters --version 1`" in log, log
    assert "There was no night before: a search is due." in log
    assert log.rstrip().endswith("ended with code 0"), log
    (night,) = Nights(project.folder / ODD, "letters").all()
    assert (night.state, night.ruled.granted, night.promoted) == ("done", True, "")


@pytest.mark.timeout(400)
def test_cron_starts_a_night(environ, project):
    needs("unshare", "crontab", "cron")
    with namespace(CRON, environ, project.folder / "out") as process:
        log = logged(environ["LOGS"], 240)
        process.terminate()
    said = (project.folder / "out").read_text()
    at = re.findall(r"^letters: every night at (\d\d:\d\d) ", said, re.MULTILINE)[-1]
    assert "# mine\n7 7 7 7 * touch mine\n" in said
    held(log, project)
    assert log[11:16] == at


@pytest.mark.timeout(400)
def test_systemd_makes_up_for_a_night(environ, project):
    needs("unshare", "systemctl", "systemd-analyze")
    with namespace(SYSTEMD, environ, project.folder / "out") as process:
        process.wait(240)
    said = (project.folder / "out").read_text()
    assert "started by systemd" in said, said
    assert "letters  03:17  systemd  " in said
    before, _, after = said.partition("letters: not started by systemd any more.")
    assert " 03:17:00 " in before
    assert "0 timers listed." in after
    assert "cascade-" not in after
    (log,) = Path(environ["LOGS"]).glob("*.log")
    held(log.read_text(), project)


def verify(folder: Path, schedule: Schedule) -> tuple[int, str]:
    units = {".timer": rendering.timer(schedule), ".service": rendering.service(schedule)}
    paths = [folder / f"cascade-{schedule.stem}{suffix}" for suffix in units]
    for path, text in zip(paths, units.values(), strict=True):
        path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *paths],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("odd", ["plain", ODD, "ü 日本", "ends in \\"])
def test_units_are_what_systemd_reads(tmp_path, odd):
    needs("systemd-analyze")
    schedule = Schedule(odd, Path("/home/me") / odd, Path("/home/me") / odd / ".cascade", Path("/bin/true"), At(2, 5))
    assert verify(tmp_path, schedule) == (0, "")


def test_a_unit_that_is_wrong_is_found(tmp_path):
    needs("systemd-analyze")
    schedule = Schedule("qa", Path("/home/me"), Path("/home/me/.cascade"), Path("/bin/true"), At(25, 0))
    code, said = verify(tmp_path, schedule)
    assert code
    assert "Failed to parse calendar specification" in said
