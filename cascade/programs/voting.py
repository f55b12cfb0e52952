"""Who wins a vote: pure, and the same for every vote in the package.

Invariant: of equals the one that was said first wins, and that there were equals is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy


@dataclass(frozen=True)
class Count:
    """What came of a vote.

    Args:
        votes: weight by opinion, in the order in which they were said.
        winner: place of the first who said what has most weight.
        tied: opinions of equal weight, if several have most.
    """

    votes: dict[str, float]
    winner: int
    tied: list[str] = field(default_factory=list)


def count(opinions: Sequence[str], weights: Sequence[float] | None = None) -> Count:
    """Count a vote of at least one.

    >>> count(["b", "a", "a", "b"])
    Count(votes={'b': 2.0, 'a': 2.0}, winner=0, tied=['b', 'a'])
    """
    votes: dict[str, float] = {}
    for opinion, weight in zip(opinions, weights or [1.0] * len(opinions), strict=True):
        votes[opinion] = votes.get(opinion, 0.0) + weight
    most = max(votes.values())
    first = [opinion for opinion, weight in votes.items() if weight == most]
    return Count(votes, opinions.index(first[0]), first if len(first) > 1 else [])


def opinion(value: Any) -> str:
    """What counts as the same answer: spelling aside, as `dspy.majority` has it."""
    return dspy.evaluate.normalize_text(str(value)) or str(value)
