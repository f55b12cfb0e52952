"""What a night must be told, for it inherits nothing of the shell that scheduled it.

Invariant: names of variables are read and shown; values stay in the user's own file and in the environment.
"""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from cascade.errors import SettingsError
from cascade.mlflow_store.store import ENVIRONMENT
from cascade.production.schedule.entry import At

_ASSIGNED = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=", re.MULTILINE)
_OURS = re.compile(r"(CASCADE|MLFLOW|DATABRICKS)_|\w+_API_(KEY|BASE)$")
"""What cascade, MLflow and most providers of models read."""
_HERE_ONLY = ("CASCADE_HOME",)
"""A path of this machine, which no other one needs."""


def assigned(env_file: Path) -> list[str]:
    """Names that the user's file gives a value.

    Raises:
        SettingsError: the file is not there, not the user's own, or others can read it.
    """
    try:
        about = env_file.stat()
        text = env_file.read_text("utf-8", "replace")
    except OSError as error:
        raise SettingsError(
            f"--env-file {str(env_file)!r} cannot be read ({error.strerror}). Write NAME=value lines into it."
        ) from None
    mode = stat.S_IMODE(about.st_mode)
    if about.st_uid != os.getuid() or mode not in (0o600, 0o400):
        raise SettingsError(
            f"--env-file {str(env_file)!r} has mode {mode:03o} and belongs to user {about.st_uid}: keys in it must be "
            f"for user {os.getuid()} alone. Run chmod 600 on it, as its owner."
        )
    return list(dict.fromkeys(_ASSIGNED.findall(text)))


def keys_of(models: Iterable[str]) -> list[str]:
    """What the providers of these models are wont to call their keys; embedded models need none.

    >>> keys_of(["openai/gpt-5-mini", "embedded/smollm2-135m", "together_ai/x"])
    ['OPENAI_API_KEY', 'TOGETHER_AI_API_KEY']
    """
    providers = dict.fromkeys(model.partition("/")[0] for model in models)
    return [f"{provider.upper()}_API_KEY" for provider in providers if provider != "embedded"]


def set_here(environ: Mapping[str, str]) -> list[str]:
    """Names in this shell that a night may read and will not find; what cascade sets itself is not among them."""
    given = (name for name, value in environ.items() if value and ENVIRONMENT.get(name) != value)
    return sorted(name for name in given if _OURS.match(name))


def elsewhere(*names: Iterable[str]) -> list[str]:
    """Names that a night on another machine is given as secrets; MLflow's address is always one.

    >>> elsewhere(["OPENAI_API_KEY"], ["CASCADE_HOME", "OPENAI_API_KEY"])
    ['MLFLOW_TRACKING_URI', 'OPENAI_API_KEY']
    """
    all_names = dict.fromkeys(["MLFLOW_TRACKING_URI", *(name for some in names for name in some)])
    return [name for name in all_names if name not in _HERE_ONLY]


def zone_here(environ: Mapping[str, str], etc: Path = Path("/etc")) -> str:
    """The IANA name of the time zone that this shell means: `TZ`, else the machine's, else UTC."""
    wanted = environ.get("TZ", "").lstrip(":")
    return wanted if _known(wanted) else machine_zone(etc)


def machine_zone(etc: Path = Path("/etc")) -> str:
    """The IANA name of the time zone by which cron and systemd go."""
    _, _, linked = os.path.realpath(etc / "localtime").partition("/zoneinfo/")
    try:
        written = (etc / "timezone").read_text("utf-8", "replace").strip()
    except OSError:
        written = ""
    return next((name for name in (linked, written) if _known(name)), "Etc/UTC")


def skipped(at: At, zone: str, today: date) -> date | None:
    """The first day within a year on which clocks are put forward past this time, so that it does not come.

    >>> skipped(At(2, 30), "Europe/Berlin", date(2027, 1, 1))
    datetime.date(2027, 3, 28)
    >>> skipped(At(3, 0), "Europe/Berlin", date(2027, 1, 1)) is None
    True
    """
    times = (datetime.combine(today + timedelta(days=day), time(*at), ZoneInfo(zone)) for day in range(366))
    return next((here.date() for here in times if here.astimezone(UTC).astimezone(here.tzinfo) != here), None)


def _known(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        return False
    return True
