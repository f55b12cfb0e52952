"""Agreement of verdicts with labels, beside what chance gives."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cascade.agreement
from cascade.agreement import agreement


@pytest.mark.parametrize(
    ("mine", "theirs", "accuracy", "kappa"),
    [
        ("ab" * 10, "ab" * 10, 1.0, 1.0),
        ("ab" * 10, "ba" * 10, 0.0, -1.0),
        ("a" * 20, "ab" * 10, 0.5, 0.0),  # always the same verdict: half right, and it knows nothing
        ("a" * 20, "a" * 20, 1.0, 0.0),  # nothing to tell apart
        ("aabb" * 5, "abab" * 5, 0.5, 0.0),
        ("abc" * 8, "abb" * 8, 2 / 3, 0.5),
    ],
)
def test_kappa_is_agreement_above_chance(mine: str, theirs: str, accuracy: float, kappa: float) -> None:
    found = agreement(list(mine), list(theirs))
    assert (found.accuracy, found.kappa) == pytest.approx((accuracy, kappa))


def test_the_interval_counts_groups_and_not_answers() -> None:
    mine, theirs = ["a", "b", "a", "a"] * 20, ["a", "b", "a", "b"] * 20
    alone = agreement(mine, theirs)
    runs = [number // 20 for number in range(80)]
    together = agreement(sorted(mine), [label for _, label in sorted(zip(mine, theirs, strict=True))], runs)
    assert alone.accuracy == together.accuracy == 0.75
    assert together.high - together.low > alone.high - alone.low


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_what_was_seen_lies_in_its_interval(pairs: list[tuple[str, str]]) -> None:
    mine, theirs = zip(*pairs, strict=True)
    found = agreement(mine, theirs)
    assert 0 <= found.low <= found.accuracy <= found.high <= 1
    assert found.kappa_low <= found.kappa <= found.kappa_high <= 1


def test_verdicts_and_labels_have_to_match() -> None:
    with pytest.raises(ValueError, match="1 verdicts cannot be compared with 2 labels"):
        agreement(["a"], ["a", "b"])


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(cascade.agreement).failed == 0
