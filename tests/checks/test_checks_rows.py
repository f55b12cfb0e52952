"""Rows that stand in two splits or twice in one; `tests/cli/test_cli_check.py` has the sentences."""

from typing import Any

import pytest
import scripted

from cascade.checks.rows import gaps, input_texts, overlap, repeated
from cascade.dataset import Data, Split


def split(
    name: str, *rows: dict[str, Any], groups: tuple[str, ...] | None = None, inputs: tuple[str, ...] = ("q",)
) -> Split:
    return Split(name, rows, tuple(f"{name}-{n}" for n in range(len(rows))), groups, inputs)


def asked(*questions: Any) -> list[dict[str, Any]]:
    return [{"q": question, "a": "x"} for question in questions]


OTHER = split("test", *asked("something else entirely"))
LONG = "please tell me how I get the invoice of last month"


def test_where_a_pair_is_the_same_it_is_not_nearly_the_same_too() -> None:
    data = Data("x", split("train", *asked(LONG, f"{LONG} again")), split("dev", *asked(f"{LONG}!")), OTHER)
    (found,) = overlap(data)
    assert "1 of 1 rows is in 'train' too, but for case" in found.sentence


def test_two_pairs_are_quoted_and_the_rest_is_counted_nearest_first() -> None:
    train = split("train", *asked(*(f"{number} {LONG}" for number in range(4))))
    dev = split("dev", *asked(*(f"{number} {LONG}{number * 'z'}" for number in range(1, 4))))
    (found,) = overlap(Data("x", train, dev, OTHER))
    assert found.sentence.startswith("3 of 3 rows are nearly in 'train'")
    assert found.sentence.count("≈") == 2
    assert found.sentence.index("'dev-0'") < found.sentence.index("'dev-1'")
    assert "; and 1 more. Remove one of each" in found.sentence


def test_a_dataset_too_large_to_search_says_so() -> None:
    data = Data("x", split("train", *asked(LONG)), split("dev", *asked(f"{LONG} again")), OTHER)
    assert [one.severity for one in overlap(data)] == ["warning"]
    notes = list(overlap(data, most=1))
    assert [one.severity for one in notes] == 3 * ["note"]
    assert "its 1 rows were not searched for near-duplicates of the 1 of 'train'" in notes[0].sentence


def test_inputs_of_any_kind_are_compared() -> None:
    rows = [{"a": "Hi!", "b": 1}, {"a": "hi", "b": [1, {"z": 1, "c": 2}]}, {"a": "", "b": None}]
    texts = input_texts(split("train", *rows, inputs=("a", "b")))
    assert texts == ["Hi!\n1", 'hi\n[1, {"c": 2, "z": 1}]', "\nnull"]


GROUPED: list[tuple[tuple[str, ...] | None, int]] = [(None, 1), (("g", "g"), 0), (("g", "h"), 1)]


@pytest.mark.parametrize(("groups", "found"), GROUPED)
def test_a_row_may_stand_twice_in_one_group(groups: tuple[str, ...] | None, found: int) -> None:
    dev = split("dev", *asked("one", "One"), groups=groups)
    assert len(list(repeated(Data("x", OTHER, dev, OTHER), ["a"]))) == found


def test_an_empty_input_beside_another_is_no_gap() -> None:
    inputs = ("question", "context")
    train = split("train", {"question": "x", "context": ""}, {"question": " ", "context": None}, inputs=inputs)
    (found,) = gaps(Data("x", train, scripted.split("dev", 2), scripted.split("test", 2)), [])
    assert "1 of 2 rows hold nothing in their inputs (question, context), first 'train-1': ' '" in found.sentence
