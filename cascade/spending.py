"""What LM calls cost, as values: per example, per stage, per run.

Invariant: an unknown price is unknown, never zero; `cost_usd` is None as soon as one call has no known price.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import add, sub
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Spent:
    """Calls, tokens, dollars and seconds.

    Args:
        lm_calls: answered by a model.
        lm_calls_cached: answered from the ledger, free.
        input_tokens, output_tokens: of the calls that a model answered.
        cost_usd: of those calls; None when a price is not known.
        seconds: of wall clock.
        judge_lm_calls, judge_cost_usd: what of these calls and dollars the metric took.
    """

    lm_calls: int = 0
    lm_calls_cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0
    judge_lm_calls: int = 0
    judge_cost_usd: float | None = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return self._with(other, add)

    def __sub__(self, before: "Spent") -> "Spent":
        return self._with(before, sub)

    def _with(self, other: "Spent", operator: Callable[[Any, Any], Any]) -> "Spent":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        amounts: Any = (None if None in pair else operator(*pair) for pair in pairs)
        return Spent(*amounts)

    def to_json(self) -> dict[str, Any]:
        """Plain values; a cost is absent when unknown, and what the metric took where it took nothing."""
        told = asdict(self)
        if not self.judge_lm_calls:
            del told["judge_lm_calls"], told["judge_cost_usd"]
        return {name: value for name, value in told.items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Spent":
        """The inverse of `to_json`."""
        judged = {"judge_cost_usd": None} if "judge_lm_calls" in values else {}
        return cls(**{"cost_usd": None, **judged, **values})


def in_json(spent: Mapping[str, Spent]) -> dict[str, dict[str, Any]]:
    """Plain values by name."""
    return {name: one.to_json() for name, one in spent.items()}


def mean(all_spent: Sequence[Spent]) -> Spent:
    """What one of several took: calls and tokens rounded up, dollars and seconds as the mean."""
    n, costs = len(all_spent), [spent.cost_usd for spent in all_spent]
    return Spent(
        lm_calls=-(-sum(spent.lm_calls for spent in all_spent) // n),
        input_tokens=-(-sum(spent.input_tokens for spent in all_spent) // n),
        output_tokens=-(-sum(spent.output_tokens for spent in all_spent) // n),
        cost_usd=None if None in costs else math.fsum(cost or 0.0 for cost in costs) / n,
        seconds=math.fsum(spent.seconds for spent in all_spent) / n,
    )


@dataclass(frozen=True)
class Price:
    """What an LM costs, in dollars per million tokens.

    >>> Price(input=0.25, output=2.0).of(1000, 100)
    0.00045
    """

    input: float
    output: float

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars of a call."""
        return (self.input * input_tokens + self.output * output_tokens) / 1e6


class Rates(Protocol):
    """What is known of models by name, beside what DSPy knows."""

    def price(self, model: str, input_tokens: int, output_tokens: int) -> float | None:
        """Dollars of a call; None where nothing is known that DSPy does not know."""

    def weights_gb(self, model: str) -> float | None:
        """Gigabytes of weights that each token passes; None where that is not known."""


Unit = Literal["dollars", "weights_gb", "tokens"]


@dataclass(frozen=True)
class Serving:
    """What answering one example costs under a new program and under the one that it would replace.

    Args:
        candidate, incumbent: mean over dev.
        unit: of both: dollars; gigabytes of weights, each token counting as much as the file of its model's weights is
            large; or tokens.
    """

    candidate: float
    incumbent: float
    unit: Unit

    @property
    def cheaper(self) -> bool:
        """Whether the new program costs less."""
        return self.candidate < self.incumbent

    def __str__(self) -> str:
        """Both, and by how much they differ: `12.1 instead of 36.2 GB of weights an example, -67 %`."""
        before, after = amount(self.incumbent, self.unit), amount(self.candidate, self.unit)
        share = f", {100 * (self.candidate / self.incumbent - 1):+.0f} %" if self.incumbent else ""
        return f"{after.partition(' ')[0]} instead of {before} an example{share}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def amount(cost: float, unit: Unit) -> str:
    """A serving cost as a person reads it.

    >>> amount(0.0000123, "dollars"), amount(36.25, "weights_gb"), amount(1251.0, "tokens")
    ('$0.0000123', '36.2 GB of weights', '1,251 tokens')
    """
    if unit == "dollars":
        places = 2 - math.floor(math.log10(cost)) if 0 < cost < 1 else 0
        return f"${cost:.{places}f}".rstrip("0") if places else f"${cost:,.2f}".removesuffix(".00")
    if unit == "weights_gb":
        return f"{cost:,.0f} GB of weights" if cost >= 100 else f"{cost:.3g} GB of weights"
    return f"{cost:,.0f} tokens"


class Usage:
    """What one example's calls used, whether a model or the ledger answered: the program's, or the metric's.

    Shared by the threads that are started for one example.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd: float | None = 0.0
        self.weights_gb: float | None = 0.0
        self.ledger_seconds = 0.0

    def add(
        self,
        input_tokens: int,
        output_tokens: int,
        cost_usd: float | None,
        *,
        weights_gb: float | None = None,
        ledger_seconds: float = 0.0,
    ) -> None:
        """Count one call.

        Args:
            weights_gb: its tokens times the size of the weights that they pass; None where that is not known.
            ledger_seconds: how long it took when a model answered it, 0 if one just did.
        """
        with self._lock:
            self.calls += 1
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens
            self.cost_usd = _sum(self.cost_usd, cost_usd)
            self.weights_gb = _sum(self.weights_gb, weights_gb)
            self.ledger_seconds += ledger_seconds

    def spent(self, seconds: float) -> Spent:
        """The same as a value; `seconds` passed meanwhile, to which what the ledger saved is added."""
        with self._lock:
            seconds += self.ledger_seconds
            return Spent(self.calls, 0, self.input_tokens, self.output_tokens, self.cost_usd, seconds)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


# Names in DSPy's context, which reaches the threads that DSPy starts.
USAGE = "cascade_usage"
"""The `Usage` of what is evaluated; the gateway adds to it."""
JUDGING = "cascade_judging"
"""Whether it is a metric that asks."""
ROLLOUT = "cascade_rollout"
"""Which answer to the same request is meant, from 0; each is paid for and kept on its own."""
