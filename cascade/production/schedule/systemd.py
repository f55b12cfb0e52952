"""A timer of the user's systemd and the service that it starts.

Invariant: only units whose name and first line are ours are written, replaced or taken away.
"""

import os
import re
from pathlib import Path

from cascade.errors import CascadeError
from cascade.production.schedule import rendering
from cascade.production.schedule.entry import At, Schedule, named_in
from cascade.production.schedule.kinds import run, said, write

_TIME = re.compile(r"^OnCalendar=\*-\*-\* ([0-9]{2}):([0-9]{2}):00$", re.MULTILINE)


def folder() -> Path:
    """Where the user's units are."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def units(schedule: Schedule) -> dict[Path, str]:
    """The timer and its service, by the file that holds each."""
    stem = folder() / f"cascade-{schedule.stem}"
    return {
        stem.with_name(f"{stem.name}.timer"): rendering.timer(schedule),
        stem.with_name(f"{stem.name}.service"): rendering.service(schedule),
    }


def entries(project: Path) -> list[tuple[str, At, Path]]:
    """Name, time and timer of each experiment of a project that has one."""
    found = []
    for path in sorted(folder().glob("cascade-*.timer")):
        text = path.read_text("utf-8", "replace")
        name = named_in(text.partition("\n")[0], project)
        if name is not None and (match := _TIME.search(text)):
            found.append((name, At(int(match[1]), int(match[2])), path))
    return found


def install(schedule: Schedule) -> None:
    """Write the units and start the timer, also where it was there under another time.

    Raises:
        CascadeError: a file cannot be written, or systemd does not take it.
    """
    timer, service = units(schedule)
    for path, text in units(schedule).items():
        write(path, text, 0o644)
    try:
        _control("daemon-reload")
        _control("enable", timer.name)
        _control("restart", timer.name)
    except CascadeError:
        for path in (timer, service):
            path.unlink()
        raise


def remove(schedule: Schedule) -> bool:
    """Stop the timer and take the units away; a night that is under way goes on. Says whether there was one.

    Raises:
        CascadeError: systemd does not stop it.
    """
    timer, service = units(schedule)
    if not timer.exists():
        return False
    _control("disable", "--now", timer.name)
    # When it last ran would else start a night at once where it is scheduled again.
    run(["systemctl", "--user", "clean", "--what=state", timer.name])
    for path in (timer, service):
        path.unlink(missing_ok=True)
    _control("daemon-reload")
    return True


def lingers() -> bool:
    """Whether the user's timers run while the user is not logged in."""
    try:
        return run(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"]).stdout.strip() == b"yes"
    except CascadeError:
        return False


def _control(*words: str) -> None:
    done = run(["systemctl", "--user", *words])
    if done.returncode:
        raise CascadeError(
            f"`systemctl --user {' '.join(words)}` failed: {said(done)}. Where no user manager runs, use --as cron."
        )
