"""What is scheduled: one experiment of one project, at a time of day.

Invariant: two projects, or two experiments, never share a mark, a unit or a file.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from cascade.errors import SettingsError


class At(NamedTuple):
    """A time of day on a 24-hour clock.

    >>> str(At.parse("2:05"))
    '02:05'
    """

    hour: int
    minute: int

    @classmethod
    def parse(cls, text: str) -> "At":
        """Read `HH:MM`; raises `SettingsError`."""
        match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text.strip())
        if not match:
            raise SettingsError(f"--at {text!r} is no time of day. Write hours and minutes, such as 02:00.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.hour:02}:{self.minute:02}"

    @property
    def cron(self) -> str:
        """The five fields of a crontab: at this time, every day."""
        return f"{self.minute} {self.hour} * * *"


@dataclass(frozen=True)
class Schedule:
    """An experiment that is tried to be beaten every night.

    Args:
        name: of the experiment.
        project: folder that holds `experiments/`; absolute.
        home: state of the project, where script, lock and log of the nights go; absolute.
        python: the interpreter that has cascade; absolute.
        at: when.
        promote: whether a challenger that passes the gate is promoted.
        env_file: assignments that a shell reads before the night, such as keys; absolute.

    Raises:
        SettingsError: a name or path with a line break or another character that cannot be printed.
    """

    name: str
    project: Path
    home: Path
    python: Path
    at: At
    promote: bool = False
    env_file: Path | None = None

    def __post_init__(self) -> None:
        for text in (self.name, *map(str, (self.project, self.home, self.python, self.env_file))):
            if not text.isprintable():
                raise SettingsError(f"{text!r} has a character that no schedule can hold. Rename it.")

    @cached_property
    def digest(self) -> str:
        """Eight hex digits that stand for project and name."""
        return hashlib.sha256(f"{self.project}\0{self.name}".encode()).hexdigest()[:8]

    @property
    def stem(self) -> str:
        """A name for files and units: letters, digits, `_`, `.` and `-`.

        >>> Schedule("my test", Path("/p"), Path("/p/.cascade"), Path("/p/python"), At(2, 0)).stem
        'my-test-bde18b13'
        """
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', self.name)[:40]}-{self.digest}"

    @property
    def mark(self) -> str:
        """The comment by which what was scheduled is found again."""
        return f"# cascade schedule: {self.name} in {self.project} ({self.digest})"

    @property
    def script(self) -> Path:
        """What cron and systemd call."""
        return self.home / "schedule" / f"{self.stem}.sh"

    @property
    def log(self) -> Path:
        """What the nights say."""
        return self.script.with_suffix(".log")

    @property
    def arguments(self) -> list[str]:
        """Words of the command after `cascade`."""
        return ["nightly", *(["--promote"] if self.promote else []), *self.named]

    @property
    def named(self) -> list[str]:
        """The name, so that no command takes it for an option."""
        return [*(["--"] if self.name.startswith("-") else []), self.name]


_MARK = re.compile(r"# cascade schedule: (.+) in (.+) \(([0-9a-f]{8})\)$")


def named_in(line: str, project: Path) -> str | None:
    """The experiment of `project` whose mark ends the line, or None."""
    match = _MARK.search(line)
    place = f" in {project}"
    text = f"{match[1]} in {match[2]}" if match else ""
    if not match or not text.endswith(place):
        return None
    name = text.removesuffix(place)
    digest = hashlib.sha256(f"{project}\0{name}".encode()).hexdigest()[:8]
    return name if digest == match[3] else None
