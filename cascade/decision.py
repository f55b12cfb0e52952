"""Which program to keep after a stage, and whether the next stage is worth its money.

Invariant: `decide` is a pure function: the same numbers give the same decision and the same sentence. A stage that aims
at `better` never has a `worse` program kept and never lowers the best dev mean; one that aims at `cheaper` has a
program kept only where it costs less and was shown to score less than the margin below the incumbent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol

from cascade import reasons
from cascade.comparison import Comparison, Interval, Verdict
from cascade.evidence import Ahead, Aim, Evidence, Standing
from cascade.reasons import percent, points
from cascade.spending import Serving

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
class Decision:
    """What was decided after a stage, and why.

    Args:
        verdict: against the anchor; None where the stage failed. `better` moves the anchor to the new program.
        kept, next, lever: which program goes on as incumbent, what happens now, and the lever of the stage.
        reason: one sentence with the numbers, in percent and points.
        gain, interval, confidence, n, minimum_detectable_gain: of the comparison; None where there was none.
        aim: of the stage.
        incumbent_gain, incumbent_interval, margin, within_margin: where the aim was `cheaper` and a program was
            compared: its difference to the incumbent, at the same confidence, how far below 0 that may be, and whether
            the lower bound is above that.
        serving: what an example costs under the program and under the incumbent; None where that is not comparable.
        skipped: names of stages ahead that will not run: those of the lever that is left, or all at a stop.
        status: why no stage that aims at `better` follows: `completed`, `plateau`, `target` or `budget`; else None.
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
    aim: Aim = "better"
    incumbent_gain: float | None = None
    incumbent_interval: Interval | None = None
    margin: float | None = None
    within_margin: bool | None = None
    serving: Serving | None = None
    skipped: tuple[str, ...] = ()
    status: str | None = None

    def to_json(self, spent: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A plain document for `decision.json`: intervals as [low, high], and what was spent."""
        values = {key: str(value) if isinstance(value, StrEnum) else value for key, value in asdict(self).items()}
        bounds = {"interval": self.interval, "incumbent_interval": self.incumbent_interval}
        values |= {name: interval and [interval.low, interval.high] for name, interval in bounds.items()}
        return values | {"skipped": list(self.skipped), "spent": dict(spent or {})}


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
        step = _enough("target", f"the target of {percent(target)} is reached", ahead)
    elif budget_spent is not None:
        step = _stop("budget", budget_spent.rstrip("."), ahead)
    else:
        step = _go_on(after, plateau, ahead)
    reason = f"{reasons.finding(evidence)}; {why_kept}; {step.why}."
    decision = Decision(evidence.verdict, kept, step.next, evidence.lever, reason, aim=evidence.aim)
    decision = replace(decision, serving=evidence.serving, skipped=step.skipped, status=step.status)
    return _with_figures(decision, evidence), after


def _with_figures(decision: Decision, evidence: Evidence) -> Decision:
    if told := evidence.against_anchor:
        decision = replace(decision, gain=told.gain, interval=told.interval, confidence=told.interval.confidence)
        decision = replace(decision, n=told.n, minimum_detectable_gain=told.minimum_detectable_gain)
    if told := evidence.against_incumbent:
        decision = replace(decision, incumbent_gain=told.gain, incumbent_interval=told.interval)
        decision = replace(decision, margin=evidence.margin, within_margin=evidence.within_margin)
    return decision


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
    return f"{'' if proven(test_comparison) else 'not '}proven on test: {reasons.gain(test_comparison)}"


def _keep(evidence: Evidence, standing: Standing, min_gain: float) -> tuple[Kept, str]:
    if evidence.verdict in (None, Verdict.UNCHANGED):
        return Kept.INCUMBENT, "the incumbent is kept"
    if evidence.against_incumbent is not None:
        return _keep_cheaper(evidence, evidence.against_incumbent)
    if evidence.verdict is Verdict.WORSE:
        return Kept.INCUMBENT, "not kept, because it is worse"
    return _keep_higher(evidence.dev_score - standing.incumbent_score, min_gain, evidence.cheaper)


def _keep_higher(rise: float, min_gain: float, cheaper: bool) -> tuple[Kept, str]:
    enough = rise > 0 and rise >= min_gain - _ROUNDING
    reach = "reach" if enough else "do not reach"
    why = f"because {points(rise)} points against the incumbent {reach} the least gain of {points(min_gain)}"
    if enough:
        return Kept.NEW, f"kept, {why}"
    if rise >= 0 and cheaper:
        return Kept.NEW, f"kept, {why} but it is cheaper to serve"
    return Kept.INCUMBENT, f"not kept, {why}" + (" and it is not cheaper to serve" if rise >= 0 else "")


def _keep_cheaper(evidence: Evidence, against_incumbent: Comparison) -> tuple[Kept, str]:
    """Whatever the verdict against the anchor: how much may be lost is what the margin says."""
    cost, score = reasons.serving(evidence), reasons.margin(against_incumbent, evidence.margin)
    if evidence.cheaper and evidence.within_margin:
        return Kept.NEW, f"kept, because {cost} and {score}"
    if evidence.cheaper:
        return Kept.INCUMBENT, f"not kept, because {score}, although {cost}"
    return Kept.INCUMBENT, f"not kept, because {cost}; {score}"


def _advance(evidence: Evidence, standing: Standing, kept: Kept) -> Standing:
    after = _counted(evidence, standing) if evidence.aim == "better" else standing
    if evidence.verdict is Verdict.BETTER:
        after = replace(after, misses=0, cost_since_anchor=0.0, gain_bound=None)
    return replace(after, incumbent_score=evidence.dev_score) if kept is Kept.NEW else after


def _counted(evidence: Evidence, standing: Standing) -> Standing:
    """A stage that aimed at a better score, on the way to a plateau; one that did not says nothing about it."""
    after = replace(standing, lever=evidence.lever, misses=1 + standing.misses * (evidence.lever == standing.lever))
    before, cost = standing.cost_since_anchor, evidence.cost
    after = replace(after, cost_since_anchor=None if before is None or cost is None else before + cost)
    if told := evidence.against_anchor:
        after = replace(after, gain_bound=max(told.interval.high, -1 if after.gain_bound is None else after.gain_bound))
    return after


def _go_on(after: Standing, plateau: PlateauRules, ahead: Sequence[Ahead]) -> _Step:
    if not ahead:
        return _Step(Next.STOP, "no stage is left", (), "completed")
    if after.misses < plateau.patience:
        return _Step(Next.CONTINUE, f"goes on with {ahead[0].name!r}")
    flat = f"{after.misses} {after.lever} stage{'s' * (after.misses > 1)} in a row without better: a plateau"
    if too_dear := _too_dear(after, plateau.max_cost_per_point):
        return _enough("plateau", f"{flat}, and {too_dear}", ahead)
    if plateau.on_plateau == "stop":
        return _enough("plateau", flat, ahead)
    better = [stage for stage in ahead if stage.aim == "better"]
    costlier = next((stage for stage in better if stage.lever != after.lever), None)
    if costlier is None:
        return _enough("plateau", f"{flat}, and no other lever is left", ahead)
    skipped = tuple(stage.name for stage in better if stage.lever == after.lever)
    why = f"{flat}, so it escalates to {costlier.lever} with {costlier.name!r}{_left_out(skipped)}"
    return _Step(Next.ESCALATE, why, skipped)


def _enough(status: str, why: str, ahead: Sequence[Ahead]) -> _Step:
    """No better score is looked for any more; stages that aim at `cheaper` have their turn."""
    cheaper = next((stage for stage in ahead if stage.aim == "cheaper"), None)
    if cheaper is None:
        return _stop(status, why, ahead)
    skipped = tuple(stage.name for stage in ahead if stage.aim == "better")
    on = f"so it goes on with {cheaper.name!r}, which aims at cheaper"
    return _Step(Next.CONTINUE, f"{why}, {on}{_left_out(skipped)}", skipped, status)


def _left_out(skipped: Sequence[str]) -> str:
    return f", skipping {', '.join(map(repr, skipped))}" if skipped else ""


def _stop(status: str, why: str, ahead: Sequence[Ahead]) -> _Step:
    return _Step(Next.STOP, f"{why}, so it stops", tuple(stage.name for stage in ahead), status)


def _too_dear(after: Standing, limit: float | None) -> str | None:
    """Why another point would cost too much; None where it would not, or cost or possible gain is unknown."""
    spent, bound = after.cost_since_anchor, after.gain_bound
    if limit is None or spent is None or bound is None or spent <= limit * 100 * max(bound, 0.0) + _ROUNDING:
        return None
    return f"${spent:.2f} since the anchor for at most {points(bound)} points is more than ${limit:.2f} a point"
