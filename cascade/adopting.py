"""Whether a program may take the place of another: a fused step that of two, on examples.

Invariant: nothing is adopted that was not shown to be as good. An inconclusive comparison is a refusal, and says what
it could not have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from cascade.comparison import Comparison, Verdict, compare
from cascade.dataset import Split
from cascade.errors import DatasetError, Refused
from cascade.evaluation import evaluate
from cascade.metrics import Metric
from cascade.programs.recording import recording


@dataclass(frozen=True)
class Equivalence:
    """Two programs on the same examples.

    Args:
        comparison: of the new one with the old one; `comparison.verdict` is `better`, `equivalent`, `worse` or
            `inconclusive`.
        score, score_before: mean scores, 0 to 1.
        calls, calls_before: LM calls that each made, whoever answered them.
        margin: what may be lost, a fraction.
    """

    comparison: Comparison
    score: float
    score_before: float
    calls: int
    calls_before: int
    margin: float

    @property
    def adopted(self) -> bool:
        """Whether it is as good or better."""
        return self.comparison.verdict in (Verdict.EQUIVALENT, Verdict.BETTER)

    @property
    def says(self) -> str:
        """The verdict in a sentence."""
        found, low, high = (
            self.comparison,
            *(100 * end for end in (self.comparison.interval.low, self.comparison.interval.high)),
        )
        told = (
            f"{found.verdict.value}: {100 * found.gain:+.1f} points [{low:+.1f}, {high:+.1f}] on {found.n} examples, "
            f"with {self.calls} LM calls instead of {self.calls_before}"
        )
        if found.verdict is not Verdict.INCONCLUSIVE:
            return f"{told}; a difference within ±{100 * self.margin:g} points counts as equivalent."
        return (
            f"{told}; less than {100 * found.minimum_detectable_gain:.1f} points could not have been seen. "
            "Give more examples, or a wider margin."
        )


def equivalent(
    program: Any,
    fused: Any,
    examples: Split | Sequence[Any],
    metric: Metric | Any,
    *,
    margin: float,
    confidence: float = 0.9,
) -> Equivalence:
    """Compare a program with what is to take its place, paired, on examples; in as many threads as DSPy's settings say.

    Args:
        program, fused: the old one and the new one.
        examples: a split, or `dspy.Example`s with their inputs marked; at least 20.
        metric: of `cascade.metric`, or a function of example and prediction.
        margin: a difference within ± this is equivalent, a fraction.
        confidence: two-sided.

    Raises:
        DatasetError: fewer than 20 examples, or groups.
    """
    split = examples if isinstance(examples, Split) else _split(examples)
    judge = metric if isinstance(metric, Metric) else Metric(metric)
    means, scores, calls = [], [], []
    for one in (program, fused):
        with recording(one) as recorder:
            found = evaluate(one, split, judge, threads=dspy.settings.num_threads)
        means.append(found.mean)
        scores.append(found.scores)
        calls.append(sum(span.calls for span in recorder.spans if not span.parent))
    comparison = compare(scores[1], scores[0], groups=split.groups, confidence=confidence, margin=margin)
    return Equivalence(comparison, means[1], means[0], calls[1], calls[0], margin)


def adopt(program: Any, fused: Any, examples: Split | Sequence[Any], metric: Metric | Any, **how: Any) -> Any:
    """The new program, where it was shown to be as good as the old one.

    Args:
        how: `margin` and the rest, as of `equivalent`.

    Raises:
        Refused: it is worse, or the examples could not show that it is not.
    """
    found = equivalent(program, fused, examples, metric, **how)
    if not found.adopted:
        raise Refused(f"The fused program is not adopted: {found.says}")
    return fused


def _split(examples: Sequence[Any]) -> Split:
    if not examples:
        raise DatasetError("There are no examples to compare programs on. Give at least 20.")
    inputs = tuple(examples[0].inputs().keys())
    rows = tuple(dict(example.items()) for example in examples)
    return Split("dev", rows, tuple(str(number) for number in range(len(rows))), None, inputs)
