"""What happened in a run, on local disk, before anything is sent anywhere.

    .cascade/runs/EXPERIMENT/RUN/
      run.json                      who, what, with which data and LMs; status; spent; test
      source.py                     the program's file as it was when the run began
      groups.json                   which examples of dev and test belong together
      findings.json                 what checks found before it began; quotes rows, so it is never sent to a tracker
      decisions.json headroom.json  the decisions; what a look at headroom found
      test.json                     scores of baseline and best on test, by example; never sent to a tracker
      report.html                   the run to read
      0-baseline/ 1-instructions/ … record.json, program.json, examples.json, candidates.jsonl,
                                    decision.json, prompts.md, prompts.diff.md, optimizer.log
      spent.json                    until the run is over: what it has spent, for when it is killed

Invariant: every file but the last is replaced whole, so that a reader sees the old one or the new one. A tracker reads
the journal and nothing else, and may be called again at any time: what was not sent is sent then.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from pydantic import TypeAdapter, ValidationError

from cascade.errors import CascadeError, JournalError
from cascade.redaction import redacted

Status = Literal["running", "completed", "plateau", "target", "budget", "interrupted", "failed"]
ENDED: tuple[Status, ...] = ("completed", "plateau", "target", "budget", "failed")
STAGE_FILES = (
    "program.json", "prompts.md", "prompts.diff.md", "examples.json", "candidates.jsonl", "decision.json",
)  # fmt: skip
"""Artifacts of a stage, in the form in which they are logged."""


@dataclass(frozen=True)
class RunRecord:
    """`run.json`.

    Args:
        id: sorts by time.
        kind: `cascade`, `nightly` or `sweep`.
        signature, parts: hash of the definition, and of its parts.
        splits: rows, fingerprint, fields and source by split.
        factory: `name` of the program's factory and `source`, its file.
        inputs, outputs: fields of the program.
        params: plateau, budget, seed, LMs and split sizes, as text.
        fresh: it pays for every answer again, whatever the ledger held before; going on with it does not.
        spent: totals, cumulative over resumes; `spent_by_stage` by stage folder, `spent_by_lm` by the LM's name.
        metrics: totals and test figures under MLflow's names, once known.
        test: the comparison on test, once made.
    """

    id: str
    experiment: str
    kind: str = "cascade"
    status: Status = "running"
    hypothesis: str = ""
    signature: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    factory: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    lms: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    git_sha: str = ""
    fresh: bool = False
    pid: int = 0
    started: float = 0.0
    ended: float | None = None
    spent: Mapping[str, Any] = field(default_factory=dict)
    spent_by_stage: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spent_by_lm: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    best_stage: str = "0-baseline"
    proven: bool | None = None
    summary: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageRecord:
    """`record.json` of a stage.

    Args:
        number: 0 is the baseline.
        metrics: under MLflow's names.
        lms: model string by predictor that has its own.
        test_metrics: test figures, for the stages that were looked at on test.
        serving: what answering one example of dev takes: calls, tokens, dollars where known, seconds.
    """

    number: int
    name: str
    lever: str
    status: Literal["done", "skipped", "failed"]
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    serving: Mapping[str, float] = field(default_factory=dict)
    verdict: str = ""
    kept: str = ""
    next: str = ""
    reason: str = ""
    lms: Mapping[str, str] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0

    @property
    def folder(self) -> str:
        """`1-instructions`."""
        return f"{self.number}-{self.name}"


class Tracker(Protocol):
    """Where a run is shown to others."""

    def publish(self, journal: "Journal") -> None:
        """Bring the store up to what the journal says; sends nothing twice, raises `TrackingError`."""

    def catch_up(self, journals: "Iterable[Journal]") -> int:
        """Publish those that the store does not have in full, oldest first; returns how many that were."""


class Journal:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, home: Path, record: RunRecord) -> "Journal":
        """Begin a journal; the folder is named after the run."""
        journal = cls.at(home, record)
        journal.write_run(record)
        return journal

    @classmethod
    def at(cls, home: Path, record: RunRecord, place: str = "runs") -> "Journal":
        """The place of a run's journal, where nothing is written yet."""
        return cls(home / place / record.experiment / record.id)

    @property
    def run(self) -> RunRecord:
        """The run as it stands; raises `CascadeError` when the file is damaged."""
        return cast(RunRecord, self._record(RunRecord, "run.json"))

    def now(self) -> float:
        """The time, in seconds since 1970; never before the run began."""
        return max(time.time(), self.run.started)

    def write_run(self, record: RunRecord) -> None:
        """Replace `run.json`."""
        self.write("run.json", asdict(record))

    def update(self, **changes: Any) -> RunRecord:
        """Change fields of `run.json` and return the record."""
        record = replace(self.run, **changes)
        self.write_run(record)
        return record

    def write_stage(self, record: StageRecord) -> None:
        """Replace a stage's `record.json`; its other files are written before, so that it stands for a whole stage."""
        self.write(f"{record.folder}/record.json", asdict(record))

    def stages(self) -> list[StageRecord]:
        """Records of the stages that ended, in order; raises `CascadeError` when one is damaged."""
        names = [f"{path.parent.name}/record.json" for path in self.folder.glob("*/record.json")]
        found = [cast(StageRecord, self._record(StageRecord, name)) for name in names]
        return sorted(found, key=lambda record: record.number)

    def write(self, name: str, value: Any) -> Path:
        """Replace a file: text as it is, anything else as JSON, `.jsonl` a line a value."""
        path = self.folder / name
        if isinstance(value, str):
            text = value
        elif name.endswith(".jsonl"):
            text = "".join(json.dumps(row, default=str) + "\n" for row in value)
        else:
            text = json.dumps(value, indent=1, default=str) + "\n"
        text = redacted(text)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with written(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                draft.write_bytes(text.encode("utf-8", "backslashreplace"))  # a model may say half a character
                draft.replace(path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
        return path

    def read(self, name: str) -> Any:
        """A JSON file of the folder, or None if it is not there."""
        return self._read(name) if (self.folder / name).exists() else None

    def _record(self, kind: Any, name: str) -> Any:
        values = self._read(name)
        try:
            return _adapter(kind).validate_python(
                {field: value for field, value in values.items() if field in kind.__dataclass_fields__}
            )
        except (ValidationError, AttributeError) as error:
            what = "run" if kind is RunRecord else "stage"
            raise CascadeError(
                f"{self.folder / name} is no {what}{_where(error)}. Remove the folder {self.folder} to start over."
            ) from None

    def _read(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CascadeError(
                f"{path} cannot be read ({error}). Remove the folder {self.folder} to start over."
            ) from error


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Say in one line that a file of the state cannot be written.

    Raises:
        JournalError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"{path} cannot be written: {error.strerror or error}. Free disk space, or make it writable, and run "
            "again: what was answered is kept."
        ) from error


def journals(home: Path, experiment: str, warn: Callable[[str], None] = lambda _: None) -> Iterator[Journal]:
    """Journals of an experiment, newest first; damaged ones are passed over, of which `warn` is told."""
    found: list[tuple[float, str, Journal]] = []
    for path in sorted((home / "runs" / experiment).glob("*/run.json")):
        journal = Journal(path.parent)
        try:
            run = journal.run
            found.append((run.started, run.id, journal))
        except CascadeError as error:
            warn(f"run {journal.folder.name} is passed over: {error}")
    return (journal for _, _, journal in sorted(found, key=lambda entry: entry[:2], reverse=True))


def interrupted(home: Path, experiment: str, signature: str, kind: str = "cascade") -> Journal | None:
    """The newest run of a definition and a kind that did not end, if it is the newest of them."""
    for journal in journals(home, experiment):
        if (journal.run.signature, journal.run.kind) == (signature, kind):
            return None if journal.run.status in ENDED else journal
    return None


def unfinished(home: Path) -> dict[str, float]:
    """Runs that are under way or could be gone on with, such as `qa 20261122-031500-4f2a`, and when they began."""
    found: dict[str, float] = {}
    for folder in sorted((home / "runs").glob("*")):
        newest: dict[tuple[str, str], RunRecord] = {}
        for journal in journals(home, folder.name):
            newest.setdefault((journal.run.signature, journal.run.kind), journal.run)
        found |= {f"{run.experiment} {run.id}": run.started for run in newest.values() if run.status not in ENDED}
    return found


def next_start(home: Path, experiment: str) -> float:
    """When a run begins that begins now: after all others, also where the clock was put back."""
    latest = max((journal.run.started for journal in journals(home, experiment)), default=0.0)
    now = time.time()
    return now if now > latest else latest + 2**-16


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _where(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors()[0]
    return f" ({'.'.join(map(str, first['loc']))}: {first['msg']})"


def new_id(now: float | None = None) -> str:
    """A run id that sorts by time, to the fraction of a second that its end is: `20261122-031500-4f2a`."""
    now = time.time() if now is None else now
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{int(now % 1 * 0x10000):04x}"
