"""Spent and Usage: sums, and a price that is not known."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.spending import Serving, Spent, Usage

_WHOLE = st.integers(0, 10**9)
_SPENT = st.builds(
    Spent, _WHOLE, _WHOLE, _WHOLE, _WHOLE, st.none() | st.integers(0, 1000).map(float), st.integers(0, 1000).map(float)
)


@given(_SPENT, _SPENT, _SPENT)
def test_spending_adds_up_in_any_order(one: Spent, two: Spent, three: Spent) -> None:
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + Spent() == one


def test_each_figure_is_added_to_its_own() -> None:
    assert Spent(1, 2, 3, 4, 5.0, 6.0) + Spent(10, 20, 30, 40, 50.0, 60.0) == Spent(11, 22, 33, 44, 55.0, 66.0)


@given(_SPENT)
def test_an_unknown_price_makes_the_sum_unknown(spent: Spent) -> None:
    assert (spent + Spent(cost_usd=None)).cost_usd is None


@given(_SPENT)
def test_json_keeps_everything_and_leaves_an_unknown_price_out(spent: Spent) -> None:
    values = spent.to_json()
    assert ("cost_usd" in values) == (spent.cost_usd is not None)
    assert Spent.from_json(values) == spent


def test_usage_counts_from_many_threads() -> None:
    usage = Usage()
    threads = [
        threading.Thread(
            target=lambda: [usage.add(2, 1, 0.5, weights_gb=0.125, ledger_seconds=0.25) for _ in range(200)] and None
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (1600, 3200, 1600)
    assert (usage.cost_usd, usage.weights_gb, usage.ledger_seconds) == (800.0, 200.0, 400.0)


def test_one_unknown_price_makes_an_example_s_cost_unknown() -> None:
    usage = Usage()
    usage.add(1, 1, 0.5, weights_gb=0.1)
    usage.add(1, 1, None, weights_gb=None)
    usage.add(1, 1, 0.5, weights_gb=0.1)
    assert (usage.cost_usd, usage.weights_gb) == (None, None)


@pytest.mark.parametrize(
    ("serving", "words"),
    [
        (Serving(12.1, 36.25, "weights_gb"), "12.1 instead of 36.2 GB of weights an example, -67 %"),
        (Serving(1251, 0, "tokens"), "1,251 instead of 0 tokens an example"),
        (Serving(0.0, 0.0031, "dollars"), "$0 instead of $0.0031 an example, -100 %"),
        (Serving(1200.0, 0.5, "dollars"), "$1,200 instead of $0.5 an example, +239900 %"),
    ],
)
def test_a_serving_cost_in_words(serving: Serving, words: str) -> None:
    assert str(serving) == words
    assert serving.cheaper is (serving.candidate < serving.incumbent)
