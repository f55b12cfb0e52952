"""A run's journal as a value that reports are made from.

Invariant: what is returned was checked whole. A damaged journal is one `CascadeError` that names the file, never a
report with holes; a run that did not end is no damage.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError

from cascade.errors import CascadeError
from cascade.journal import Journal, RunRecord, StageRecord
from cascade.program import Snapshot
from cascade.spending import Unit

JUDGED = ("completed", "plateau", "target", "budget")
"""Statuses of a run that ended with a best program."""


class _Parsed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Costs(_Parsed):
    """What an example costs to serve under a stage's program and under the incumbent."""

    candidate: FiniteFloat
    incumbent: FiniteFloat
    unit: Unit


class Decided(_Parsed):
    """`decision.json` of a stage, as far as reports read it."""

    gain: FiniteFloat | None = None
    interval: tuple[FiniteFloat, FiniteFloat] | None = None
    confidence: FiniteFloat | None = None
    n: int | None = None
    minimum_detectable_gain: FiniteFloat | None = None
    aim: Literal["better", "cheaper"] = "better"
    incumbent_gain: FiniteFloat | None = None
    incumbent_interval: tuple[FiniteFloat, FiniteFloat] | None = None
    margin: FiniteFloat | None = None
    within_margin: bool | None = None
    serving: Costs | None = None
    skipped: tuple[str, ...] = ()


class Look(_Parsed):
    """The look at test: the gain of the best over the baseline."""

    gain: FiniteFloat
    interval: tuple[FiniteFloat, FiniteFloat]
    confidence: FiniteFloat
    n: int
    minimum_detectable_gain: FiniteFloat
    proven: bool
    looks: int = 1


class TestScores(_Parsed):
    """`test.json`: scores of baseline and best by example."""

    __test__ = False

    id: tuple[str, ...]
    baseline: tuple[FiniteFloat, ...]
    best: tuple[FiniteFloat, ...]


class _Room(_Parsed):
    sentence: str


class _Finding(_Parsed):
    severity: str
    place: str


class _RunFigures(_Parsed):
    spent: dict[str, FiniteFloat]
    spent_by_stage: dict[str, dict[str, FiniteFloat]]
    spent_by_lm: dict[str, dict[str, FiniteFloat]]
    metrics: dict[str, FiniteFloat]


class _StageFigures(_Parsed):
    metrics: dict[str, FiniteFloat]
    test_metrics: dict[str, FiniteFloat]
    serving: dict[str, FiniteFloat]


class _Table(_Parsed):
    """`examples.json`, by column."""

    id: list[str]
    input: list[Any]
    expected: list[Any]
    predicted: list[Any]
    score: list[FiniteFloat]
    feedback: list[str]
    error: list[str]
    tokens: list[FiniteFloat]


@dataclass(frozen=True)
class Judged:
    """One example of dev and what a program made of it."""

    id: str
    input: Any
    expected: Any
    predicted: Any
    score: float
    feedback: str
    error: str
    tokens: float


@dataclass(frozen=True)
class Run:
    """All that a journal says of a run.

    Args:
        folder: of the journal.
        status: the record's, but `interrupted` where the process is gone without having said so.
        stages: those that ended, the baseline first; empty where not even that was judged.
        decisions, examples, prompts, programs: by stage folder; `programs` are digests of programs.
        headroom: the sentence of the look at headroom, or "".
        warned: places that a check warned of when the run began.
        groups: group by id, by split; None where the journal does not say.
        test, test_scores: the look at test, and its scores by example; None where there are none.
        source: of the program, as it was.
        heard: when the run was last heard of, in seconds since 1970.
    """

    folder: Path
    record: RunRecord
    status: str
    stages: tuple[StageRecord, ...]
    decisions: Mapping[str, Decided]
    examples: Mapping[str, tuple[Judged, ...]]
    prompts: Mapping[str, str]
    programs: Mapping[str, str]
    headroom: str
    warned: tuple[str, ...]
    groups: Mapping[str, Mapping[str, str]] | None
    test: Look | None
    test_scores: TestScores | None
    source: str
    heard: float

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id

    @property
    def baseline(self) -> StageRecord | None:
        """The unoptimized program's stage."""
        return self.stages[0] if self.stages and self.stages[0].number == 0 else None

    @property
    def best(self) -> StageRecord | None:
        """The stage whose program was kept last; None where nothing was judged."""
        return best_stage(self.stages)

    @property
    def judged(self) -> bool:
        """Whether the run came to its end, be it the budget's."""
        return self.status in JUDGED


