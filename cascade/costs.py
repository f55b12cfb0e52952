"""What programs cost to serve, in a unit in which they can be compared.

Invariant: two costs are of one unit or are not compared.
"""

from cascade.evaluation import Evaluation
from cascade.spending import Serving, Unit


def serving(candidate: Evaluation, incumbent: Evaluation, *, same_lms: bool) -> Serving | None:
    """What an example costs to serve under each of two programs, in one unit: they are there to be compared.

    Dollars where all prices are known and not all zero. Else, where embedded models answer both, tokens times the size
    of their weights. Else tokens, which say nothing where other LMs answer: then it is None.

    Args:
        same_lms: whether the same LMs answer.
    """
    both = (candidate, incumbent)
    dollars = [evaluation.per_example.cost_usd for evaluation in both]
    weights = [evaluation.weights_gb for evaluation in both]
    if None not in dollars and any(dollars):
        return Serving(dollars[0] or 0.0, dollars[1] or 0.0, "dollars")
    if None not in weights and any(weights):
        return Serving(weights[0] or 0.0, weights[1] or 0.0, "weights_gb")
    return Serving(candidate.tokens, incumbent.tokens, "tokens") if same_lms else None


def by_example(evaluation: Evaluation, unit: Unit) -> list[float]:
    """What each example cost; 0 where that is not known, which `serving` has seen to."""
    if unit == "dollars":
        return [outcome.cost_usd or 0.0 for outcome in evaluation.outcomes]
    if unit == "weights_gb":
        return [outcome.weights_gb or 0.0 for outcome in evaluation.outcomes]
    return [float(outcome.input_tokens + outcome.output_tokens) for outcome in evaluation.outcomes]
