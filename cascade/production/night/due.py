"""Whether a night has anything to do.

Invariant: `due` is a pure function of what the night sees and what the last one saw. Answers come out of the ledger and
everything that draws has a seed, so a search over what has not changed would find the same again: it is not due,
however many nights have passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_PARTS = {
    "data": "which rows belong together",
    "metric": "the metric",
    "metric_code": "the metric's code",
    "source": "the program",
    "stages": "the stages",
    "lms": "the LMs",
    "settings": "seed or format of answers",
}
"""Parts of a run's signature in words."""


class Work(StrEnum):
    """What a night does."""

    NOTHING = "nothing"
    GATE = "gate"
    RUN = "run"


@dataclass(frozen=True)
class Counted:
    """A split as a night sees it."""

    rows: int
    fingerprint: str


@dataclass(frozen=True)
class Seen:
    """What a search comes from.

    Args:
        parts: of the run's signature.
        splits: by name.
        champion: version that serves; "" is none.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, Counted] = field(default_factory=dict)
    champion: str = ""


@dataclass(frozen=True)
class Waiting:
    """A challenger that somebody proposed: its version, and what the gate said of it against what serves today.

    Args:
        granted: None where it was not asked.
    """

    version: str
    granted: bool | None = None


@dataclass(frozen=True)
class Due:
    """What is to be done, and why, in a sentence."""

    work: Work
    reason: str


def due(  # noqa: PLR0913 - each may be a reason on its own
    now: Seen,
    before: Seen | None,
    *,
    since: str = "",
    unfinished: str = "",
    waiting: Waiting | None = None,
    promote: bool = False,
    anyway: bool = False,
) -> Due:
    """Decide what a night does.

    Args:
        now, before: what there is, and what the last night saw; None where there was none.
        since: the night since which nothing has changed.
        unfinished: why the last search might have gone further than it did, or "".
        waiting: a challenger that is not the champion and was not rejected.
        promote: what the gate grants may be taken into service.
        anyway: search although nothing has changed.
    """
    if before is None:
        return Due(Work.RUN, "There was no night before: a search is due.")
    if found := changes(now, before):
        return Due(Work.RUN, f"Changed since the night of {since}: {', '.join(found)}.")
    same = f"Nothing changed since the night of {since}"
    if unfinished or anyway:
        why = f", but its search can go on: {unfinished}" if unfinished else "; it was asked for anyway"
        return Due(Work.RUN, f"{same}{why}.")
    if waiting and waiting.granted is None:
        said = f"Version {waiting.version} is proposed and was not compared with what serves: it goes to the gate."
        return Due(Work.GATE, said)
    if waiting and waiting.granted:
        waits = f"Version {waiting.version} passed the gate and waits to be promoted."
        return Due(Work.GATE, waits) if promote else Due(Work.NOTHING, f"{same}: nothing is due. {waits}")
    return Due(Work.NOTHING, f"{same}: nothing is due.")


def changes(now: Seen, before: Seen) -> list[str]:
    """What differs, in words.

    >>> changes(Seen(splits={"train": Counted(8, "b")}), Seen(splits={"train": Counted(6, "a")}))
    ['train (6 → 8 rows)']
    """
    found = [
        f"{name} ({before.splits[name].rows} → {split.rows} rows)" if split.rows != before.splits[name].rows else name
        for name, split in now.splits.items()
        if name in before.splits and split.fingerprint != before.splits[name].fingerprint
    ]
    names = dict.fromkeys((*now.parts, *before.parts))
    differs = [name for name in names if now.parts.get(name) != before.parts.get(name)]
    found += [_PARTS.get(name, name) for name in differs if name != "data" or not found]
    if now.champion != before.champion:
        one, other = (f"version {version}" if version else "none" for version in (before.champion, now.champion))
        found.append(f"the champion ({one} → {other})")
    return found
