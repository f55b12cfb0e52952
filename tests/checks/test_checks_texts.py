"""Which texts are the same, and which nearly are; against comparing every pair."""

import doctest
import random
import time
from itertools import product

import pytest

from cascade.checks import finding, texts
from cascade.checks.texts import NEAR, SHINGLE, nearest, normalised

SAME = [
    ("What is it?", "what is it"),
    ("  what\tis \n it", "what is it"),
    ("ＷＨＡＴ is\u00a0it", "what is it"),
    ("caf\u0065\u0301", "caf\u00e9"),
    ("STRASSE", "straße"),
    ("don\u2019t", "dont"),
    ("e-mail", "e mail"),
    ("zero\u200bwidth", "zerowidth"),
    ("«quoted» – dash…", '"quoted" dash'),
]
OTHER = [("3 - 2", "3 + 2"), ("-5", "5"), ("1.5", "15"), ("c", "c++"), ("??", "!!"), ("😀", "😢"), ("a", "ä")]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_but_for_writing(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_a_sign_tells_apart_stays_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.parametrize("module", [finding, texts])
def test_examples_in_docstrings(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def shingles(text: str) -> set[str]:
    return {text[place : place + SHINGLE] for place in range(len(text) - SHINGLE + 1)}


def share(one: str, other: str) -> float:
    ours, theirs = shingles(one), shingles(other)
    return len(ours & theirs) / len(ours | theirs) if ours and theirs else 0.0


def edited(text: str, draw: random.Random) -> str:
    """The text with some words dropped, doubled or misspelt."""
    words = text.split()
    for _ in range(draw.randint(0, 3)):
        place = draw.randrange(len(words))
        words[place] = draw.choice(["", words[place] * 2, words[place][:-1], draw.choice("abcdefg")])
    return " ".join(filter(None, words))


def test_the_same_pairs_are_found_as_by_comparing_all() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 8))) for _ in range(300)]
    left = [" ".join(draw.choices(words, k=draw.randint(1, 20))) for _ in range(150)]
    right = [edited(draw.choice(left), draw) for _ in range(150)]
    best = {}
    for (number, text), other in product(enumerate(right), left):
        if text != other:
            best[number] = max(best.get(number, 0.0), share(other, text))
    wanted = {number: value for number, value in best.items() if value >= NEAR}
    found = {pair.right: pair for pair in nearest(left, right)}
    assert len(wanted) > 40
    assert set(found) <= set(wanted)
    assert len(found) >= 0.95 * len(wanted)
    assert [n for n, pair in found.items() if abs(pair.share - share(left[pair.left], right[n])) > 1e-9] == []
    assert nearest(left, right) == nearest(left, right)


@pytest.mark.parametrize(
    ("left", "right"), [([], []), ([], ["a text"]), (["a text"], []), (["", "ab"], ["", "ab", "abc"])]
)
def test_nothing_to_compare(left: list[str], right: list[str]) -> None:
    assert nearest(left, right) == []


def test_equal_texts_are_left_out_and_the_next_nearest_is_found() -> None:
    text = "please send me the invoice of last month"
    (pair,) = nearest(["something else entirely, of another kind", text, f"{text} now"], [text])
    assert (pair.left, pair.right, pair.share > NEAR) == (2, 0, True)


def test_15_000_rows_take_seconds_also_from_a_template_and_long() -> None:
    """Here 2 s; the bound is for a machine that is many times slower."""
    draw, started = random.Random(0), time.monotonic()
    words = [f"{draw.random():.6f}"[2:] for _ in range(3000)]
    plain = [" ".join(draw.choices(words, k=12)) for _ in range(15_000)]
    assert nearest(plain[:7_500], plain[7_500:]) == []
    made = [f"please set an alarm for customer {number} and tell me when it is done" for number in range(15_000)]
    assert len(nearest(made[:7_500], made[7_500:])) == 7_500
    long = [" ".join(draw.choices(words, k=400)) for _ in range(1_500)]
    (pair,) = nearest(long, [f"{long[7]} and more"])
    assert pair.left == 7
    assert time.monotonic() - started < 90
