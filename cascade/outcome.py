"""What came of one example: what was answered, what that was worth, what it cost to serve.

Invariant: what is not known of a cost is None, never zero.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cascade.spending import Spent, mean


@dataclass(frozen=True)
class Outcome:
    """One example: what came out, what it was worth, what it cost to serve.

    Args:
        id: of the example.
        predicted: output fields by name.
        score: from 0 to 1.
        error: the failure in one line, or "".
        unparseable: the failure was an answer in the wrong format.
        calls, input_tokens, output_tokens: the program's LM calls and their tokens, cached or not.
        cost_usd: to serve it; None when a price is not known.
        weights_gb: its tokens, each counted as the gigabytes of its model's weights; None where an LM is not embedded.
        latency: seconds to serve it; a call answered from the ledger counts with the time it took when it was paid.
        judge: what the metric took in the same way: it is paid for and not served.
        draws: score of each answer, where more than one was asked for; all else is then the mean over the answers,
            calls and tokens rounded up, but for text, which is the first answer's.
        cut: LM answers that were cut off at `max_tokens`, of all draws.
    """

    id: str
    predicted: dict[str, Any] = field(default_factory=dict)
    score: float = 0.0
    feedback: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    error: str = ""
    unparseable: bool = False
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    weights_gb: float | None = None
    latency: float = 0.0
    judge: Spent = field(default_factory=Spent)
    draws: tuple[float, ...] = ()
    cut: int = 0

    @property
    def served(self) -> Spent:
        """What the program took."""
        return Spent(self.calls, 0, self.input_tokens, self.output_tokens, self.cost_usd, self.latency)

    @property
    def taken(self) -> Spent:
        """What program and metric took."""
        return self.served + self.judge


def averaged(draws: Sequence[Outcome]) -> Outcome:
    """One outcome of several answers to the same example."""
    first, n = draws[0], len(draws)
    if n == 1:
        return first
    served, failed = mean([draw.served for draw in draws]), [draw for draw in draws if draw.error]
    return replace(
        first,
        score=math.fsum(draw.score for draw in draws) / n,
        parts={name: math.fsum(draw.parts.get(name, 0.0) for draw in draws) / n for name in first.parts},
        error=f"{len(failed)} of {n} answers: {failed[0].error}" if failed else "",
        unparseable=bool(failed) and all(draw.unparseable for draw in failed),
        calls=served.lm_calls,
        input_tokens=served.input_tokens,
        output_tokens=served.output_tokens,
        cost_usd=served.cost_usd,
        weights_gb=known_mean([draw.weights_gb for draw in draws]),
        latency=served.seconds,
        judge=mean([draw.judge for draw in draws]),
        draws=tuple(draw.score for draw in draws),
        cut=sum(draw.cut for draw in draws),
    )


def known_mean(amounts: Sequence[float | None]) -> float | None:
    """None where one of them is not known."""
    return None if None in amounts else math.fsum(amount or 0.0 for amount in amounts) / len(amounts)
