"""Which program to keep after a stage, and whether the next stage is worth its money.

Invariant: `decide` is a pure function: the same numbers give the same decision and the same sentence. It never keeps a
`worse` program, and in stages that aim at `better` the best dev mean never falls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from cascade.comparison import Comparison, Interval, Verdict

Ahead = tuple[str, str]
"""Name and lever of a stage that has not run yet."""

_ROUNDING = 1e-9  # so that from 0.28 to 0.29 is a gain of 0.01


class Kept(StrEnum):
    """Which program goes on."""

    NEW = "new"
    INCUMBENT = "incumbent"


class Next(StrEnum):
    """What happens after the stage."""

    CONTINUE = "continue"
    ESCALATE = "escalate"
    STOP = "stop"


class PlateauRules(Protocol):
    """What `decide` reads of `cascade.experiment.Plateau`, where the fields are described."""

    @property
    def patience(self) -> int: ...  # noqa: D102
    @property
    def min_gain(self) -> float: ...  # noqa: D102
    @property
    def on_plateau(self) -> Literal["escalate", "stop"]: ...  # noqa: D102
    @property
    def max_cost_per_point(self) -> float | None: ...  # noqa: D102


@dataclass(frozen=True)
class Evidence:
    """What a stage produced.

    Args:
        stage, lever: its name and what it changes.
        aim: `better`, or `cheaper` for a stage that only must not score lower by `margin` (a fraction) or more.
        unchanged: whether the program is the incumbent itself; then nothing is compared.
        failed: why the stage produced no program, or None.
        against_anchor, against_incumbent: on dev; the first unless unchanged or failed, the second for `cheaper`.
        dev_score: mean on dev, a fraction; not read where the stage failed.
        serving_cost: of one example, in the unit of the incumbent's (dollars, else tokens); None if unknown.
        cost: dollars that the stage cost; None if unknown.
    """

    stage: str
    lever: str
    aim: Literal["better", "cheaper"] = "better"
    margin: float = 0.0
    unchanged: bool = False
    failed: str | None = None
    against_anchor: Comparison | None = None
    against_incumbent: Comparison | None = None
    dev_score: float = 0.0
    serving_cost: float | None = None
    cost: float | None = 0.0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        compared = not self.unchanged and self.failed is None
        if compared != (self.against_anchor is not None):
            raise ValueError(f"Stage {self.stage!r}: against_anchor is given unless it is unchanged or failed.")
        if compared and self.aim == "cheaper" and self.against_incumbent is None:
            raise ValueError(f"Stage {self.stage!r}: the aim 'cheaper' needs against_incumbent.")

    @property
    def verdict(self) -> Verdict | None:
        """Against the anchor; None where the stage failed."""
        if self.failed is not None:
            return None
        return self.against_anchor.verdict if self.against_anchor else Verdict.UNCHANGED


@dataclass(frozen=True)
class Standing:
    """What is known before a stage.

    Args:
        incumbent_score, incumbent_cost: mean on dev; of serving one example (dollars, else tokens), None if unknown.
        lever, misses: of the stage before (None before the first); consecutive stages of that lever without `better`.
        cost_since_anchor: dollars spent on stages since the anchor was set; None if unknown.
        gain_bound: largest upper bound of a gain over the anchor since then, a fraction; None before a comparison.
    """

    incumbent_score: float
    incumbent_cost: float | None = None
    lever: str | None = None
    misses: int = 0
    cost_since_anchor: float | None = 0.0
    gain_bound: float | None = None


@dataclass(frozen=True)
class Decision:
    """What was decided after a stage, and why.

    Args:
        verdict: against the anchor; None where the stage failed. `better` moves the anchor to the new program.
        kept, next, lever: which program goes on as incumbent, what happens now, and the lever of the stage.
        reason: one sentence with the numbers, in percent and points.
        gain, interval, confidence, n, minimum_detectable_gain: of the comparison; None where there was none.
        skipped: names of stages ahead that will not run: those of the lever that is left, or all at a stop.
        status: with `stop`, how the cascade ended: `completed`, `plateau`, `target` or `budget`; else None.
    """

    verdict: Verdict | None
    kept: Kept
    next: Next
    lever: str
    reason: str
    gain: float | None = None
    interval: Interval | None = None
    confidence: float | None = None
    n: int | None = None
    minimum_detectable_gain: float | None = None
    skipped: tuple[str, ...] = ()
    status: str | None = None

    def to_json(self, spent: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A plain document for `decision.json`: the interval as [low, high], and what was spent."""
        values = {key: str(value) if isinstance(value, StrEnum) else value for key, value in asdict(self).items()}
        interval = self.interval and [self.interval.low, self.interval.high]
        return values | {"interval": interval, "skipped": list(self.skipped), "spent": dict(spent or {})}


