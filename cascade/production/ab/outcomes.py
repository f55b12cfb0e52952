"""What people said of served answers, and which A/B tests there were, on the local disk.

    .cascade/production/EXPERIMENT/outcomes.jsonl      a line for each time that somebody said something
    .cascade/production/EXPERIMENT/tests.jsonl         tests that began, whose share was raised, that were stopped

Invariant: both files are only added to. A test is a pair of versions; another pair, or a smaller share, is another test
with another salt, and a test that was stopped stays so.
"""

import contextlib
import fcntl
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from cascade.journal import written
from cascade.production import lines
from cascade.production.ab import Arm, Outcome, Rules

CHUNK = 1_000_000
"""Bytes that are read at once."""


@dataclass(frozen=True)
class Test:
    """An A/B test.

    Args:
        id: sorts by time.
        at: when it began, seconds since 1970.
        champion, challenger: versions.
        share: of the keys that are the challenger's now.
        least: the share with which it began.
        salt: of the assignment.
        rules: for verdicts.
        stopped: why the challenger is not served any more; "" while it is.
        stopped_at: when, or 0.
    """

    __test__ = False  # pytest takes classes of this name for its own

    id: str
    at: float
    champion: str
    challenger: str
    share: float
    least: float
    salt: str
    rules: Rules = field(default_factory=Rules)
    stopped: str = ""
    stopped_at: float = 0.0


@dataclass(frozen=True)
class Said:
    """What somebody said of an answer.

    Args:
        id: of what was said.
        request: 32 hex digits.
        test: its id, "" where there was none when it was answered.
        key: hash of whose request it was.
        share: the challenger's, when it was answered.
        value: from 0 to 1; None where somebody corrected or commented only.
        corrections: right values by output field.
        answered: the request itself; see `cascade.mlflow_store.served_traces.Answered`.
    """

    id: str
    at: float
    request: str
    arm: Literal["champion", "challenger"]
    version: str
    test: str = ""
    key: str = ""
    share: float = 0.0
    value: float | None = None
    corrections: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""
    answered: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


_SAID: TypeAdapter[Said] = TypeAdapter(Said)
_RULES: TypeAdapter[Rules] = TypeAdapter(Rules)


class Books:
    """The files of one experiment.

    Args:
        home: the state folder.
    """

    def __init__(self, home: Path, experiment: str) -> None:
        self.experiment = experiment
        self.folder = home / "production" / experiment
        self.outcomes, self.tests_file = self.folder / "outcomes.jsonl", self.folder / "tests.jsonl"

    def said(self, start: int = 0) -> tuple[list[Said], int]:
        """What was said from a place in the file on, about a megabyte of it, and where to go on.

        Lines of another shape are left out.
        """
        values, end = lines.read(self.outcomes, start, CHUNK)
        return [one for one in map(_said, values) if one is not None], end

    def since(self, start: int = 0) -> Iterator[tuple[list[Said], int]]:
        """All that was said from a place in the file on, piece by piece: it may be more than there is memory."""
        while True:
            said, end = self.said(start)
            if end == start:
                return
            yield said, end
            start = end

    def add(self, said: Iterable[Said]) -> None:
        """Write it down; on the disk when this returns.

        Raises:
            JournalError: it cannot be written.
        """
        lines.append(self.outcomes, [one.to_json() for one in said], private=True)

    def tests(self) -> list[Test]:
        """All tests, oldest first."""
        return fold(lines.read(self.tests_file)[0])

    def begin(self, champion: str, challenger: str, share: float) -> Test:
        """The test of two versions: the one that was begun, with its share raised if need be, or a new one."""
        with self._alone():
            return self._begin(champion, challenger, share)

    def _begin(self, champion: str, challenger: str, share: float) -> Test:
        same = [test for test in self.tests() if (test.champion, test.challenger) == (champion, challenger)]
        last = same[-1] if same else None
        if last and last.least <= min(share, 1 - share):
            if last.share != share:
                self._write("share", last.id, share=share)
            return replace(last, share=share)
        salt = f"{self.experiment}/{champion}/{challenger}/{len(same) + 1}"
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        id_, least = f"{stamp}-{secrets.token_hex(3)}", min(share, 1 - share)
        told = {"champion": champion, "challenger": challenger, "share": share, "least": least, "salt": salt}
        at = self._write("begun", id_, **told, rules=asdict(Rules()))
        return Test(id_, at, champion, challenger, share, least, salt)

    def stop(self, test: Test, reason: str, figures: Mapping[str, Any]) -> Test:
        """Write down that a challenger is served no more; once, whoever finds out."""
        with self._alone():
            known = next((one for one in self.tests() if one.id == test.id), test)
            if known.stopped:
                return known
            at = self._write("stopped", test.id, reason=reason, figures=dict(figures))
            return replace(test, stopped=reason, stopped_at=at)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No two processes begin or stop a test at once."""
        path = self.folder / "tests.lock"
        with written(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, event: str, test: str, **facts: Any) -> float:
        at = round(time.time(), 3)
        lines.append(self.tests_file, [{"event": event, "test": test, "at": at, **facts}])
        return at


def fold(entries: Iterable[Any]) -> list[Test]:
    """Tests out of the lines of `tests.jsonl`; lines of another shape are left out.

    >>> begun = {"event": "begun", "test": "t", "at": 1.0, "champion": "1", "challenger": "2", "share": 0.1,
    ...          "least": 0.1, "salt": "qa/1/2/1"}
    >>> fold([begun, {"event": "share", "test": "t", "at": 2.0, "share": 0.5}])[0].share
    0.5
    """
    found: dict[str, Test] = {}
    for entry in entries:
        try:
            event, id_, at = entry["event"], str(entry["test"]), float(entry["at"])
            if event == "begun":
                rules = _RULES.validate_python(entry.get("rules", {}))
                found[id_] = Test(
                    id_, at, str(entry["champion"]), str(entry["challenger"]), float(entry["share"]),
                    float(entry["least"]), str(entry["salt"]), rules,
                )  # fmt: skip
            elif event == "share":
                found[id_] = replace(found[id_], share=float(entry["share"]))
            elif event == "stopped":
                found[id_] = replace(found[id_], stopped=str(entry["reason"]), stopped_at=at)
        except (KeyError, TypeError, ValueError):
            continue
    return list(found.values())


def of_test(said: Iterable[Said], test: Test) -> list[Outcome]:
    """The outcomes that belong to a test, in the order in which they were said.

    What no server writes, a value above 1 or a share below that with which the test began, is left out: one line that
    somebody changed must not keep all others from being counted.
    """
    least = test.least * (1 - 1e-9)
    return [
        Outcome(one.key, Arm(one.arm), one.value, one.share)
        for one in said
        if one.test == test.id and one.value is not None and one.key
        if 0 <= one.value <= 1 and least <= one.share <= 1 - least
    ]


def _said(values: object) -> Said | None:
    try:
        return _SAID.validate_python(values)
    except ValidationError:
        return None
