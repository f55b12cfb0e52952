"""Text is fit to be shown, and figures are words; the examples in docstrings hold."""

import doctest
import importlib
import json
import pkgutil
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade.report
from cascade.report.figures import clock, dollars, moment, percent, points
from cascade.report.text import LONGEST, clean, cut, diff, in_line, shown

WORDS = [
    (percent, [(None, "–"), (0.0, "0.0%"), (0.31667, "31.7%"), (1.0, "100.0%")]),
    (points, [(None, "–"), (0.12, "+12.0"), (-0.005, "-0.5"), (0.0, "+0.0")]),
    (dollars, [(None, "–"), (0.0, "$0"), (0.00312, "$0.0031"), (1234.5, "$1,234.50")]),
    (clock, [(0.4, "0s"), (59.9, "59s"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00")]),
    (moment, [(None, "–"), (0.0, "1970-01-01 00:00 UTC")]),
]
ANYTHING = st.text(st.characters(), max_size=200)


@pytest.mark.parametrize(("word", "value", "said"), [(word, *case) for word, cases in WORDS for case in cases])
def test_words(word, value, said):
    assert word(value) == said


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(cascade.report.__path__)])
def test_the_examples_in_docstrings_hold(name):
    assert doctest.testmod(importlib.import_module(f"cascade.report.{name}")).failed == 0


@given(ANYTHING)
def test_clean_text_acts_on_nothing(text):
    found = clean(text)
    found.encode("utf-8")
    assert not [sign for sign in found if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") and sign not in "\n\t"]
    assert not set(found) & set("\u200e\u200f\u202a\u202b\u202d\u202e\u2066\u2067\u2069\ufeff")
    assert clean(found) == found


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=200))
def test_plain_text_stays_as_it_is(text):
    assert clean(text) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | ANYTHING,
        lambda one: st.lists(one) | st.dictionaries(ANYTHING, one),
        max_leaves=5,
    )
)
def test_any_value_is_shown_and_cut(value):
    assert len(shown(value, 50)) <= 50 + len("… (1,000,000 more characters)")
    line = in_line(value, 50)
    assert len(line) <= 50
    assert len(line.splitlines()) <= 1


def test_what_is_cut_says_so():
    assert cut("x" * (LONGEST + 1234)).endswith("x… (1,234 more characters)")
    assert shown(["a", 1, {"é": None}]) == json.dumps(["a", 1, {"é": None}], ensure_ascii=False)
    assert shown({}) == "{}"
    assert shown("a\x00b") == "a\\x00b"


@given(ANYTHING, ANYTHING)
def test_a_diff_is_empty_only_where_nothing_changed(before, after):
    lines = diff(before, after)
    assert bool(lines) == (clean(before).splitlines() != clean(after).splitlines())
    assert {line[:1] for line in lines} <= {"@", "+", "-", " "}
