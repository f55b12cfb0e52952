"""What a metric returns, and the one adapter that fits it to every optimizer.

Invariant: past `Metric.score`, a judgement is a `Score` with a finite value from 0 to 1.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, overload

from cascade.errors import MetricError
from cascade.spending import JUDGING

Judge = Callable[..., Any]


@dataclass(frozen=True)
class Score:
    """Judgement of one prediction.

    Args:
        value: from 0 (useless) to 1 (as good as it gets).
        feedback: one sentence on what was wrong, for people and for optimizers that read.
        parts: named partial scores, each from 0 to 1, for guardrails.
    """

    value: float
    feedback: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A judge with a name and the bar above which a prediction is good enough to learn from.

    Args:
        judge: `judge(example, prediction)` returning bool, float or `Score`.
        threshold: least value at which an optimizer may keep a prediction as a demo or training row.
    """

    judge: Judge
    threshold: float = 1.0

    @property
    def name(self) -> str:
        """The judge's name."""
        return getattr(self.judge, "__name__", type(self.judge).__name__)

    def score(self, example: Any, prediction: Any) -> Score:
        """Judge one prediction; raises `MetricError` if the judge returns no score.

        What LMs are asked meanwhile is counted as the metric's own.
        """
        import dspy

        with dspy.context(**{JUDGING: True}):
            return as_score(self.judge(example, prediction), self.name)

    def __call__(self, example: Any, prediction: Any) -> Score:
        """The same as `score`, so that a decorated metric is still called like a function."""
        return self.score(example, prediction)


@overload
def metric(judge: Judge) -> Metric: ...
@overload
def metric(*, threshold: float) -> Callable[[Judge], Metric]: ...
def metric(judge: Judge | None = None, *, threshold: float = 1.0) -> Metric | Callable[[Judge], Metric]:
    """Make a metric of a function of an example and a prediction.

    >>> @metric
    ... def same_length(example, prediction):
    ...     return len(example) == len(prediction)
    >>> same_length("abc", "xyz").value
    1.0
    """
    if not 0 < threshold <= 1:
        raise MetricError(f"@metric(threshold={threshold!r}) is not above 0 and at most 1.")
    if judge is None:
        return lambda function: Metric(function, threshold)
    return Metric(judge, threshold)


def as_metric(judge: Metric | Judge) -> Metric:
    """Accept a plain function where a metric is meant."""
    if isinstance(judge, Metric):
        return judge
    if not callable(judge):
        raise MetricError(f"metric = {judge!r} cannot be called. Give a function of an example and a prediction.")
    return Metric(judge)


def as_score(value: object, name: str = "metric") -> Score:
    """Turn what a judge returned into a `Score`.

    >>> as_score(True).value, as_score(0.5).value
    (1.0, 0.5)

    Raises:
        MetricError: not a bool, a number or a `Score`, or a value outside 0 to 1.
    """
    score = value if isinstance(value, Score) else Score(_number(value, name, "returned"))
    _number(score.value, name, "returned a Score of")
    for part, amount in score.parts.items():
        _number(amount, name, f"gave its part {part!r}")
    return (
        score
        if score is not value or isinstance(score.value, float)
        else Score(float(score.value), score.feedback, score.parts)
    )


def for_optimizer(metric: Metric) -> Callable[..., Any]:
    """The metric as DSPy's optimizers call it.

    While bootstrapping (`trace` is given) DSPy uses the value for its truth, and 0.01 would make a demo: there it
    is the bool of `value >= threshold`. Otherwise it is the value. The five parameters are what GEPA inspects.
    """

    def judge(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        score = metric.score(gold, pred)
        if pred_name is not None or pred_trace is not None:
            import dspy

            return dspy.Prediction(
                score=score.value, feedback=score.feedback or f"This was worth {score.value:.2f} of 1."
            )
        return score.value if trace is None else score.value >= metric.threshold

    judge.__name__ = metric.name
    return judge


def _number(value: object, name: str, verb: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str | bytes) or not 0 <= number <= 1:
        raise MetricError(f"Metric {name!r} {verb} {value!r}. Return a bool, a number from 0 to 1, or a Score.")
    return number
