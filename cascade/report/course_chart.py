"""The course of an A/B test: the interval of the difference by outcomes, in units of the picture's `viewBox`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade.report.scale import Scale, Tick, marks

WIDTH, LEFT, RIGHT = 920.0, 60.0, 890.0
TOP, BOTTOM = 16.0, 320.0
_FAR = 0.5
"""At the beginning the interval holds nearly everything: what is beyond this of the last one is cut off."""


@dataclass(frozen=True)
class CourseChart:
    """The picture.

    Args:
        band: path around the intervals.
        line: path of the estimates.
        zero: where both arms are alike.
    """

    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    band: str
    line: str
    zero: float
    width: float = WIDTH
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM


def course_chart(course: Sequence[Any]) -> CourseChart | None:
    """The picture of looks with `outcomes`, `estimate`, `low` and `high`; None where there are not two of them."""
    if len(course) < 2:
        return None
    last = course[-1]
    room = max(last.high - last.low, 0.02)
    bottom, top = max(-1.0, min(last.low, 0.0) - _FAR * room), min(1.0, max(last.high, 0.0) + _FAR * room)
    across, up = marks(0, last.outcomes), marks(bottom, top, 6)
    x, y = Scale(across[0], across[-1], LEFT, RIGHT), Scale(up[0], up[-1], BOTTOM, TOP)

    def at(outcomes: float, value: float) -> str:
        return f"{x(outcomes)},{y(min(max(value, up[0]), up[-1]))}"

    upper = [at(look.outcomes, look.high) for look in course]
    lower = [at(look.outcomes, look.low) for look in reversed(course)]
    return CourseChart(
        tuple(Tick(x(mark), f"{mark:,.12g}") for mark in across if mark == int(mark)),
        tuple(Tick(y(mark), f"{100 * mark:+.3g}" if mark else "0") for mark in up),
        f"M{' L'.join([*upper, *lower])}Z",
        f"M{' L'.join(at(look.outcomes, look.estimate) for look in course)}",
        y(0.0),
    )
