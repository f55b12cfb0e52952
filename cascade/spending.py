"""What LM calls cost, as values: per example, per stage, per run.

Invariant: an unknown price is unknown, never zero; `cost_usd` is None as soon as one call has no known price.
"""

import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any


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
        cost = None if self.cost_usd is None or other.cost_usd is None else self.cost_usd + other.cost_usd
        return Spent(
            self.lm_calls + other.lm_calls,
            self.lm_calls_cached + other.lm_calls_cached,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            cost,
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
        self.ledger_seconds = 0.0
        self.cut = 0

    def add(
        self,
        input_tokens: int,
        output_tokens: int,
        cost_usd: float | None,
        ledger_seconds: float,
        *,
        cut: bool = False,
    ) -> None:
        """Count one call.

        Args:
            ledger_seconds: how long it took when a model answered it, 0 if one just did.
            cut: its answer was cut off at `max_tokens`.
        """
        with self._lock:
            self.calls += 1
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens
            self.cost_usd = None if self.cost_usd is None or cost_usd is None else self.cost_usd + cost_usd
            self.ledger_seconds += ledger_seconds
            self.cut += cut


USAGE: ContextVar[Usage | None] = ContextVar("cascade_usage", default=None)
"""The example being evaluated in this context; the gateway adds to it."""

ROLLOUT = "cascade_rollout"
"""Which answer to the same request is meant, in DSPy's context, from 0; each is paid for and kept on its own."""
