"""What judging will take, so that a run that ends by its budget can still be judged.

Invariant: pure functions of what was seen; who keeps the amounts back is the meter.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from cascade.errors import ExperimentError
from cascade.evaluation import Evaluation, Outcome
from cascade.experiment import Budget
from cascade.spending import Spent, mean

EARLY = 5
"""Answers after which it is known well enough whether a budget is far too small."""


@dataclass(frozen=True)
class Rate:
    """What judging one example takes, calls of the metric included; `cost_usd` is None where a price is not known.

    Args:
        seconds: of wall clock, with as many examples at once as there were.
    """

    calls: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cost_usd: float | None = 0.0
    seconds: float = 0.0

    def most(self, other: "Rate") -> "Rate":
        """The greater of each amount; an unknown price stays unknown."""
        costs = (self.cost_usd, other.cost_usd)
        return Rate(
            max(self.calls, other.calls),
            max(self.input_tokens, other.input_tokens),
            max(self.output_tokens, other.output_tokens),
            None if None in costs else max(cost or 0.0 for cost in costs),
            max(self.seconds, other.seconds),
        )

    def times(self, examples: int, spare: float = 1.0) -> Spent:
        """What judging so many examples takes.

        Args:
            spare: factor of all but calls, which differ less from program to program: demos make prompts longer.
        """
        return Spent(
            math.ceil(round(self.calls * examples, 6)),
            0,
            math.ceil(spare * self.input_tokens * examples),
            math.ceil(spare * self.output_tokens * examples),
            None if self.cost_usd is None else spare * self.cost_usd * examples,
            spare * self.seconds * examples,
        )


def rate(evaluation: Evaluation, seconds: float, threads: int) -> Rate:
    """What judging one example took.

    Where examples take different numbers of calls, the mean is raised by three of its standard errors.

    Args:
        seconds: that the whole evaluation took; less than its answers did where the ledger gave them.
        threads: examples at once.
    """
    taken = [outcome.taken for outcome in evaluation.outcomes]
    one, calls = mean(taken), [each.lm_calls for each in taken]
    spare = 3 * statistics.stdev(calls) / math.sqrt(len(calls)) if len(calls) > 1 else 0.0
    return Rate(
        min(statistics.mean(calls) + spare, max(calls)),
        one.input_tokens,
        one.output_tokens,
        one.cost_usd,
        max(one.seconds / threads, seconds / len(calls)),
    )


def shortage(budget: Budget, spent: Spent, needed: Spent) -> str:
    """The first cap that does not pay for what is needed, in words with the fix, or ""."""
    amounts: Sequence[tuple[str, float | None, float, float]] = (
        ("lm_calls", budget.lm_calls, spent.lm_calls, needed.lm_calls),
        ("tokens", budget.tokens, _tokens(spent), _tokens(needed)),
        ("usd", budget.usd, spent.cost_usd or 0.0, needed.cost_usd or 0.0),
        ("minutes", budget.minutes, spent.seconds / 60, needed.seconds / 60),
    )
    for name, cap, used, wanted in amounts:
        if cap is not None and used + wanted > cap:
            return (
                f"{name} = {cap} does not pay for judging: {_short(used)} spent, and judging takes about "
                f"{_short(wanted)} more. Raise it to more than {_short(used + wanted)}; answers that were paid for are "
                "kept"
            )
    return ""


@dataclass
class Early:
    """Watches the first answers of the baseline, to stop before all of dev is paid for in vain.

    Args:
        answers: of dev and, twice, test.
    """

    budget: Budget
    answers: int
    calls: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def __call__(self, outcome: Outcome) -> None:
        """Take notice of an answer; raises `ExperimentError` when the budget is far too small."""
        if outcome.error or len(self.calls) >= EARLY:
            return
        self.calls.append(outcome.taken.lm_calls)
        self.tokens.append(_tokens(outcome.taken))
        if len(self.calls) == EARLY:
            least = Rate(min(self.calls), min(self.tokens))
            if words := shortage(self.budget, Spent(), least.times(self.answers)):
                raise ExperimentError(
                    f"Budget: {words}. An example takes {min(self.calls)} LM calls and {min(self.tokens)} tokens or "
                    f"more, as the first {EARLY} showed; {self.answers} are to be judged, of dev and, twice, of test."
                )


def _tokens(spent: Spent) -> int:
    return spent.input_tokens + spent.output_tokens


def _short(amount: float) -> str:
    return str(amount) if isinstance(amount, int) else f"{amount:.3g}"
