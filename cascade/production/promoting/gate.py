"""Whether a challenger may take the champion's place.

Invariant: `gate` is a pure function of two evaluations on the same test examples, and the sentence it gives is read off
the same bounds as the ruling.

The k-th look at one test spends α/(k(k+1)), which sums to α over any number of looks: however many programs are tried
on one test, the chance that one which is no better is ever let through stays below α (alpha-spending by D. P. Foster
and R. A. Stine, J. R. Stat. Soc. B 70, 2008, in its simplest form: nothing is earned back).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cascade.comparison import Comparison, compare
from cascade.costs import by_example, serving
from cascade.evaluation import Evaluation
from cascade.spending import Serving

RELATIVE = ("cost", "latency")
"""Guardrails that are measured in shares of the champion's; all others are parts of the score."""
_TINY = 1e-9


@dataclass(frozen=True)
class Rules:
    """What a gate asks for.

    Args:
        alpha: chance, over all looks at one test, that a program which is no better is let through.
        equivalence_margin: see `cascade.experiment.Plateau`.
        guardrails: how much worse a figure may get: `cost` and `latency` as a share of the champion's, a part of the
            score as a difference of means.
        cheaper_margin: for a program whose aim was to be cheaper, how much lower it may score; else None.
        min_gain: what the lower bound of the gain must exceed, a fraction.
    """

    alpha: float = 0.05
    equivalence_margin: float = 0.03
    guardrails: Mapping[str, float] = field(default_factory=dict)
    cheaper_margin: float | None = None
    min_gain: float = 0.0


@dataclass(frozen=True)
class Guarded:
    """One guardrail as it was measured.

    Args:
        old, new: mean of the champion and of the challenger: tokens or dollars, seconds, or a part from 0 to 1.
        worst: how much worse it may be at the most, by the upper bound: a share for `cost` and `latency`, else points
            as a fraction.
    """

    name: str
    margin: float
    old: float
    new: float
    worst: float

    @property
    def held(self) -> bool:
        """Whether even the upper bound is within the margin."""
        return self.worst <= self.margin + _TINY

    def to_json(self) -> dict[str, Any]:
        """Plain values; `worst` is null where nothing bounds it."""
        return {**asdict(self), "worst": self.worst if math.isfinite(self.worst) else None, "held": self.held}

    def __str__(self) -> str:
        if not math.isfinite(self.worst):
            return f"{self.name} cannot be compared"
        if self.name in RELATIVE:
            how = f"from {self.old:.4g} to {self.new:.4g}, at most {100 * self.worst:+.0f} %"
            return f"{self.name} {how} of {100 * self.margin:+.0f} %"
        how = f"from {self.old:.1%} to {self.new:.1%}, at most {100 * self.worst:.1f} points lower"
        return f"{self.name} {how} of {100 * self.margin:.1f}"


@dataclass(frozen=True)
class Ruling:
    """What the gate said.

    Args:
        granted: whether the challenger may serve: it passed, and all guardrails hold.
        passed: by its score, or by being cheaper.
        reason: one sentence with the numbers.
        path: `better`, or `cheaper` where it passed by not being worse and costing less.
        attempt, alpha: which look at this test it was, and what it spent.
        comparison: challenger against reference, paired; its lower bound is one-sided at `alpha`.
        serving: what an example costs under both; None where that cannot be compared.
    """

    granted: bool
    passed: bool
    reason: str
    path: str
    attempt: int
    alpha: float
    comparison: Comparison
    scores: tuple[float, float]
    serving: Serving | None
    guardrails: tuple[Guarded, ...] = ()

    def figures(self) -> dict[str, Any]:
        """Plain values for the log."""
        told = self.comparison
        return {
            "reference_score": round(self.scores[0], 4),
            "score": round(self.scores[1], 4),
            "gain": round(told.gain, 4),
            "gain_ci_low": round(told.interval.low, 4),
            "gain_ci_high": round(told.interval.high, 4),
            "confidence": told.interval.confidence,
            "n": told.n,
            "units": told.units,
            "minimum_detectable_gain": round(told.minimum_detectable_gain, 4),
            "alpha": self.alpha,
            **(_costs(self.serving) if self.serving else {}),
            "path": self.path,
            "guardrails": [guard.to_json() for guard in self.guardrails],
        }


def spent(alpha: float, attempt: int) -> float:
    """What the `attempt`-th look spends of `alpha`.

    >>> [round(spent(0.05, k), 4) for k in (1, 2, 3)]
    [0.025, 0.0083, 0.0042]

    Raises:
        ValueError: no attempt.
    """
    if attempt < 1:
        raise ValueError(f"attempt = {attempt}: the first look is number 1.")
    return alpha / (attempt * (attempt + 1))


def _costs(told: Serving) -> dict[str, Any]:
    return {
        "serving_cost": round(told.candidate, 6),
        "reference_serving_cost": round(told.incumbent, 6),
        "serving_unit": told.unit,
    }


