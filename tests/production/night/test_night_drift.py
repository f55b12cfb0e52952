"""Drift: like rows are called unlike as seldom as is said, and what is unlike is seen and named."""

import math
import random
from dataclasses import replace

import pytest
from scipy.stats import binom
from scripted import split

from cascade.evaluation import Evaluation, Outcome
from cascade.production.night.drift import FALSE_ALARMS, LEAST, MOST, Rows, chances, drift_of_inputs, drift_of_score

WORDS = [
    "order",
    "parcel",
    "invoice",
    "printer",
    "password",
    "screen",
    "late",
    "broken",
    "lost",
    "wrong",
    "my",
    "the",
    "a",
    "where",
    "how",
    "when",
    "please",
]
LABELS = ("delivery", "billing", "device", "account")


def rows(
    count: int,
    draw: random.Random,
    *,
    words: tuple[int, int] = (3, 12),
    say: list[str] = WORDS,
    labels: tuple[str, ...] = LABELS,
) -> Rows:
    inputs = [" ".join(draw.choices(say, k=draw.randint(*words))) for _ in range(count)]
    return Rows(inputs, draw.choices(labels, weights=range(1, len(labels) + 1), k=count))


def grouped(groups: int, draw: random.Random, first: int) -> Rows:
    """Each group has words, a length and an answer of its own."""
    made = [rows(4, draw, say=draw.sample(WORDS, 3), labels=(draw.choice(LABELS),)) for _ in range(groups)]
    who = [first + n for n in range(groups) for _ in range(4)]
    return Rows([text for one in made for text in one.inputs], [text for one in made for text in one.answers], who)


@pytest.mark.parametrize("together", [False, True])
def test_like_rows_are_called_unlike_as_seldom_as_is_said(together: bool) -> None:
    draw, nights, level = random.Random(5), 150, 0.05
    seen = dict.fromkeys(("lengths", "wording", "answers"), 0)
    for night in range(nights):
        sides = (grouped(5, draw, 0), grouped(15, draw, 5)) if together else (rows(12, draw), rows(40, draw))
        for name, chance in chances(*sides, seed=night, shuffles=99).items():
            seen[name] += chance <= level
    assert all(count <= binom.ppf(0.9999, nights, level) for count in seen.values()), seen
    assert all(count > 0 for count in seen.values()), seen


def test_rows_of_a_group_shuffled_apart_break_that_bound() -> None:
    """So it can be broken."""
    draw, wrong = random.Random(5), 0
    for night in range(60):
        new, old = (replace(side, groups=None) for side in (grouped(5, draw, 0), grouped(15, draw, 5)))
        wrong += chances(new, old, seed=night, shuffles=99)["answers"] <= 0.05
    assert wrong > binom.ppf(0.9999, 60, 0.05)


@pytest.mark.slow
def test_the_three_together_say_so_in_one_night_of_a_hundred() -> None:
    draw, nights = random.Random(8), 1_000
    said = sum(bool(drift_of_inputs(rows(20, draw), rows(60, draw), seed=night)) for night in range(nights))
    assert said <= binom.ppf(0.999, nights, FALSE_ALARMS)


def test_what_is_unlike_is_named() -> None:
    draw = random.Random(3)
    old = rows(100, draw)
    longer = drift_of_inputs(rows(30, draw, words=(20, 30)), old)
    assert longer.startswith("The 30 newest rows are unlike those of train: in length (a median of ")
    other = drift_of_inputs(rows(30, draw, say=["refund", "voucher", *WORDS[:3]]), old)
    assert "in wording (more often: 'voucher', 'refund'" in other
    answers = drift_of_inputs(rows(30, draw, labels=("refunds",)), old)
    assert answers.endswith("in answers ('refunds': 100%, 0% in train).")


def test_too_few_rows_say_nothing() -> None:
    draw = random.Random(3)
    assert drift_of_inputs(rows(LEAST - 1, draw, labels=("other",)), rows(100, draw)) == ""
    assert drift_of_inputs(rows(0, draw), rows(0, draw)) == ""


def test_many_rows_take_no_longer_than_some() -> None:
    draw = random.Random(3)
    told = drift_of_inputs(rows(MOST + 400, draw, labels=("other",)), rows(4 * MOST, draw))
    assert f"The {MOST} newest rows" in told


def test_empty_texts_and_odd_ones_are_rows_too() -> None:
    odd = Rows(["", "ß\ud800☃", "a"] * 4, ["", "x", "y"] * 4)
    assert drift_of_inputs(odd, odd) == ""


def scored(right: int, n: int = 100) -> Evaluation:
    rows_ = split("test", n)
    return Evaluation(rows_, tuple(Outcome(id_, score=float(i < right)) for i, id_ in enumerate(rows_.ids)))


CASES = [
    (60, 0.60, ""),
    (60, 0.70, ""),
    (60, 0.73, "scores 60.0% on test [47.9%, 71.3%], less than the 73.0%"),
    (60, 0.45, "more than the 45.0%"),
    (100, 1.0, ""),
    (0, 0.0, ""),
]


@pytest.mark.parametrize(("right", "promoted", "words"), CASES)
def test_the_champions_score(right: int, promoted: float, words: str) -> None:
    told = drift_of_score(scored(right), promoted)
    assert bool(told) == bool(words) and words in told


def test_a_score_that_is_as_it_was_is_called_other_in_two_of_a_hundred() -> None:
    wrong = math.fsum(binom.pmf(right, 50, 0.7) for right in range(51) if drift_of_score(scored(right, 50), 0.7))
    assert 0.002 < wrong <= 0.02
