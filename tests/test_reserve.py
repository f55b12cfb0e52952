"""What judging takes, and whether a budget pays for it: tables of cases."""

import pytest
import scripted

from cascade.errors import ExperimentError
from cascade.evaluation import Evaluation
from cascade.experiment import Budget
from cascade.outcome import Outcome
from cascade.reserve import Early, Rate, rate, shortage
from cascade.spending import Spent


def seen(*calls: int, latency: float = 1.0, cost: float | None = 0.5) -> Evaluation:
    outcomes = [
        Outcome(f"{n}", calls=c, input_tokens=10 * c, output_tokens=c, cost_usd=cost, latency=latency)
        for n, c in enumerate(calls)
    ]
    return Evaluation(scripted.split("dev", len(calls)), tuple(outcomes))


def test_where_all_take_the_same_calls_nothing_is_added() -> None:
    assert rate(seen(2, 2, 2, 2), seconds=1.0, threads=4) == Rate(2, 20, 2, 0.5, 0.25)


def test_where_they_differ_three_standard_errors_are_added_but_never_more_than_the_most() -> None:
    calls = [1] * 15 + [2] * 5
    assert rate(seen(*calls), 0, 1).calls == pytest.approx(1.25 + 3 * 0.4443 / 20**0.5, abs=1e-3)
    assert rate(seen(1, 1, 1, 2), 0, 1).calls == 2


def test_seconds_are_those_of_the_clock_where_answers_were_not_in_the_ledger() -> None:
    assert rate(seen(1, 1), seconds=60.0, threads=4).seconds == 30.0
    assert rate(seen(1, 1, latency=8.0), seconds=0.01, threads=4).seconds == 2.0


def test_the_most_of_two_and_a_price_that_is_not_known() -> None:
    assert Rate(1, 20, 1, 0.5, 3).most(Rate(2, 10, 4, 0.1, 1)) == Rate(2, 20, 4, 0.5, 3)
    assert Rate(cost_usd=1).most(Rate(cost_usd=None)).cost_usd is None


def test_calls_are_reserved_as_they_are_and_all_else_with_something_to_spare() -> None:
    assert Rate(1.3, 10, 1, 0.5, 2).times(10, 2.0) == Spent(13, 0, 200, 20, 10.0, 40.0)
    assert Rate(1, cost_usd=None).times(3).cost_usd is None


CASES = [
    (Budget(), Spent(10**6), Spent(10**6), ""),
    (Budget(lm_calls=60), Spent(20), Spent(40), ""),
    (Budget(lm_calls=60), Spent(21), Spent(40), "lm_calls = 60 does not pay for judging: 21 spent, and judging takes about 40 more. Raise it to more than 61"),
    (Budget(tokens=100), Spent(1, 0, 50, 10), Spent(1, 0, 40, 1), "tokens = 100 does not pay for judging: 60 spent, and judging takes about 41 more"),
    (Budget(usd=1.0), Spent(cost_usd=0.5), Spent(cost_usd=0.5), ""),
    (Budget(usd=1.0), Spent(cost_usd=0.5), Spent(cost_usd=0.6), "usd = 1.0 does not pay for judging: 0.5 spent, and judging takes about 0.6 more"),
    (Budget(minutes=2), Spent(seconds=60), Spent(seconds=61), "minutes = 2 does not pay for judging: 1 spent, and judging takes about 1.02 more"),
]  # fmt: skip


@pytest.mark.parametrize(("budget", "spent", "needed", "words"), CASES)
def test_whether_a_budget_pays_for_judging(budget: Budget, spent: Spent, needed: Spent, words: str) -> None:
    found = shortage(budget, spent, needed)
    assert found.startswith(words) and bool(found) is bool(words)


def test_the_first_answers_speak_and_failed_ones_do_not() -> None:
    early = Early(Budget(lm_calls=100), answers=60)
    for number in range(20):
        early(Outcome(f"{number}", error="no luck", calls=9))
    for calls in (3, 1, 2, 2):
        early(Outcome("x", calls=calls))
    early(Outcome("x", calls=2))  # the least of them times 60 is not above the cap
    early(Outcome("x", calls=50))
    strict = Early(Budget(lm_calls=100), answers=60)
    for _ in range(4):
        strict(Outcome("x", calls=2))
    with pytest.raises(ExperimentError, match=r"takes 2 LM calls .* as the first 5 showed; 60 are to be judged"):
        strict(Outcome("x", calls=2))
