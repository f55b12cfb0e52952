"""Which new rows may join a dataset: the table of cases, and that what joins can always be loaded."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.dataset import Data, Dataset, load
from cascade.production.incoming.vetting import Arrival, Vetted, vet

ANSWERS = ("answer",)
WORDS = ("apples", "printer", "invoice", "password", "delivery")


def rows(split: str, count: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "question": f"{split}: what about my {WORDS[n % 5]} of number {n * 37}?",
            "answer": WORDS[n % 5],
            "who": f"{split}{n}",
        }
        for n in range(count)
    ]


def dataset(group: str | None = None) -> Data:
    splits: dict[str, Any] = {name: rows(name) for name in ("train", "dev", "test")}
    return load(Dataset("help", **splits, inputs=["question"], group=group), Path("/nowhere"))


def arrived(*given_: dict[str, Any], split: str = "train") -> list[Arrival]:
    return [Arrival("new.jsonl", n, str(row), split, row) for n, row in enumerate(given_, 1)]


def row(
    question: str = "something quite different", answer: Any = "apples", who: Any = "me", **more: Any
) -> dict[str, Any]:
    return {"question": question, "answer": answer, "who": who, **more}


def reasons(vetted: Vetted) -> list[str]:
    return [reason for _, reason in vetted.refused]


TRAIN, TEST = rows("train")[0]["question"], rows("test")[3]["question"]
CASES = [
    # name, row, split, words of the reason ("" is accepted)
    ("a new one", row(), "train", ""),
    ("a new one of test", row(), "test", ""),
    ("with a field more", row(source="trace 7"), "train", ""),
    ("a field is missing", {"question": "q", "who": "me"}, "train", "no field 'answer'"),
    ("another kind of value", row(answer=7), "train", "'answer' is a number, 7; the dataset's are text"),
    ("nothing", row(answer=None), "train", "'answer' is nothing"),
    ("no inputs", row(" ?! "), "train", ""),
    ("blank inputs", row("  "), "train", "hold nothing"),
    ("the same", row(TRAIN), "train", "stands in train already ('train-0001')"),
    ("the same in other spelling", row(TRAIN.upper() + " "), "train", "stands in train already"),
    ("another answer", row(TRAIN, "invoice"), "train", "in train with another answer ('train-0001': 'apples'"),
    ("in test", row(TEST, "password"), "train", "inputs stand in test ('test-0004')"),
    ("in test in other spelling", row(TEST.replace("?", " !")), "train", "inputs stand in test"),
    ("nearly in test", row(TEST.replace("what", "whats")), "train", "nearly 'test-0004' of test"),
    ("nearly in dev", row(rows("dev")[1]["question"] + "!"), "train", "inputs stand in dev"),
    ("for test and in train", row(TRAIN), "test", "inputs stand in train"),
    ("for test and nearly in test", row(TEST.replace("what", "whats")), "test", "nearly 'test-0004' of test"),
    ("nearly in train", row(TRAIN.replace("what", "whats")), "train", ""),
    ("an id that is taken", row(id="train-0002"), "train", "id 'train-0002' stands in train already"),
    ("an id that the next row has", row(id="train-0006"), "train", ""),
]  # fmt: skip


@pytest.mark.parametrize(("given_", "split", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_row(given_: dict[str, Any], split: str, words: str) -> None:
    vetted = vet(dataset(), None, ANSWERS, arrived(given_, split=split))
    if not words:
        assert vetted.accepted == {split: (given_,)} and not vetted.refused
    else:
        assert not vetted.accepted and words in reasons(vetted)[0]


def test_a_row_that_nearly_stands_in_train_is_counted() -> None:
    assert vet(dataset(), None, ANSWERS, arrived(row(TRAIN.replace("what", "whats")), row())).alike == 1


def test_rows_are_looked_at_beside_those_that_came_with_them() -> None:
    long = "please tell me how to reset the printer in the hall"
    vetted = vet(
        dataset(), None, ANSWERS,
        arrived(row(long), row(long + "!"), row(long, "printer"), row("another thing", id="train-0007"), row("a third"))
        + arrived(row(long + "s"), row("only here"), split="test"),
    )  # fmt: skip
    assert [entry["question"] for entry in vetted.accepted["test"]] == [long + "s", "only here"]
    assert [entry["question"] for entry in vetted.accepted["train"]] == ["another thing"]
    assert [words.split(" of ")[0] for words in reasons(vetted)[:3]] == ["It is nearly 'test-0006'"] * 3
    assert reasons(vetted)[3:] == [
        "Its id 'train-0007' stands in train already."
    ]  # of the row before, in the next place


def test_near_duplicates_among_new_rows_of_test_are_refused() -> None:
    long = "please tell me how to reset the printer in the hall"
    vetted = vet(dataset(), None, ANSWERS, arrived(row(long), row(long + "way"), split="test"))
    assert len(vetted.accepted["test"]) == 1 and "another row that came in for test" in reasons(vetted)[0]


def test_a_group_stays_in_one_split() -> None:
    vetted = vet(
        dataset("who"),
        "who",
        ANSWERS,
        arrived(row("one", who="test2"), row("two", who="new"), row("three", who="train1")),
    )
    assert [entry["question"] for entry in vetted.accepted["train"]] == ["two", "three"]
    assert reasons(vetted) == ["Its group 'test2' stands in test: a group stays in one split."]
    both = vet(
        dataset("who"), "who", ANSWERS, arrived(row("one", who="new")) + arrived(row("two", who="new"), split="test")
    )
    assert list(both.accepted) == ["test"]


TEXTS = st.one_of(st.sampled_from([TRAIN, TEST, TEST.upper(), "printer", "PRINTER!", "a", ""]), st.text(max_size=12))
ARRIVALS = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {
                "question": TEXTS,
                "answer": st.sampled_from([*WORDS, 3, None]),
                "who": st.sampled_from(["me", "test1", "dev0"]),
            },
            optional={"id": st.sampled_from(["train-0006", "test-0006", "x"])},
        ),
        st.sampled_from(["train", "dev", "test"]),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(came=ARRIVALS, grouped=st.booleans())
def test_what_joins_can_be_loaded(came: list[tuple[dict[str, Any], str]], grouped: bool) -> None:
    group = "who" if grouped else None
    data = dataset(group)
    vetted = vet(data, group, ANSWERS, [Arrival("f", n, "", split, row) for n, (row, split) in enumerate(came)])
    assert sum(map(len, vetted.accepted.values())) + len(vetted.refused) == len(came)
    splits: dict[str, Any] = {split.name: [*split.rows, *vetted.accepted.get(split.name, ())] for split in data}
    load(Dataset("help", **splits, inputs=["question"], group=group), Path("/nowhere"))
