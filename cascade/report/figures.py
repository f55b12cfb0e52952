"""Figures as a person reads them: percent, points, dollars, minutes.

Invariant: an unknown figure is shown as unknown, never as zero.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "–"


def percent(share: float | None) -> str:
    """A score.

    >>> percent(0.31667)
    '31.7%'
    """
    return UNKNOWN if share is None else f"{share:.1%}"


def points(gain: float | None) -> str:
    """A difference of scores.

    >>> points(0.12), points(-0.005), points(-0.0001)
    ('+12.0', '-0.5', '+0.0')
    """
    return UNKNOWN if gain is None else f"{round(100 * gain, 1) + 0.0:+.1f}"


def dollars(cost: float | None) -> str:
    """What calls cost.

    >>> dollars(0.0), dollars(0.00312), dollars(12.3), dollars(None)
    ('$0', '$0.0031', '$12.30', '–')
    """
    if cost is None:
        return UNKNOWN
    return "$0" if cost == 0 else f"${cost:.4f}" if cost < 1 else f"${cost:,.2f}"


def clock(seconds: float) -> str:
    """How long.

    >>> clock(3.2), clock(75), clock(4000)
    ('3s', '1:15', '1:06:40')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest}s"


def many_compared(earlier: int) -> str:
    """What it means that so many other pairs of programs were compared on the same rows of dev; "" for none."""
    if not earlier:
        return ""
    return (
        f"{counted(earlier, 'other pair')} of programs compared on these rows of dev before: the confidence is not "
        "corrected for that. What is chosen among many is proven on test alone."
    )


def counted(number: float, noun: str) -> str:
    """A number of things.

    >>> counted(1, "LM call"), counted(1200, "LM call")
    ('1 LM call', '1,200 LM calls')
    """
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def percent_interval(low: float | None, high: float | None) -> str:
    """An interval of a score, or "".

    >>> percent_interval(0.6641, 0.8312), percent_interval(None, None)
    ('[66–83]', '')
    """
    return "" if low is None or high is None else f"[{100 * low:.0f}–{100 * high:.0f}]"


def points_interval(bounds: Sequence[float] | None) -> str:
    """An interval of a difference, or "".

    >>> points_interval((0.341, 0.568))
    '[+34.1, +56.8]'
    """
    return f"[{points(bounds[0])}, {points(bounds[1])}]" if bounds else ""


def gained(gain: float, bounds: Sequence[float]) -> str:
    """A difference with its interval.

    >>> gained(0.469, (0.341, 0.568))
    '+46.9 points [+34.1, +56.8]'
    """
    return f"{points(gain)} points {points_interval(bounds)}"


def moment(seconds: float | None) -> str:
    """A point in time.

    >>> moment(1_795_000_000.0)
    '2026-11-18 11:06 UTC'
    """
    return UNKNOWN if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def calls(spent: Mapping[str, Any]) -> str:
    """LM calls that a model answered, and those that the ledger answered, where there were any.

    >>> calls({"lm_calls": 1200, "lm_calls_cached": 3})
    '1,200 LM calls (+3 from the ledger)'
    """
    free = spent.get("lm_calls_cached") or 0
    return counted(spent.get("lm_calls", 0), "LM call") + (f" (+{free:,.0f} from the ledger)" if free else "")