def incumbent(stage: StageRecord, stages: Sequence[StageRecord]) -> StageRecord | None:
    """The stage whose program this one started from: the last before it that was kept."""
    return best_stage([before for before in stages if before.number < stage.number])


def best_stage(stages: Sequence[StageRecord]) -> StageRecord | None:
    """The stage whose program was kept last, also of a run that did not end."""
    return next((stage for stage in reversed(stages) if stage.kept == "new"), None)


def status(record: RunRecord) -> str:
    """The run's status; a run whose process was killed cannot say so itself."""
    return "interrupted" if record.status == "running" and not _alive(record.pid) else record.status


def read(journal: Journal) -> Run:
    """Read a journal whole.

    Raises:
        CascadeError: a file of it is damaged.
    """
    record = _record(RunRecord, _RunFigures, journal.run, journal, "run.json")
    stages: list[StageRecord] = [
        _record(StageRecord, _StageFigures, stage, journal, f"{stage.folder}/record.json") for stage in journal.stages()
    ]
    names, ended = [stage.folder for stage in stages], [stage.ended for stage in stages]
    tables = {name: _examples(journal, name) for name in names}
    room: _Room | None = _parsed(_Room, journal, "headroom.json")
    found: list[_Finding] = _parsed(list[_Finding], journal, "findings.json") or []
    return Run(
        folder=journal.folder,
        record=record,
        status=status(record),
        stages=tuple(stages),
        decisions={name: _parsed(Decided, journal, f"{name}/decision.json") or Decided() for name in names},
        examples={name: table for name, table in tables.items() if table},
        prompts={name: _text(journal, f"{name}/prompts.md") for name in names},
        programs={stage.folder: _digest(journal, stage) for stage in stages},
        headroom=room.sentence if room else "",
        warned=tuple(dict.fromkeys(one.place for one in found if one.severity == "warning")),
        groups=_parsed(dict[str, dict[str, str]], journal, "groups.json"),
        test=_checked(Look, dict(record.test), journal, "run.json") if record.test else None,
        test_scores=_test_scores(journal),
        source=_text(journal, "source.py"),
        heard=record.ended or max(ended, default=record.started),
    )


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _checked(kind: Any, value: object, journal: Journal, name: str) -> Any:
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise CascadeError(
            f"{journal.folder / name} is damaged ({where}: {first['msg']}). Remove the folder {journal.folder}."
        ) from error


def _record(kind: type, figures: type[BaseModel], record: Any, journal: Journal, name: str) -> Any:
    checked = _checked(kind, asdict(record), journal, name)
    return replace(checked, **_checked(figures, asdict(record), journal, name).model_dump())


def _parsed(kind: Any, journal: Journal, name: str) -> Any:
    value = journal.read(name)
    return None if value is None else _checked(kind, value, journal, name)


def _examples(journal: Journal, folder: str) -> tuple[Judged, ...]:
    name = f"{folder}/examples.json"
    table: _Table | None = _parsed(_Table, journal, name)
    if table is None:
        return ()
    return tuple(Judged(*row) for row in _rows(table, Judged.__dataclass_fields__, journal, name))


def _test_scores(journal: Journal) -> TestScores | None:
    scores: TestScores | None = _parsed(TestScores, journal, "test.json")
    if scores:
        _rows(scores, TestScores.model_fields, journal, "test.json")
    return scores


def _rows(table: BaseModel, names: Mapping[str, object], journal: Journal, name: str) -> list[tuple[Any, ...]]:
    columns = [getattr(table, column) for column in names]
    if len({len(column) for column in columns}) > 1:
        raise CascadeError(f"{journal.folder / name} is damaged (columns differ). Remove the folder {journal.folder}.")
    return list(zip(*columns, strict=True))


def _digest(journal: Journal, stage: StageRecord) -> str:
    state = journal.read(f"{stage.folder}/program.json")
    return "" if state is None else Snapshot(state, stage.lms).digest


def _text(journal: Journal, name: str) -> str:
    try:
        return (journal.folder / name).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CascadeError(f"{journal.folder / name} cannot be read ({error}).") from error
