"""What LM calls cost, as values: per example, per stage, per run.

Invariant: an unknown price is unknown, never zero; `cost_usd` is None as soon as one call has no known price.
"""

import math
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
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
    """

    lm_calls: int = 0
    lm_calls_cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.lm_calls + other.lm_calls,
            self.lm_calls_cached + other.lm_calls_cached,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            _sum(self.cost_usd, other.cost_usd),
            self.seconds + other.seconds,
        )

    def __sub__(self, before: "Spent") -> "Spent":
        cost = None if self.cost_usd is None or before.cost_usd is None else self.cost_usd - before.cost_usd
        return Spent(
            self.lm_calls - before.lm_calls,
            self.lm_calls_cached - before.lm_calls_cached,
            self.input_tokens - before.input_tokens,
            self.output_tokens - before.output_tokens,
            cost,
            self.seconds - before.seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; `cost_usd` is absent when unknown."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Spent":
        """The inverse of `to_json`."""
        return cls(**{"cost_usd": None, **values})


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
    """What one example's calls used, whether a model or the ledger answered: its cost to serve.

    Shared by the threads that a program starts for one example.
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


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


USAGE: ContextVar[Usage | None] = ContextVar("cascade_usage", default=None)
"""The example being evaluated in this context; the gateway adds to it."""

ROLLOUT = "cascade_rollout"
"""Which answer to the same request is meant, in DSPy's context, from 0; each is paid for and kept on its own."""
