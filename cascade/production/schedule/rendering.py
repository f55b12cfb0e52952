"""Templates filled in: the script of a night, units of systemd, workflows of GitHub, a CronJob of Kubernetes.

Invariant: a text depends on its arguments alone, and holds names of variables, never their values.
"""

import re
import shlex
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from cascade.production.schedule import quoting
from cascade.production.schedule.entry import Schedule
from cascade.production.schedule.kinds import Kind

if TYPE_CHECKING:
    from jinja2 import Environment

LOG_BYTES = 1_000_000
"""A log that is longer when a night begins makes way for a new one; one old log is kept."""
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version that runs this."""
_FILES = {Kind.GITHUB: "nightly.yml", Kind.GATE: "gate.yml", Kind.KUBERNETES: "cronjob.yaml"}


def script(schedule: Schedule, flock: str) -> str:
    """What cron and systemd call: one night at a time, in the project, with a log.

    Args:
        flock: path of util-linux's `flock`.
    """
    return _filled("night.sh", schedule, flock=flock, log_blocks=LOG_BYTES // 512)


def service(schedule: Schedule) -> str:
    """The unit that runs a night."""
    return _filled("night.service", schedule)


def timer(schedule: Schedule) -> str:
    """The unit that starts it."""
    return _filled("night.timer", schedule)


def printed(
    schedule: Schedule,
    kind: Kind,
    *,
    zone: str,
    secrets: Sequence[str] = (),
    embedded: bool = False,
    python_version: str = PYTHON,
) -> str:
    """The file for another machine.

    Args:
        kind: `github`, `gate` or `kubernetes`.
        zone: the IANA name of the time zone in which `at` is meant.
        secrets: names of the variables that a night is given.
        embedded: whether a night asks the embedded model, which must be fetched first.
        python_version: that GitHub sets up, such as 3.12.
    """
    return _filled(_FILES[kind], schedule, zone=zone, secrets=secrets, embedded=embedded, python_version=python_version)


def object_name(schedule: Schedule, most: int = 52) -> str:
    """A name that Kubernetes takes: lower case, and no longer than it takes for a CronJob.

    >>> from pathlib import Path
    >>> from cascade.production.schedule.entry import At
    >>> object_name(Schedule("My_test", Path("/p"), Path("/p/.cascade"), Path("/p/python"), At(2, 0)))
    'cascade-my-test-b81d4a37'
    """
    plain = re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", schedule.name) and len(schedule.name) <= most - 8
    words = re.sub(r"[^a-z0-9]+", "-", schedule.name.lower()).strip("-")[: most - 18]
    return f"cascade-{schedule.name}" if plain else f"cascade-{words}-{schedule.digest}".replace("--", "-")


def _filled(template: str, schedule: Schedule, **given: object) -> str:
    return _templates().get_template(template).render(schedule=schedule, object_name=object_name(schedule), **given)


@lru_cache(maxsize=1)
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Braces and `$` are GitHub's and the shell's.
    made = Environment(
        loader=PackageLoader("cascade.production.schedule"),
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    made.filters.update(
        sh=lambda value: shlex.quote(str(value)),
        words=shlex.join,
        systemd=lambda value: quoting.for_systemd(str(value)),
        yaml=quoting.for_yaml,
        github=quoting.for_github,
        kubernetes=quoting.for_kubernetes,
    )
    return made
