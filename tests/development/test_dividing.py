"""One source as three splits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.comparison import MIN_UNITS
from cascade.development.dividing import annotation, divide
from cascade.errors import DatasetError


def rows(n: int, labels: int = 3) -> list[dict[str, str]]:
    return [{"q": f"row {i}", "a": f"label {i % labels}", "who": f"c{i // 2}"} for i in range(n)]


def test_shares_and_the_same_every_time():
    made = divide(rows(200), ["q"], group=None, label="a", seed=1)
    assert {name: len(found) for name, found in made.items()} == {"train": 80, "dev": 60, "test": 60}
    assert made == divide(rows(200), ["q"], group=None, label="a", seed=1)
    assert made != divide(rows(200), ["q"], group=None, label="a", seed=2)


def test_each_split_has_its_share_of_each_label():
    for found in divide(rows(300, 5), ["q"], group=None, label="a", seed=7).values():
        counts = [sum(row["a"] == f"label {k}" for row in found) for k in range(5)]
        assert max(counts) - min(counts) <= 2


def test_groups_stay_together_and_are_what_is_counted():
    made = divide(rows(140), ["q"], group="who", label="a", seed=1)
    owners = [{row["who"] for row in found} for found in made.values()]
    assert not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert all(len(owner) >= MIN_UNITS for owner in owners)
    with pytest.raises(DatasetError, match=r"100 rows make 50 values of 'who'; three splits need at least 60, 20 each"):
        divide(rows(100), ["q"], group="who", label="a", seed=1)


def test_the_same_question_in_other_words_of_case_stays_in_one_split():
    twice = [*rows(80), *({**row, "q": f"{row['q'].upper()}!"} for row in rows(80))]
    made = divide(twice, ["q"], group=None, label="", seed=3)
    where = {row["q"].lower().strip("!"): name for name, found in made.items() for row in found}
    assert all(where[row["q"].lower().strip("!")] == name for name, found in made.items() for row in found)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=60, max_size=120),
    seed=st.integers(0, 10),
    grouped=st.booleans(),
)
def test_every_row_is_in_one_split_and_no_group_in_two(sizes, seed, grouped):
    many = [{"q": f"{g}.{i}", "a": "x", "g": str(g)} for g, size in enumerate(sizes) for i in range(size)]
    made = divide(many, ["q"], group="g" if grouped else None, label="a", seed=seed)
    assert sorted(row["q"] for found in made.values() for row in found) == sorted(row["q"] for row in many)
    for name in ("dev", "test", "train"):
        assert len({row["g" if grouped else "q"] for row in made[name]}) >= MIN_UNITS
    if grouped:
        owners = [{row["g"] for row in found} for found in made.values()]
        assert sum(map(len, owners)) == len(sizes)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["yes", "no"] * 30, ["no", "yes"]),
        (["a"] * 30, "str"),
        ([f"text {i}" for i in range(60)], "str"),
        ([f"{'x' * 50}{i % 2}" for i in range(60)], "str"),
        ([True, False], "bool"),
        ([1, 2], "int"),
        ([1, 2.5], "float"),
        ([["a"], ["b", "c"]], "list[str]"),
        ([["a"], [1]], "list"),
        ([{"a": 1}], "dict"),
        ([1, "a"], "str"),
        ([None, "a"], "str"),
    ],
)
def test_types(values, kind):
    assert annotation(values) == kind
