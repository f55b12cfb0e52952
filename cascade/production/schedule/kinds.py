"""What can start a night, and what this machine has of it."""

import os
import shutil
import subprocess
import tempfile
from enum import StrEnum
from pathlib import Path

from cascade.errors import CascadeError

PATIENCE = 20.0
"""Seconds that `crontab` or `systemctl` may take."""
_FIX = {"crontab": "Install cron (apt-get install cron), or schedule with --as systemd, github or kubernetes."}


class Kind(StrEnum):
    """Who starts the night. The last three are files to put elsewhere; `gate` is the check of a pull request."""

    CRON = "cron"
    SYSTEMD = "systemd"
    GITHUB = "github"
    GATE = "gate"
    KUBERNETES = "kubernetes"

    @property
    def installed(self) -> bool:
        """Whether it is put on this machine, and not only printed."""
        return self in (Kind.CRON, Kind.SYSTEMD)


def kind_here() -> Kind:
    """A timer where the user's systemd answers, else the crontab.

    Raises:
        CascadeError: this machine has neither.
    """
    if user_manager_answers():
        return Kind.SYSTEMD
    if shutil.which("crontab"):
        return Kind.CRON
    raise CascadeError(
        "Neither a user manager of systemd nor `crontab` is here to start a night. Install cron (apt-get install "
        "cron), or print a file for another machine with --as github or --as kubernetes."
    )


def user_manager_answers() -> bool:
    """Whether `systemctl --user` reaches a manager that runs timers."""
    try:
        answer = run(["systemctl", "--user", "is-system-running"])
    except CascadeError:
        return False
    return answer.stdout.strip() in (b"running", b"degraded", b"starting", b"initializing")


def run(command: list[str], given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """A command that ended, whatever its exit code.

    Raises:
        CascadeError: it is not there, or did not end.
    """
    try:
        # What programs say is read, so they say it in English.
        return subprocess.run(
            command, input=given, capture_output=True, check=False, timeout=PATIENCE, env={**os.environ, "LC_ALL": "C"}
        )
    except FileNotFoundError:
        raise CascadeError(f"{command[0]!r} is not here. {_FIX.get(command[0], 'Install it.')}") from None
    except subprocess.TimeoutExpired:
        raise CascadeError(f"`{' '.join(command)}` did not end within {PATIENCE:.0f} s. Try it by hand.") from None


def write(path: Path, text: str, mode: int) -> None:
    """Replace a file whole, so that who reads the old one reads it to its end.

    Raises:
        CascadeError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        os.chmod(file.name, mode)
        os.replace(file.name, path)
    except OSError as error:
        raise CascadeError(
            f"{path} cannot be written ({error.strerror}). Make room, or give yourself the folder."
        ) from None


def said(process: subprocess.CompletedProcess[bytes]) -> str:
    """What a command said on stderr, else on stdout, in one line."""
    return " ".join((process.stderr.strip() or process.stdout).decode("utf-8", "replace").split())[:300] or "nothing"
