"""The data set `orders` and the metric over it: what graded extraction rests on."""

from pathlib import Path

import dspy
import pytest

from cascade.dataset import Dataset, load
from cascade.discover import discover

PROJECT = Path(__file__).parents[1]


def test_every_item_is_a_short_span_of_whole_words_of_its_message() -> None:
    data = load(Dataset("orders"), PROJECT)
    rows = [row for split in data for row in split.rows]
    items = [row["item"].split() for row in rows]
    whole = [f" {row['message']} ".partition(row["item"]) for row in rows]
    assert [row["id"] for row in rows if row["message"].count(row["item"]) != 1] == []
    assert [
        row["id"] for row, part in zip(rows, whole, strict=True) if part[0][-1].isalnum() or part[2][0].isalnum()
    ] == []
    assert {len(words) for words in items} <= {1, 2, 3, 4, 5}
    assert all(row["item"] == row["item"].strip() for row in rows)


def test_no_item_of_one_split_is_named_in_a_message_of_another() -> None:
    train, dev, test = load(Dataset("orders"), PROJECT)
    texts = {split.name: "\n".join(row["message"].lower() for row in split.rows) for split in (train, dev, test)}
    told = [
        (row["id"], name)
        for split in (train, dev, test)
        for row in split.rows
        for name, text in texts.items()
        if name != split.name and len(row["item"].split()) > 1 and row["item"].lower() in text
    ]
    assert told == []


def test_there_are_enough_shops_for_an_interval_over_groups() -> None:
    data = load(Dataset("orders"), PROJECT)
    assert [(split.name, len(split), len(set(split.groups or ()))) for split in data] == [
        ("train", 152, 38),
        ("dev", 96, 24),
        ("test", 160, 40),
    ]


@pytest.mark.parametrize(
    ("given", "value", "told"),
    [
        ("blue enamel teapot", 1.0, "These are the words of the item."),
        ('"Blue Enamel Teapot."', 1.0, "These are the words of the item."),
        ("teapot", 0.5, "The item is 'blue enamel teapot'; missing: blue enamel."),
        ("the blue enamel teapot", 6 / 7, "The item is 'blue enamel teapot'; too much: the."),
        ("blue lid", 0.4, "The item is 'blue enamel teapot'; missing: enamel teapot, too much: lid."),
        (
            "teapot teapot teapot",
            1 / 3,
            "The item is 'blue enamel teapot'; missing: blue enamel, too much: teapot teapot.",
        ),
        ("", 0.0, "The item is 'blue enamel teapot'; missing: blue enamel teapot."),
    ],
)
def test_an_item_is_graded_by_its_words(given: str, value: float, told: str) -> None:
    judge = discover("orders", PROJECT).metric
    score = judge.score(dspy.Example(item="blue enamel teapot"), dspy.Prediction(item=given))
    assert (round(score.value, 9), score.feedback) == (round(value, 9), told)
