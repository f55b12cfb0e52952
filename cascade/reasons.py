"""Decisions in words: one sentence with the numbers, in percent and points.

Invariant: a sentence says nothing that the evidence does not; the same evidence gives the same sentence.
"""

from cascade.comparison import Comparison, Verdict
from cascade.evidence import Evidence


def finding(evidence: Evidence) -> str:
    """What a stage came to."""
    if evidence.failed is not None:
        return f"Stage {evidence.stage!r} failed ({' '.join(evidence.failed.split()).rstrip('.')})"
    if (told := evidence.against_anchor) is None:
        return f"Stage {evidence.stage!r} returned the incumbent, so nothing was tested"
    found = f"Dev {percent(evidence.dev_score)} against the anchor's {percent(evidence.dev_score - told.gain)}: "
    found += f"gain {gain(told)} at {percent(told.interval.confidence)} confidence: {told.verdict}"
    if told.verdict in (Verdict.BETTER, Verdict.WORSE):
        return found
    return f"{found} (less than {100 * told.minimum_detectable_gain:.1f} points would likely not have been seen)"


def serving(evidence: Evidence) -> str:
    """Whether a program costs less to serve than the incumbent, and how much."""
    if (costs := evidence.serving) is None:
        return "it is not known to cost less to serve (another LM answers, and no price of both is known)"
    if not costs.cheaper:
        return f"it does not cost less to serve ({costs})"
    return f"it costs less to serve ({costs})"


def margin(against_incumbent: Comparison, allowed: float) -> str:
    """Whether a program was shown to score less than `allowed` below the incumbent."""
    stays = "stays" if against_incumbent.interval.low > -allowed else "does not stay"
    return f"its difference to the incumbent, {gain(against_incumbent)}, {stays} above the margin of {points(-allowed)}"


def gain(told: Comparison) -> str:
    """A difference with its interval."""
    return f"{points(told.gain)} points [{points(told.interval.low)}, {points(told.interval.high)}]"


def percent(fraction: float) -> str:
    """A share or a score.

    >>> percent(0.975)
    '97.5 %'
    """
    return f"{100 * fraction:.1f} %"


def points(fraction: float) -> str:
    """A difference of scores.

    >>> points(0.05), points(-0.0001)
    ('+5.0', '0.0')
    """
    rounded = round(100 * fraction, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"
