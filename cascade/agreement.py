"""How far a judge's verdicts agree with those that people, or whoever labelled, gave to the same answers.

Invariant: agreement is told beside what chance would give, and with its interval: a judge that always says the
commonest verdict agrees often and knows nothing.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from cascade.intervals import Sample, bounds

CONFIDENCE = 0.90


@dataclass(frozen=True)
class Agreement:
    """What came of a comparison; shares from 0 to 1.

    Args:
        n: answers that were judged.
        accuracy: share of equal verdicts, from `low` to `high` at 90 % confidence.
        chance: share that two judges with these verdicts in any order would have in common.
    """

    n: int
    accuracy: float
    low: float
    high: float
    chance: float

    @property
    def kappa(self) -> float:
        """Cohen's kappa (1960): agreement above chance as a share of what there is above it; 1 is all."""
        return self._above_chance(self.accuracy)

    @property
    def kappa_low(self) -> float:
        """Its lower bound, with the share of chance taken as known."""
        return self._above_chance(self.low)

    @property
    def kappa_high(self) -> float:
        """Its upper bound."""
        return self._above_chance(self.high)

    def __str__(self) -> str:
        return (
            f"{self.accuracy:.0%} [{self.low:.0%}, {self.high:.0%}] of {self.n} labelled answers, kappa "
            f"{self.kappa:.2f} [{self.kappa_low:.2f}, {self.kappa_high:.2f}]"
        )

    def _above_chance(self, share: float) -> float:
        return (share - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0


def agreement(
    given: Sequence[Hashable], wanted: Sequence[Hashable], groups: Sequence[Hashable] | None = None
) -> Agreement:
    """Compare verdicts with labels.

    >>> print(agreement(["right", "wrong"] * 20, ["right", "wrong"] * 18 + ["right"] * 4))
    95% [79%, 99%] of 40 labelled answers, kappa 0.90 [0.59, 0.98]

    Args:
        given, wanted: a verdict an answer, in the same order.
        groups: of answers that belong together, which count as one for the interval.
    """
    if not given or len(given) != len(wanted):
        raise ValueError(f"{len(given)} verdicts cannot be compared with {len(wanted)} labels.")
    owners = list(range(len(given))) if groups is None else list(groups)
    equal, sizes = Counter[Hashable](), Counter(owners)
    for one, other, owner in zip(given, wanted, owners, strict=True):
        equal[owner] += one == other
    units = list(sizes)
    low, high = bounds(Sample(tuple(float(equal[u]) for u in units), tuple(sizes[u] for u in units)), CONFIDENCE)
    mine, theirs = Counter(given), Counter(wanted)
    chance = math.fsum(mine[one] * theirs[one] for one in mine) / len(given) ** 2
    accuracy = equal.total() / len(given)
    return Agreement(len(given), accuracy, max(0.0, min(low, accuracy)), min(1.0, max(high, accuracy)), chance)