class _Step(NamedTuple):
    """What comes next, why, and which stages it leaves out."""

    next: Next
    why: str
    skipped: tuple[str, ...] = ()
    status: str | None = None


def decide(
    evidence: Evidence,
    standing: Standing,
    plateau: PlateauRules,
    *,
    ahead: Sequence[Ahead],
    target: float | None = None,
    budget_spent: str | None = None,
) -> tuple[Decision, Standing]:
    """Decide after a stage; returns the decision and the standing before the next stage.

    Stops are looked for in this order: target, budget, no stage ahead, plateau.

    Args:
        evidence, standing, plateau: what the stage produced, what was known before it, and the rules.
        ahead: the stages that have not run, in their order.
        target: dev mean of the kept program that is good enough, a fraction.
        budget_spent: a sentence that names the cap that is reached, or None.
    """
    kept, why_kept = _keep(evidence, standing, plateau.min_gain)
    after = _advance(evidence, standing, kept)
    if target is not None and after.incumbent_score >= target - _ROUNDING:
        step = _stop("target", f"the target of {_percent(target)} is reached", ahead)
    elif budget_spent is not None:
        step = _stop("budget", budget_spent.rstrip("."), ahead)
    else:
        step = _go_on(after, plateau, ahead)
    reason = f"{_finding(evidence)}; {why_kept}; {step.why}."
    decision = Decision(evidence.verdict, kept, step.next, evidence.lever, reason)
    if told := evidence.against_anchor:
        decision = replace(decision, gain=told.gain, interval=told.interval, confidence=told.interval.confidence)
        decision = replace(decision, n=told.n, minimum_detectable_gain=told.minimum_detectable_gain)
    return replace(decision, skipped=step.skipped, status=step.status), after


def proven(test_comparison: Comparison | None) -> bool:
    """Whether the best program beats the baseline on test: the interval of its gain is above 0."""
    return test_comparison is not None and test_comparison.interval.low > 0


def proof(test_comparison: Comparison | None) -> str:
    """The same in words, with the numbers where there are any.

    >>> proof(None)
    'not proven on test'
    """
    if test_comparison is None:
        return "not proven on test"
    return f"{'' if proven(test_comparison) else 'not '}proven on test: {_gain(test_comparison)}"


def _keep(evidence: Evidence, standing: Standing, min_gain: float) -> tuple[Kept, str]:
    if evidence.verdict in (None, Verdict.UNCHANGED):
        return Kept.INCUMBENT, "the incumbent is kept"
    if evidence.verdict is Verdict.WORSE:
        return Kept.INCUMBENT, "not kept, because it is worse"
    new, old = evidence.serving_cost, standing.incumbent_cost
    cheaper = new is not None and old is not None and new < old
    if evidence.aim == "cheaper" and evidence.against_incumbent is not None:
        return _keep_cheaper(evidence.against_incumbent.interval.low, evidence.margin, cheaper)
    return _keep_higher(evidence.dev_score - standing.incumbent_score, min_gain, cheaper)


def _keep_higher(rise: float, min_gain: float, cheaper: bool) -> tuple[Kept, str]:
    enough = rise > 0 and rise >= min_gain - _ROUNDING
    reach = "reach" if enough else "do not reach"
    why = f"because {_points(rise)} points against the incumbent {reach} the least gain of {_points(min_gain)}"
    if enough:
        return Kept.NEW, f"kept, {why}"
    if rise >= 0 and cheaper:
        return Kept.NEW, f"kept, {why} but it is cheaper to serve"
    return Kept.INCUMBENT, f"not kept, {why}" + (" and it is not cheaper to serve" if rise >= 0 else "")


