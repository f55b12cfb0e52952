"""A metric over a split: what a program does on each example, and what that costs.

Invariant: a failing example is data. It scores 0, keeps its error, and stops the evaluation only when so many
fail that a score would say nothing about the program.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import asdict, dataclass
from typing import Any

from cascade.dataset import Split
from cascade.errors import CascadeError, EvaluationFailed, MetricError, StepFailed
from cascade.fields import plain, shortened
from cascade.metrics import Metric
from cascade.outcome import Outcome, averaged, known_mean
from cascade.programs.calling import step_of
from cascade.redaction import told
from cascade.spending import ROLLOUT, USAGE, Spent, Usage, mean

FAILURE_CAP = 0.5
"""Share of examples that may fail for another reason than an answer in the wrong format."""


@dataclass(frozen=True)
class Evaluation:
    """Outcomes of one program over one split, in the split's order."""

    split: Split
    outcomes: tuple[Outcome, ...]

    @property
    def scores(self) -> list[float]:
        """Score of each example, 0 to 1."""
        return [outcome.score for outcome in self.outcomes]

    @property
    def mean(self) -> float:
        """Mean score, 0 to 1."""
        return math.fsum(self.scores) / len(self.outcomes)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the mean score from one run over the split to the next; None without repeats."""
        runs = list(zip(*(outcome.draws for outcome in self.outcomes), strict=True))
        return statistics.stdev(math.fsum(run) / len(run) for run in runs) if len(runs) > 1 else None

    @property
    def parts(self) -> dict[str, list[float | None]]:
        """Each part of the metric by example: 0 where the example failed, None where the metric gave none."""
        names = dict.fromkeys(name for outcome in self.outcomes for name in outcome.parts)
        return {name: [one.parts.get(name, 0.0 if one.error else None) for one in self.outcomes] for name in names}

    @property
    def failures(self) -> int:
        """How many examples failed."""
        return sum(bool(outcome.error) for outcome in self.outcomes)

    @property
    def cut(self) -> int:
        """LM answers that were cut off at `max_tokens`."""
        return sum(outcome.cut for outcome in self.outcomes)

    @property
    def tokens(self) -> float:
        """Tokens that one example takes, in and out, whether a model or the ledger answered."""
        return sum(outcome.input_tokens + outcome.output_tokens for outcome in self.outcomes) / len(self.outcomes)

    @property
    def per_example(self) -> Spent:
        """What serving one example takes: calls and tokens rounded up, dollars and seconds as the mean."""
        return mean([outcome.served for outcome in self.outcomes])

    @property
    def weights_gb(self) -> float | None:
        """What one example takes of embedded models: gigabytes of weights by tokens that pass them; None for others."""
        return known_mean([outcome.weights_gb for outcome in self.outcomes])

    def serving(self) -> dict[str, float]:
        """What answering one example takes, as plain values; what is not known is not there."""
        weights = self.weights_gb
        return {**self.per_example.to_json(), **({} if weights is None else {"weights_gb": weights})}

    def latency(self, quantile: float) -> float:
        """Seconds per example at `quantile` (0 to 1), by nearest rank."""
        ordered = sorted(outcome.latency for outcome in self.outcomes)
        return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)] if ordered else 0.0

    def table(self) -> dict[str, list[Any]]:
        """Columns of the examples table: input, predicted, score, expected, feedback, id, error, tokens, latency.

        And the metric's parts, where it has any.
        """
        columns: dict[str, list[Any]] = {}
        for row, outcome in zip(self.split.rows, self.outcomes, strict=True):
            expected = {name: row[name] for name in outcome.predicted if name in row}
            cells = {
                "input": _cell({name: row[name] for name in self.split.inputs}),
                "predicted": _cell(outcome.predicted if not expected else {k: outcome.predicted[k] for k in expected}),
                "score": round(outcome.score, 4),
                "expected": _cell(expected or _rest(row, self.split)),
                "feedback": outcome.feedback,
                "id": outcome.id,
                "error": outcome.error,
                "tokens": outcome.input_tokens + outcome.output_tokens,
                "latency": round(outcome.latency, 4),
            }
            for name, cell in cells.items():
                columns.setdefault(name, []).append(cell)
        if self.parts:
            columns["parts"] = [{name: round(one, 4) for name, one in each.parts.items()} for each in self.outcomes]
        return columns

    def to_json(self) -> list[dict[str, Any]]:
        """Outcomes as plain values."""
        return [asdict(outcome) for outcome in self.outcomes]


def evaluate(
    program: Callable[..., Any],
    split: Split,
    metric: Metric,
    *,
    threads: int = 1,
    repeats: int = 1,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Evaluation:
    """Run `program` on every example of `split` and judge what it returns.

    Each example runs in a copy of the caller's context, so DSPy's settings reach it. An order to stop (budget,
    Ctrl-C) cancels what has not begun, waits for what is in flight, and is raised.

    Args:
        repeats: answers asked of each example. Each is a rollout of its own: the ledger keeps them apart.
        on_outcome: told of each answer.

    Raises:
        EvaluationFailed: more than half of the answers failed otherwise than by format.
        MetricError: the metric returned no score.
    """
    asked = [(n, rollout) for n in range(len(split)) for rollout in range(repeats)]
    examples, answered = split.examples(), dict[tuple[int, int], Outcome]()
    allowed = max(3, math.floor(FAILURE_CAP * len(asked)))
    with _pool(threads) as pool:
        futures = {
            pool.submit(copy_context().run, _one, program, examples[n], split.ids[n], metric, rollout): (n, rollout)
            for n, rollout in asked
        }
        for future in as_completed(futures):
            outcome = answered[futures[future]] = future.result()
            if on_outcome:
                on_outcome(outcome)
            if outcome.error:
                _refuse_if_hopeless(list(answered.values()), allowed, split)
    draws = ([answered[n, rollout] for rollout in range(repeats)] for n in range(len(split)))
    return Evaluation(split, tuple(map(averaged, draws)))


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool, wait = ThreadPoolExecutor(max(1, threads), thread_name_prefix="evaluate"), True
    try:
        yield pool
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)


def _one(program: Callable[..., Any], example: Any, id_: str, metric: Metric, rollout: int) -> Outcome:
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    usage, judging = Usage(), Usage()
    started = answered = time.perf_counter()
    try:
        with dspy.context(trace=[], **{ROLLOUT: rollout, USAGE: usage}):
            prediction = program(**example.inputs())
        answered = time.perf_counter()
        with dspy.context(**{USAGE: judging}):
            score = metric.score(example, prediction)
        found: dict[str, Any] = dict(
            predicted=_fields(prediction), score=score.value, feedback=score.feedback, parts=dict(score.parts)
        )
    except MetricError as error:
        raise MetricError(f"Example {id_!r}: {error}") from None
    except Exception as error:
        if isinstance(error, CascadeError) and not isinstance(error, StepFailed):
            raise
        found = dict(error=_told(error), unparseable=isinstance(error, AdapterParseError))
    ended = time.perf_counter()
    served = usage.spent((answered if answered > started else ended) - started)
    return Outcome(
        id_,
        **found,
        calls=served.lm_calls,
        input_tokens=served.input_tokens,
        output_tokens=served.output_tokens,
        cost_usd=served.cost_usd,
        weights_gb=usage.weights_gb,
        latency=served.seconds,
        judge=judging.spent(ended - answered if answered > started else 0.0),
        cut=usage.cut,
    )


def _refuse_if_hopeless(outcomes: Sequence[Outcome], allowed: int, split: Split) -> None:
    broken = [outcome for outcome in outcomes if outcome.error and not outcome.unparseable]
    if len(broken) > allowed:
        raise EvaluationFailed(
            f"{len(broken)} of {len(outcomes)} examples of {split.name!r} failed, more than the {allowed} allowed. "
            f"The first, {broken[0].id!r}: {broken[0].error}"
        )


def _told(error: Exception) -> str:
    """With the step in which it was raised, where the program has steps."""
    step = step_of(error)
    return f"{told(error)} (in step {step})" if step else told(error)


def _fields(prediction: Any) -> dict[str, Any]:
    fields = prediction.toDict() if hasattr(prediction, "toDict") else {"prediction": prediction}
    return dict(plain(fields))


def _rest(row: Any, split: Split) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in (*split.inputs, "id")}


def _cell(fields: dict[str, Any]) -> Any:
    fields = shortened(fields)
    return next(iter(fields.values())) if len(fields) == 1 else fields
