"""What to do about a challenger, given the outcomes so far.

Invariant: `advise` is a pure function: the same numbers give the same advice and the same sentence. The verdict is read
off the interval that is reported.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from cascade.comparison import Interval
from cascade.errors import DefinitionError
from cascade.production.ab.assignment import Arm
from cascade.production.ab.evidence import Evidence

MISMATCH = 0.01
"""Chance that outcomes which come in the shares that were set are ever said to come in others."""


class Verdict(StrEnum):
    """What the outcomes so far say of the challenger."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


class Action(StrEnum):
    """What to do now."""

    WAIT = "wait"
    PROMOTE = "promote"
    STOP = "stop the challenger"
    KEEP = "keep the champion"


@dataclass(frozen=True)
class Rules:
    """What is asked of a test, fixed before its first outcome.

    Args:
        confidence: of all verdicts of the test together; what it leaves is, apart from them, the chance that a
            challenger which is not worse by more than `tolerance` is ever stopped.
        margin: differences within ± this are equivalent, a fraction.
        tolerance: by how much a challenger may be worse while it is tested, a fraction.

    Raises:
        DefinitionError: a confidence not between 0 and 1, a margin or a tolerance outside 0 to 1.
    """

    confidence: float = 0.95
    margin: float = 0.03
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be kept."""
        if not 0 < self.confidence < 1:
            raise DefinitionError(f"confidence = {self.confidence}: give a fraction between 0 and 1, such as 0.95.")
        for name in ("margin", "tolerance"):
            if not 0 <= getattr(self, name) <= 1:
                raise DefinitionError(f"{name} = {getattr(self, name)}: give a fraction from 0 to 1, such as 0.03.")


@dataclass(frozen=True)
class Advice:
    """What the outcomes so far say, and what to do.

    Args:
        verdict, action: of the challenger.
        reason: one or two sentences with the numbers, in percent and points.
        estimate, interval: of the mean difference of challenger and champion over the outcomes so far, fractions.
        n, means: outcomes of champion and challenger and their plain means; None for an arm without outcome.
        mismatch: whether outcomes come from the arms in other shares than were set.
        more: outcomes of both arms that are still needed, in about half of all tests, to see a difference as large as
            the margin; 0 where it would probably have been seen, None where no number suffices.
    """

    verdict: Verdict
    action: Action
    reason: str
    estimate: float
    interval: Interval
    n: tuple[int, int]
    means: tuple[float | None, float | None]
    mismatch: bool
    more: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain values, those of an arm under its name."""
        return {
            **asdict(self),
            "n": dict(zip(map(str, Arm), self.n, strict=True)),
            "means": dict(zip(map(str, Arm), self.means, strict=True)),
        }


def advise(evidence: Evidence, rules: Rules) -> Advice:
    """Judge a challenger; as often as one likes, after each outcome too.

    The challenger is stopped as soon as it is worse by more than the tolerance, promoted once it is better, and the
    champion kept once it is established that there is nothing to gain. While outcomes come in other shares than were
    set, only a stop follows: who is answered badly may be heard less often, or not at all.

    >>> advise(Evidence.at(0.1), Rules()).action.value
    'wait'
    """
    interval = evidence.interval(rules.confidence)
    harm = evidence.capital(-rules.tolerance, above=False) >= math.log(1 / (1 - rules.confidence))
    mismatch, verdict = evidence.mismatch(MISMATCH), _verdict(interval, rules.margin)
    needed = evidence.needed(rules.margin, rules.confidence)
    more = None if needed is None else max(needed - evidence.outcomes, 0)
    advice = Advice(
        verdict=verdict,
        action=_action(verdict, harm=harm, mismatch=mismatch),
        reason="",
        estimate=evidence.estimate,
        interval=interval,
        n=evidence.n,
        means=(_mean(evidence, 0), _mean(evidence, 1)),
        mismatch=mismatch,
        more=more,
    )
    return replace(advice, reason=" ".join([_finding(advice), *_consequences(advice, evidence, rules)]))


def _verdict(interval: Interval, margin: float) -> Verdict:
    if interval.low > 0:
        return Verdict.BETTER
    if interval.high < 0:
        return Verdict.WORSE
    if -margin <= interval.low and interval.high <= margin:
        return Verdict.EQUIVALENT
    return Verdict.UNDECIDED


def _action(verdict: Verdict, *, harm: bool, mismatch: bool) -> Action:
    if harm:
        return Action.STOP
    if mismatch or verdict is Verdict.UNDECIDED:
        return Action.WAIT
    return Action.PROMOTE if verdict is Verdict.BETTER else Action.KEEP


def _mean(evidence: Evidence, arm: int) -> float | None:
    return evidence.sums[arm] / evidence.n[arm] if evidence.n[arm] else None


def _finding(advice: Advice) -> str:
    champion, challenger = (
        f"{'–' if mean is None else f'{100 * mean:.1f} %'} of {n:,}"
        for mean, n in zip(advice.means, advice.n, strict=True)
    )
    gain = f"{_points(advice.estimate)} points [{_points(advice.interval.low)}, {_points(advice.interval.high)}]"
    level = f"{100 * advice.interval.confidence:.4g} % confidence"
    return f"Challenger {challenger} against champion {champion}: {gain} at {level}: {advice.verdict}."


def _consequences(advice: Advice, evidence: Evidence, rules: Rules) -> Iterator[str]:
    if advice.action is Action.STOP:
        tolerated = f" by more than the {100 * rules.tolerance:.3g} points tolerated" if rules.tolerance else ""
        yield f"It does harm: it is worse{tolerated}, one-sided at {100 * rules.confidence:.4g} % confidence."
    if advice.mismatch:
        came, planned = (f"{100 * part / evidence.outcomes:.1f} %" for part in (evidence.n[1], evidence.planned))
        yield (
            f"{came} of the outcomes are the challenger's where {planned} were set: one arm is heard less often or its "
            "outcomes are lost, and until it is known why, nothing is promoted or kept."
        )
    elif advice.action is Action.WAIT:
        yield _ahead(advice, f"a difference of {100 * rules.margin:.3g} points", evidence.outcomes)


def _ahead(advice: Advice, difference: str, outcomes: int) -> str:
    if advice.more is None:
        return f"No number of outcomes shows {difference}."
    if advice.more == 0:
        return f"{difference.capitalize()} would likely have been seen."
    return (
        f"{difference.capitalize()} takes about {_round(outcomes + advice.more)} outcomes, {_round(advice.more)} more."
    )


def _points(fraction: float) -> str:
    points = round(100 * fraction, 1)
    return f"{points:+.1f}" if points else "0.0"


def _round(number: int) -> str:
    """To two digits: a forecast is no better."""
    return f"{int(float(f'{number:.1e}')):,}"
