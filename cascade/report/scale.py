"""Axes: round numbers along a range, and where a value stands between them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tick:
    """A line of the grid."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on a line from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value stands."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def marks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers that enclose a range in at most `most` steps, and one or two more at its ends.

    >>> marks(0.17, 0.83)
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    """
    span = max(high - low, 0.01 * max(abs(high), abs(low)), 1e-6)
    size = 10.0 ** math.floor(math.log10(span / most))
    step = next(size * times for times in (1, 2, 2.5, 5, 10, 20) if span / (size * times) <= most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]