def _keep_cheaper(low: float, margin: float, cheaper: bool) -> tuple[Kept, str]:
    if not cheaper:
        return Kept.INCUMBENT, "not kept, because it is not known to be cheaper to serve"
    bound = f"the lower bound of its difference to the incumbent, {_points(low)} points, is"
    if low <= -margin:
        return Kept.INCUMBENT, f"not kept, because {bound} not above the margin of {_points(-margin)}"
    return Kept.NEW, f"kept, because it is cheaper to serve and {bound} above the margin of {_points(-margin)}"


def _advance(evidence: Evidence, standing: Standing, kept: Kept) -> Standing:
    after = replace(standing, lever=evidence.lever, misses=1 + standing.misses * (evidence.lever == standing.lever))
    before, cost = standing.cost_since_anchor, evidence.cost
    after = replace(after, cost_since_anchor=None if before is None or cost is None else before + cost)
    if told := evidence.against_anchor:
        after = replace(after, gain_bound=max(told.interval.high, -1 if after.gain_bound is None else after.gain_bound))
    if evidence.verdict is Verdict.BETTER:
        after = replace(after, misses=0, cost_since_anchor=0.0, gain_bound=None)
    if kept is Kept.NEW:
        after = replace(after, incumbent_score=evidence.dev_score, incumbent_cost=evidence.serving_cost)
    return after


def _go_on(after: Standing, plateau: PlateauRules, ahead: Sequence[Ahead]) -> _Step:
    if not ahead:
        return _Step(Next.STOP, "no stage is left", (), "completed")
    if after.misses < plateau.patience:
        return _Step(Next.CONTINUE, f"goes on with {ahead[0][0]!r}")
    flat = f"{after.misses} {after.lever} stage{'s' * (after.misses > 1)} in a row without better: a plateau"
    if too_dear := _too_dear(after, plateau.max_cost_per_point):
        return _stop("plateau", f"{flat}, and {too_dear}", ahead)
    if plateau.on_plateau == "stop":
        return _stop("plateau", flat, ahead)
    name, lever = next((stage for stage in ahead if stage[1] != after.lever), ("", ""))
    if not lever:
        return _stop("plateau", f"{flat}, and no other lever is left", ahead)
    skipped = tuple(stage[0] for stage in ahead if stage[1] == after.lever)
    left_out = f", skipping {', '.join(map(repr, skipped))}" if skipped else ""
    return _Step(Next.ESCALATE, f"{flat}, so it escalates to {lever} with {name!r}{left_out}", skipped)


def _stop(status: str, why: str, ahead: Sequence[Ahead]) -> _Step:
    return _Step(Next.STOP, f"{why}, so it stops", tuple(name for name, _ in ahead), status)


def _too_dear(after: Standing, limit: float | None) -> str | None:
    """Why another point would cost too much; None where it would not, or cost or possible gain is unknown."""
    spent, bound = after.cost_since_anchor, after.gain_bound
    if limit is None or spent is None or bound is None or spent <= limit * 100 * max(bound, 0.0) + _ROUNDING:
        return None
    return f"${spent:.2f} since the anchor for at most {_points(bound)} points is more than ${limit:.2f} a point"


def _finding(evidence: Evidence) -> str:
    if evidence.failed is not None:
        return f"Stage {evidence.stage!r} failed ({' '.join(evidence.failed.split()).rstrip('.')})"
    if (told := evidence.against_anchor) is None:
        return f"Stage {evidence.stage!r} returned the incumbent, so nothing was tested"
    finding = f"Dev {_percent(evidence.dev_score)} against the anchor's {_percent(evidence.dev_score - told.gain)}: "
    finding += f"gain {_gain(told)} at {_percent(told.interval.confidence)} confidence: {told.verdict}"
    if told.verdict in (Verdict.BETTER, Verdict.WORSE):
        return finding
    return f"{finding} (less than {100 * told.minimum_detectable_gain:.1f} points would likely not have been seen)"


def _gain(told: Comparison) -> str:
    return f"{_points(told.gain)} points [{_points(told.interval.low)}, {_points(told.interval.high)}]"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _points(fraction: float) -> str:
    points = round(100 * fraction, 1)
    return f"{points:+.1f}" if points else "0.0"