def gate(challenger: Evaluation, reference: Evaluation, rules: Rules, *, attempt: int, same_lms: bool = True) -> Ruling:
    """Rule on a challenger against what serves, or against the baseline where nothing does.

    Args:
        challenger, reference: on the same examples of test.
        attempt: which look at this test it is, from 1.
        same_lms: whether the same LMs answer; if not, tokens say nothing about costs.

    Raises:
        ValueError: evaluations of different examples.
        DatasetError: fewer than 20 independent units.
    """
    if challenger.split.ids != reference.split.ids:
        raise ValueError("The two evaluations are of different examples: they cannot be paired.")
    alpha, groups = spent(rules.alpha, attempt), challenger.split.groups
    told = compare(
        challenger.scores, reference.scores, groups=groups, confidence=1 - 2 * alpha, margin=rules.equivalence_margin
    )
    costs = serving(challenger, reference, same_lms=same_lms)
    guards = _guards(challenger, reference, rules, alpha, costs)
    path, passed, why = _passed(told, rules, costs)
    broken = [guard for guard in guards if not guard.held]
    if broken:
        why += f"; {'but ' if passed else ''}a guardrail does not hold: {broken[0]}"
    reason = (
        f"Test {reference.mean:.1%} → {challenger.mean:.1%}, {_points(told.gain)} points, at least "
        f"{_points(told.interval.low)} at {1 - alpha:.2%} (look {attempt} at this test): {why}"
    )
    return Ruling(
        passed and not broken, passed, f"{reason}.", path, attempt, alpha, told, (reference.mean, challenger.mean),
        costs, guards,
    )  # fmt: skip


def _passed(told: Comparison, rules: Rules, costs: Serving | None) -> tuple[str, bool, str]:
    """By which path, whether, and why; guardrails apart."""
    low, asked = told.interval.low, _asked(rules.min_gain)
    if low > rules.min_gain:
        return "better", True, f"it is {asked}"
    if rules.cheaper_margin is None:
        seen = f"gains of less than {100 * told.minimum_detectable_gain:.1f} points would likely not have been seen"
        return "better", False, f"not shown to be {asked}; {seen}"
    if costs is None or not costs.cheaper:
        return "cheaper", False, f"it aims to be cheaper, but serving costs {costs or 'what cannot be compared'}"
    if low <= -rules.cheaper_margin:
        return "cheaper", False, f"it may be worse by more than the margin of {100 * rules.cheaper_margin:.1f} points"
    return "cheaper", True, f"within the margin of {100 * rules.cheaper_margin:.1f} points, and serving costs {costs}"


def _asked(floor: float) -> str:
    if floor < 0:
        return f"not worse by {100 * -floor:.1f} points"
    return "better" + (f" by {100 * floor:.1f} points" if floor else "")


def _guards(
    challenger: Evaluation, reference: Evaluation, rules: Rules, alpha: float, costs: Serving | None
) -> tuple[Guarded, ...]:
    """Each guardrail at a level corrected for their number, so that all upper bounds hold together."""
    each = alpha / max(1, len(rules.guardrails))
    return tuple(
        _relative(name, margin, challenger, reference, each, costs)
        if name in RELATIVE
        else _part(name, margin, challenger, reference, each)
        for name, margin in rules.guardrails.items()
    )


def _part(name: str, margin: float, challenger: Evaluation, reference: Evaluation, alpha: float) -> Guarded:
    new, old = ([outcome.parts.get(name, 0.0) for outcome in side.outcomes] for side in (challenger, reference))
    told = compare(new, old, groups=challenger.split.groups, confidence=1 - 2 * alpha, margin=margin)
    return Guarded(name, margin, _mean(old), _mean(new), -told.interval.low)


def _relative(
    name: str, margin: float, challenger: Evaluation, reference: Evaluation, alpha: float, costs: Serving | None
) -> Guarded:
    """The largest share by which it may have grown: where the upper bound of `new - (1 + share) * old` reaches 0.

    The bound needs to know how large an example's figure can get; the largest that was seen stands for it.
    """
    sides = (challenger, reference)
    if name == "latency":
        new, old = ([outcome.latency for outcome in side.outcomes] for side in sides)
    elif costs is not None:
        new, old = (by_example(side, costs.unit) for side in sides)
    else:
        return Guarded(name, margin, 0.0, 0.0, math.inf)
    if not _mean(old):
        return Guarded(name, margin, 0.0, _mean(new), math.inf if _mean(new) else 0.0)

    def grown(share: float) -> bool:
        allowed = [(1 + share) * value for value in old]
        top = max(*new, *allowed)
        scaled = ([value / top for value in values] for values in (new, allowed))
        told = compare(*scaled, groups=challenger.split.groups, confidence=1 - 2 * alpha, margin=1.0)
        return told.interval.high > 0

    low, high = -1.0, max(1.0, 2 * max(new) / _mean(old))
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if grown(middle) else (low, middle)
    return Guarded(name, margin, _mean(old), _mean(new), high)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _points(fraction: float) -> str:
    points = round(100 * fraction, 1)
    return f"{points:+.1f}" if points else "0.0"
