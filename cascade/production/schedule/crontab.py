"""The user's crontab: one line of ours an experiment, and all other lines as they are.

Invariant: a crontab that could not be read is not written.
"""

import re
from pathlib import Path

from cascade.errors import CascadeError
from cascade.production.schedule.entry import At, Schedule, named_in
from cascade.production.schedule.kinds import run, said
from cascade.production.schedule.quoting import for_cron

_ENTRY = re.compile(r"\s*([0-9]+) ([0-9]+) \* \* \* ")


def line(schedule: Schedule) -> str:
    """The entry, without a line break."""
    return f"{schedule.at.cron} /bin/sh {for_cron(str(schedule.script))} {_mark(schedule)}"


def without(text: str, schedule: Schedule) -> str:
    """A crontab without the entry of this project and experiment; the rest byte for byte."""
    return "".join(kept for kept in _lines(text) if not kept.rstrip("\n").endswith(_mark(schedule)))


def with_entry(text: str, schedule: Schedule) -> str:
    """A crontab with one entry of this project and experiment, at the end."""
    rest = without(text, schedule)
    return f"{rest}{'' if rest.endswith(chr(10)) or not rest else chr(10)}{line(schedule)}\n"


def entries(text: str, project: Path) -> list[tuple[str, At, str]]:
    """Name, time and line of each entry of a project."""
    found = []
    for entry in map(str.rstrip, _lines(text)):
        name = named_in(entry.replace(r"\%", "%"), project)
        if name is not None and (match := _ENTRY.match(entry)):
            found.append((name, At(int(match[2]), int(match[1])), entry))
    return found


def read() -> str:
    """The user's crontab, "" if there is none; bytes that are no UTF-8 survive writing it back.

    Raises:
        CascadeError: there is no `crontab`, or it does not let the user read.
    """
    listed = run(["crontab", "-l"])
    if listed.returncode == 0:
        return listed.stdout.decode("utf-8", "surrogateescape")
    # Debian's and others', and BusyBox's.
    if re.search(rb"no crontab for|No such file or directory", listed.stderr):
        return ""
    raise CascadeError(f"`crontab -l` failed: {said(listed)}. Nothing was changed. Try it by hand.")


def write(text: str) -> None:
    """Replace the user's crontab.

    Raises:
        CascadeError: cron did not take it.
    """
    # Who had no crontab has none again.
    command = ["crontab", "-"] if text else ["crontab", "-r"]
    written = run(command, text.encode("utf-8", "surrogateescape"))
    if written.returncode:
        raise CascadeError(f"`{' '.join(command)}` did not take the new crontab: {said(written)}. See `crontab -l`.")


def _lines(text: str) -> list[str]:
    """With their ends; only a line feed ends a line."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _mark(schedule: Schedule) -> str:
    return schedule.mark.replace("%", r"\%")
