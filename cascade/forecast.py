"""What a run may cost and what it could show, before anything is spent.

Invariant: nothing is called and nothing is written; what cannot be known is None, never zero.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cascade.bounds import NOTHING, Bound, answers_a_call, of_judging, of_stage
from cascade.check import Prepared
from cascade.comparison import compare, corrected
from cascade.dataset import Split
from cascade.headroom import shared_out
from cascade.judges import judges_of
from cascade.lm.lms import LMs

DISAGREEMENT = 0.2
"""Share of examples on which two programs are assumed to differ where it is not known, half of them won."""


@dataclass(frozen=True)
class Row:
    """One step of a run.

    Args:
        search: LM calls of the optimizer at most.
        judging: LM calls for dev or test at most.
        cost_usd: of both at most; 0 where all that answer are embedded, else None: tokens are not known yet.
    """

    name: str
    optimizer: str
    lever: str
    search: Bound
    judging: Bound
    cost_usd: float | None

    @property
    def bound(self) -> Bound:
        """Search and judging."""
        return self.search + self.judging

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "stage": self.name,
            "optimizer": self.optimizer,
            "lever": self.lever,
            "search": vars(self.search.at_most) if self.search.at_most else None,
            "judging": self.judging.total,
            "lm_calls_at_most": self.bound.total,
            "cost_usd_at_most": self.cost_usd,
            "unknown": self.search.unknown,
        }


@dataclass(frozen=True)
class Detectable:
    """The least gain that a split would likely show (80 % power), if programs differ on `DISAGREEMENT` of it."""

    split: str
    n: int
    confidence: float
    gain: float


@dataclass(frozen=True)
class Forecast:
    """A run that has not begun.

    Args:
        budget: the caps that are set.
        may_cut: those of them that may end the run before its last stage.
        predictors: of the program; each is assumed to be called once an example.
        asks_again: whether an answer that cannot be read is asked for once more.
        judges: of the metric, whose calls are not counted, by name: labelled answers that each is first held against.
    """

    experiment: str
    rows: tuple[Row, ...]
    budget: dict[str, str]
    may_cut: tuple[str, ...]
    detectable: tuple[Detectable, ...]
    predictors: int
    asks_again: bool
    judges: dict[str, int]

    @property
    def bound(self) -> Bound:
        """Of the whole run."""
        return sum((row.bound for row in self.rows), NOTHING)

    @property
    def cost_usd(self) -> float | None:
        """Of the whole run."""
        return _sum(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "experiment": self.experiment,
            "stages": [row.to_json() for row in self.rows],
            "lm_calls_at_most": self.bound.total,
            "lm_calls_if_all_answers_can_be_read": None if self.bound.total is None else self.bound.parsed.total,
            "cost_usd_at_most": self.cost_usd,
            "budget": self.budget,
            "budget_may_cut": list(self.may_cut),
            "detectable": [vars(found) for found in self.detectable],
            "assumed_disagreement": DISAGREEMENT,
            "assumed_lm_calls_an_example": self.predictors,
            "judges_not_counted": self.judges,
        }


def forecast(prepared: Prepared) -> Forecast:
    """What a run of `prepared` may ask of its LMs at most, and what its splits could show."""
    rows, experiment, data = tuple(_rows(prepared)), prepared.experiment, prepared.data
    confidence = experiment.plateau.confidence
    return Forecast(
        experiment=prepared.name,
        rows=rows,
        budget=experiment.budget.describe(),
        may_cut=_may_cut(experiment.budget, rows),
        detectable=(
            detectable(data.dev, corrected(confidence, max(1, experiment.claims))),
            detectable(data.test, confidence),
        ),
        predictors=len(prepared.program.predictors()),
        asks_again=answers_a_call(prepared) > 1,
        judges={judge.name: judge.answers(prepared.lms.settings) for judge in judges_of(experiment.metric.judge)},
    )


def detectable(split: Split, confidence: float) -> Detectable:
    """What `cascade.comparison` could tell apart on a split of this size and these groups."""
    n = len(split)
    candidate, reference = [0.0] * n, [0.0] * n
    for turn, index in enumerate(random.Random(0).sample(range(n), round(DISAGREEMENT * n))):
        (reference if turn % 2 else candidate)[index] = 1.0
    found = compare(candidate, reference, groups=split.groups, confidence=confidence, margin=0.0)
    return Detectable(split.name, n, confidence, found.minimum_detectable_gain)


def _rows(prepared: Prepared) -> Iterator[Row]:
    data, experiment = prepared.data, prepared.experiment
    dev = of_judging(prepared, data.dev)
    yield _row(prepared, "0-baseline", judging=dev)
    if experiment.headroom:
        _, asked = shared_out(data.train, experiment.headroom, prepared.settings.seed)
        looks = 1 + experiment.headroom.variants
        yield _row(prepared, "headroom", search=of_judging(prepared, *[asked] * looks))
    for number, stage in enumerate(experiment.stages, 1):
        search = of_stage(stage, prepared)
        yield _row(prepared, f"{number}-{stage.name}", stage.optimizer.__name__, stage.lever, search, dev)
    yield _row(prepared, "test", judging=of_judging(prepared, data.test, data.test))


def _row(
    prepared: Prepared, name: str, optimizer: str = "", lever: str = "", search: Bound = NOTHING,
    judging: Bound = NOTHING,
) -> Row:  # fmt: skip
    calls = (search + judging).at_most
    asked = [role for role in ("task", "prompt", "teacher") if calls is None or getattr(calls, role)]
    free = all(_free(prepared.lms, role) for role in asked)
    return Row(name, optimizer, lever, search, judging, 0.0 if free else None)


def _free(lms: LMs, role: str) -> bool:
    others = [name for name in lms if name not in ("prompt", "teacher")]
    return all(lms.model(name).startswith("embedded/") for name in (others if role == "task" else [role]))


def _may_cut(budget: Any, rows: tuple[Row, ...]) -> tuple[str, ...]:
    calls = sum((row.bound for row in rows), NOTHING).total
    never = {
        "lm_calls": calls is not None and calls <= (budget.lm_calls or 0),
        "usd": _sum(rows) == 0,
    }
    return tuple(name for name in budget.describe() if not never.get(name))


def _sum(rows: tuple[Row, ...]) -> float | None:
    costs = [row.cost_usd for row in rows]
    return None if None in costs else sum(cost or 0.0 for cost in costs)
