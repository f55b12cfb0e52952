"""The promotion log: who took which version into service, when, why, on what figures; and who took it back.

    .cascade/production/EXPERIMENT/promotions.jsonl      an entry a line, written and never changed

Invariant: entries are appended and flushed to the disk before MLflow is told, so that a process that dies in between
leaves a log that says what to do; `standing` is a pure function of the entries.
"""

import getpass
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from cascade.dataset import Split
from cascade.errors import CascadeError
from cascade.production import lines

Event = Literal["judged", "promoted", "rolled_back", "adopted"]
MOVES: tuple[Event, ...] = ("promoted", "rolled_back", "adopted")
"""Entries after which another version serves."""


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Args:
        id: sorts by time; the name of the entry.
        at: seconds since 1970.
        event: `judged` is a look at test, granted or not; `promoted` and `rolled_back` moved the champion; `adopted` is
            a champion that somebody set in MLflow.
        version, program: in the registry, and the hash of what it does: of the version that was judged, or serves now.
        reference: version it was judged against, or that served before; "" where nothing did.
        reason: the gate's sentence, or what happened.
        note: what the person who did it said.
        forced: promoted although the gate refused.
        key: of the look: equal keys are the same look.
        attempt: number of the look at this test.
        rows: a short hash of each row of test, for `judged`.
        figures: of the gate.
        fingerprints: of test and metric.
    """

    id: str
    at: float
    event: Event
    experiment: str
    version: str
    who: str = ""
    program: str = ""
    run: str = ""
    reference: str = ""
    reason: str = ""
    note: str = ""
    granted: bool = False
    forced: bool = False
    key: str = ""
    attempt: int = 0
    rows: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "rows": list(self.rows)}

    @classmethod
    def from_json(cls, values: object, place: str) -> "Entry":
        """An entry out of plain values; raises `CascadeError` that names `place` where they are none."""
        try:
            return _ADAPTER.validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise CascadeError(
                f"{place} is no entry of a promotion log ({where}: {first['msg']}). Put the file back from a copy, or "
                "remove it: what MLflow holds of the log is fetched again."
            ) from None


_ADAPTER: TypeAdapter[Entry] = TypeAdapter(Entry)


@dataclass(frozen=True)
class Service:
    """A version's time in service; `until` is None while it serves."""

    version: str
    since: float
    until: float | None
    entry: Entry


@dataclass(frozen=True)
class Standing:
    """What the log says is so.

    Args:
        champion, previous: version that serves, and the last one before it that was not rejected; "" is none.
        rejected: versions that were rolled back.
        history: who served when, oldest first.
    """

    champion: str = ""
    previous: str = ""
    rejected: frozenset[str] = frozenset()
    history: tuple[Service, ...] = ()


def standing(entries: Iterable[Entry]) -> Standing:
    """What serves now, what can be gone back to, and what served when."""
    history: list[Service] = []
    rejected: set[str] = set()
    for entry in entries:
        if entry.event not in MOVES:
            continue
        if history:
            history[-1] = Service(history[-1].version, history[-1].since, entry.at, history[-1].entry)
        if entry.event == "rolled_back":
            rejected.add(entry.reference)
        rejected.discard(entry.version)  # promoted again, with --force
        history.append(Service(entry.version, entry.at, None, entry))
    champion = history[-1].version if history else ""
    before = (one.version for one in reversed(history))
    previous = next((version for version in before if version not in {champion, *rejected}), "")
    return Standing(champion, previous, frozenset(rejected), tuple(history))


def look(entries: Iterable[Entry], key: str, rows: Iterable[str]) -> int:
    """The number of a look at a test: that of the same look if it was taken before, else the next of its lineage.

    A test is of one lineage with every test that it shares a row with, directly or by way of others: appending rows, or
    leaving some out, does not make the looks that were spent undone; other rows do.

    Args:
        key: of the look; equal keys are the same look.
        rows: hashes of the rows of the test.
    """
    known, judged = set(rows), [entry for entry in entries if entry.event == "judged"]
    lineage: list[Entry] = []
    while found := [entry for entry in judged if entry not in lineage and not known.isdisjoint(entry.rows)]:
        lineage += found
        known.update(*(entry.rows for entry in found))
    same = next((entry.attempt for entry in lineage if entry.key == key), None)
    return same or 1 + len({entry.key for entry in lineage})


def row_hashes(split: Split) -> tuple[str, ...]:
    """8 hex digits a row of its content, ids apart; in order."""
    bare = ({name: value for name, value in row.items() if name != "id"} for row in split.rows)
    texts = (json.dumps(row, sort_keys=True, ensure_ascii=False, default=str) for row in bare)
    return tuple(hashlib.sha256(text.encode()).hexdigest()[:8] for text in texts)


class PromotionLog:
    """The log of one experiment, on the local disk; whoever writes holds the experiment's lock.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, home: Path, experiment: str) -> "PromotionLog":
        """The log of an experiment under a state folder."""
        return cls(home / "production" / experiment / "promotions.jsonl")

    def entries(self) -> list[Entry]:
        """All entries, oldest first; a last line that was cut off is not there.

        Raises:
            CascadeError: the file cannot be read, or holds something else.
        """
        return sorted(self._read(), key=lambda entry: (entry.at, entry.id))

    def add(self, event: Event, version: str, **more: Any) -> Entry:
        """Append a new entry: now, by whoever runs this process; see `append`."""
        last = max((entry.at for entry in self.entries()), default=0.0)
        now = max(time.time(), last + 0.001)  # after all others, also where the clock was put back
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        id_ = f"{stamp}-{secrets.token_hex(3)}"
        entry = Entry(id_, round(now, 3), event, self.path.parent.name, version, who=_who(), **more)
        self.append(entry)
        return entry

    def append(self, entry: Entry) -> None:
        """Write an entry, and wait for the disk.

        Raises:
            JournalError: it cannot be written; nothing was promoted.
        """
        lines.append(self.path, [entry.to_json()])

    def _read(self) -> Iterator[Entry]:
        try:
            texts = self.path.read_text("utf-8").splitlines() if self.path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise CascadeError(f"{self.path} cannot be read ({error}). Put it back from a copy.") from None
        for number, line in enumerate(texts, 1):
            try:
                values = json.loads(line)
            except ValueError:
                continue  # cut off by a process that died: what was not written whole did not happen
            yield Entry.from_json(values, f"{self.path}, line {number},")


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in a container
        return f"user {os.getuid()}"
