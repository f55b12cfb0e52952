"""What a run came to, as a value.

Invariant: a `Result` holds no connection and no lock; its program runs under the LMs it was judged with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cascade.comparison import Comparison, Interval
from cascade.decision import Decision
from cascade.evaluation import Evaluation
from cascade.journal import Status
from cascade.lm.bound_program import BoundProgram
from cascade.lm.lms import LMs
from cascade.program import Snapshot
from cascade.spending import Spent

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class StageResult:
    """One stage as it ended.

    Args:
        name: with its number, such as `1-instructions`.
        status: `done`, `skipped` or `failed`.
        program, taken: what it made, ready to call and as a snapshot; None when skipped or failed.
        dev: its evaluation on dev, with the interval of the mean.
        decision: None for the baseline and for skipped stages.
    """

    name: str
    lever: str
    status: str
    spent: Spent
    program: Any = None
    taken: Snapshot | None = None
    dev: Evaluation | None = None
    interval: Interval | None = None
    decision: Decision | None = None
    error: str = ""


@dataclass(frozen=True)
class Test:
    """The one look at test: baseline and best, paired."""

    __test__ = False

    baseline: Evaluation
    best: Evaluation
    comparison: Comparison
    proven: bool
    looks: int


@dataclass(frozen=True)
class Result:
    """One execution of an experiment.

    Args:
        stages: in order; the first is the baseline.
        best: the stage whose program was kept; selected on dev.
        test: None when the run was stopped before it.
        spent: over all attempts at this run.
        journal: folder of the run.
        lms: under which the programs were judged.
    """

    experiment: str
    run_id: str
    status: Status
    stages: Sequence[StageResult]
    best: StageResult
    test: Test | None
    spent: Spent
    journal: str
    summary: str
    lms: LMs = field(repr=False)

    @property
    def baseline(self) -> StageResult:
        """The unoptimized program."""
        return self.stages[0]

    @property
    def decisions(self) -> list[Decision]:
        """The decision after each stage that was decided on."""
        return [stage.decision for stage in self.stages if stage.decision]

    @property
    def program(self) -> BoundProgram:
        """The best program, ready to call: it brings the LMs it was judged with. Its module is `program.module`."""
        return BoundProgram(self.best.program, self.lms)

    def to_frame(self) -> "pandas.DataFrame":
        """A row a stage: score with interval, gain, verdict, spent."""
        import pandas

        return pandas.DataFrame([self.row(stage) for stage in self.stages])

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        test = self.test
        return {
            "experiment": self.experiment,
            "run": self.run_id,
            "status": self.status,
            "summary": self.summary,
            "best_stage": self.best.name,
            "proven": test.proven if test else None,
            "baseline_test_score": test.baseline.mean if test else None,
            "test_score": test.best.mean if test else None,
            "test_gain": test.comparison.gain if test else None,
            "test_gain_interval": [test.comparison.interval.low, test.comparison.interval.high] if test else None,
            "stages": [self.row(stage) for stage in self.stages],
            "spent": self.spent.to_json(),
            "journal": self.journal,
        }

    def row(self, stage: StageResult) -> dict[str, Any]:
        """One stage as plain values."""
        decision = stage.decision
        return {
            "stage": stage.name,
            "lever": stage.lever,
            "status": stage.status,
            "dev_score": stage.dev.mean if stage.dev else None,
            "dev_ci_low": stage.interval.low if stage.interval else None,
            "dev_ci_high": stage.interval.high if stage.interval else None,
            "gain": decision.gain if decision else None,
            "verdict": str(decision.verdict) if decision and decision.verdict else "",
            "kept": str(decision.kept) if decision else "",
            "next": str(decision.next) if decision else "",
            "reason": decision.reason if decision else stage.error,
            **stage.spent.to_json(),
        }
