"""Which of a night's programs goes to the gate: the table of cases, and how a budget is shared."""

from dataclasses import replace
from typing import Any

import pytest

from cascade.experiment import Budget, Plateau
from cascade.production.night.choosing import Candidate, choose, half, left
from cascade.spending import Spent

N = 50


def program(
    name: str, right: int, *, program: str = "", tokens: int = 100, usd: float | None = None, **more: Any
) -> Candidate:
    scores = {f"dev-{n}": float(n < right) for n in range(N)}
    serving = {"input_tokens": tokens, "output_tokens": 0} | ({} if usd is None else {"cost_usd": usd})
    return Candidate(name, program or name, scores, serving, **more)


CHAMPION = program("the champion", 25)
CASES = [
    # what was found; → what goes to the gate, words of the sentence
    ([], "", "Nothing was kept over the champion on dev, so no look at test is spent."),
    ([program("one", 25, program="the champion")], "", "one: the same program as the champion"),
    ([program("one", 25)], "", "one: dev 50.0% against 50.0% of the champion, inconclusive, not kept"),
    ([program("one", 24)], "", "not kept"),
    ([program("one", 26)], "one", "The program one goes to the gate (one: dev 52.0% against 50.0% of the champion"),
    ([program("one", 25, tokens=60)], "one", "inconclusive, 60 instead of 100 tokens an example, -40 %, kept"),
    ([program("one", 24, tokens=60)], "", "not kept"),
    ([program("one", 24, tokens=60, margin=0.2)], "one", "60 instead of 100 tokens an example, -40 %, kept"),
    ([program("one", 24, tokens=60, margin=0.01)], "", "not kept"),
    ([program("one", 24, tokens=160, margin=0.2)], "", "not kept"),
    ([program("one", 25, tokens=60, lms={"ask": "a/small"})], "", "not kept"),
    ([program("one", 45)], "one", "better, kept"),
    ([program("one", 5)], "", "worse, not kept"),
    ([program("one", 40), program("two", 45)], "two", "two: dev 90.0% against 80.0% of one, better, kept"),
    ([program("one", 45), program("two", 40)], "one", "two: dev 80.0% against 90.0% of one, better, not kept"),
    ([program("one", 40), program("two", 40)], "one", "two: dev 80.0% against 80.0% of one, better, not kept"),
    ([program("one", 40), program("two", 40, tokens=90)], "two", "two: dev 80.0% against 80.0% of one, better, 90 instead of 100 tokens"),
    ([program("one", 40), program("two", 40, program="one")], "one", "two: the same program as one"),
    ([program("one", 40, barred="it was rolled back before")], "", "one: it was rolled back before"),
    ([program("one", 45, barred="no"), program("two", 40)], "two", "two: dev 80.0% against 50.0% of the champion"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "chosen", "words"), CASES)
def test_choose(found: list[Candidate], chosen: str, words: str) -> None:
    best, why = choose(CHAMPION, found, Plateau())
    assert (best.name if best else "") == chosen and words in why, why


def test_costs_are_dollars_where_all_are_known() -> None:
    champion = replace(CHAMPION, serving={"input_tokens": 100, "cost_usd": 0.2})
    assert choose(champion, [program("one", 25, tokens=50, usd=0.3)], Plateau())[0] is None
    assert choose(champion, [program("one", 25, tokens=150, usd=0.1)], Plateau())[0] is not None
    assert choose(CHAMPION, [program("one", 25, tokens=150, usd=0.1)], Plateau())[0] is None
    weighty = replace(CHAMPION, serving={"input_tokens": 100, "weights_gb": 4.0, "cost_usd": 0.0})
    light = program("one", 25, tokens=150, usd=0.0, lms={"ask": "embedded/small"})
    best, why = choose(weighty, [replace(light, serving={**light.serving, "weights_gb": 1.0})], Plateau())
    assert best is not None and "1 instead of 4 GB of weights an example" in why


def test_the_least_gain_is_the_experiments() -> None:
    assert choose(CHAMPION, [program("one", 27)], Plateau(min_gain=0.05))[0] is None


def test_groups_count_as_one() -> None:
    """Twenty rows more, but in two groups: no verdict says better, and the mean decides."""
    groups = {f"dev-{n}": str(n // 2 if n < 40 else 20) for n in range(N)}
    best, why = choose(CHAMPION, [program("one", 45)], Plateau(), groups)
    assert best is not None and "kept" in why


def test_the_order_of_examples_does_not_matter() -> None:
    one = program("one", 40)
    turned = replace(one, scores=dict(reversed(list(one.scores.items()))))
    assert choose(CHAMPION, [turned], Plateau())[1] == choose(CHAMPION, [one], Plateau())[1]


@pytest.mark.parametrize(("budget", "spent", "rest"), [
    (Budget(), Spent(lm_calls=99), Budget()),
    (Budget(lm_calls=100), Spent(lm_calls=40), Budget(lm_calls=60)),
    (Budget(lm_calls=100), Spent(lm_calls=100), None),
    (Budget(lm_calls=100, minutes=2), Spent(lm_calls=1, seconds=150), None),
    (Budget(tokens=100, usd=1.0), Spent(input_tokens=30, output_tokens=20, cost_usd=0.25), Budget(tokens=50, usd=0.75)),
    (Budget(tokens=100), Spent(cost_usd=None), Budget(tokens=100)),
])  # fmt: skip
def test_what_is_left(budget: Budget, spent: Spent, rest: Budget | None) -> None:
    assert left(budget, spent) == rest


def test_half() -> None:
    assert half(Budget(lm_calls=1, tokens=7, usd=0.5, minutes=3)) == Budget(lm_calls=1, tokens=4, usd=0.25, minutes=1.5)
    assert half(Budget()) == Budget()
