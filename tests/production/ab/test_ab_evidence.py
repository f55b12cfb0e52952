"""Evidence of an A/B test: by hand, by enumerating all that can happen, and by properties."""

import json
import math
from collections.abc import Callable
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import CascadeError, DefinitionError
from cascade.production.ab import Arm, Evidence, Outcome, first_of_each_key
from cascade.production.ab.evidence import BETS, STAKES

Step = tuple[bool, float]
"""Whether the challenger answered, and what it was worth."""


def listed(steps: list[Step], share: float) -> list[Outcome]:
    arms = [Arm.CHALLENGER if challenger else Arm.CHAMPION for challenger, _ in steps]
    return [Outcome(str(n), arm, value, share) for n, (arm, (_, value)) in enumerate(zip(arms, steps, strict=True))]


def seen(steps: list[Step], share: float = 0.5) -> Evidence:
    return Evidence.at(share).after(listed(steps, share))


steps = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0]) | st.floats(0, 1)), max_size=80)
shares = st.sampled_from([0.5, 0.1, 0.25, 0.8])


def test_one_outcome_by_hand() -> None:
    """Half was expected of both arms, so a challenger's 1 under half of the keys counts 1 and no more was expected."""
    found = seen([(True, 1.0)])
    assert (found.n, found.sums, found.total, found.squares, found.planned) == ((0, 1), (0.0, 1.0), 1.0, 1.0, 0.5)
    assert found.likelihood == pytest.approx(math.log(0.5))
    assert found.up == pytest.approx([math.log1p(0.5 * bet) for bet in BETS])
    assert found.down == pytest.approx([math.log1p(-0.5 * bet) for bet in BETS])
    assert found.capital(0.3, above=True) == pytest.approx(
        math.log(sum(stake * (1 + bet / 2) * math.exp(-0.3 * bet / 2) for bet, stake in zip(BETS, STAKES, strict=True)))
    )


def test_two_outcomes_by_hand() -> None:
    """After a 1: both (1 + ½) / 2 = ¾; the challenger (1 + 5 · ¾) / 6 = 19/24. Under a tenth of the keys."""
    found = seen([(True, 1.0), (False, 0.0)], 0.1)
    first, second = (1 - 0.5) / 0.1, (0.75 - 0) / 0.9
    assert found.total == pytest.approx(first + second + 19 / 24 - 0.75)
    bets = [0.1 * bet for bet in BETS]
    assert found.up == pytest.approx(
        [math.log1p(bet * first) + math.log1p(bet * second) + bet * (19 / 24 - 0.75) for bet in bets]
    )


def steady(history: tuple[Step, ...]) -> tuple[float, float]:
    return 0.5, 0.7


def drifting(history: tuple[Step, ...]) -> tuple[float, float]:
    return 0.1 + 0.2 * len(history), 0.1 + 0.2 * len(history)


def spiteful(history: tuple[Step, ...]) -> tuple[float, float]:
    """Rates of both arms turn against whoever is ahead."""
    ahead = sum(value if challenger else -value for challenger, value in history)
    return (0.9, 0.2) if ahead > 0 else (0.3, 0.95)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.7])
@pytest.mark.parametrize("rates", [steady, drifting, spiteful])
def test_no_bet_gains_on_average(share: float, rates: Callable[[tuple[Step, ...]], tuple[float, float]]) -> None:
    """All 256 courses of four outcomes: what a unit becomes, against the mean difference so far, is 1 or less."""
    means = [[0.0, 0.0] for _ in range(5)]
    for length in range(1, 5):
        for course in product(product((False, True), (0.0, 1.0)), repeat=length):
            chance, effects = 1.0, 0.0
            for place, (challenger, value) in enumerate(course):
                rate = rates(course[:place])
                p = rate[challenger]
                chance *= (share if challenger else 1 - share) * (p if value else 1 - p)
                effects += rate[1] - rate[0]
            found = seen(list(course), share)
            for side, above in enumerate((True, False)):
                means[length][side] += chance * math.exp(found.capital(effects / length, above=above))
    assert means[0] == [0.0, 0.0]
    for length in range(1, 5):
        assert all(0.5 < mean <= 1 + 1e-12 for mean in means[length])


def test_a_bet_gains_where_the_difference_is_on_its_side() -> None:
    """So the bound above can be broken: here the same mean is taken against a difference that is too low."""
    mean = 0.0
    for course in product(product((False, True), (0.0, 1.0)), repeat=4):
        chance = math.prod(0.5 * ((0.7 if arm else 0.5) if value else (0.3 if arm else 0.5)) for arm, value in course)
        mean += chance * math.exp(seen(list(course)).capital(0.0, above=True))
    assert mean > 1.02


@given(steps=steps, share=shares)
def test_the_estimate_is_in_the_interval(steps: list[Step], share: float) -> None:
    found = seen(steps, share)
    interval = found.interval(0.95)
    assert -1 <= interval.low <= found.estimate <= interval.high <= 1


@given(steps=steps, share=shares, confidence=st.floats(0.5, 0.999), more=st.floats(0.5, 0.999))
def test_more_confidence_is_a_wider_interval(steps: list[Step], share: float, confidence: float, more: float) -> None:
    found, (less, more) = seen(steps, share), sorted((confidence, more))
    narrow, wide = found.interval(less), found.interval(more)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(steps=steps, share=shares, difference=st.floats(-1, 1))
def test_what_is_outside_the_interval_is_what_enough_was_won_against(
    steps: list[Step], share: float, difference: float
) -> None:
    found, enough = seen(steps, share), math.log(40)
    interval = found.interval(0.95)
    for above, outside in ((True, difference - interval.low), (False, interval.high - difference)):
        if abs(outside) > 1e-9:
            assert (found.capital(difference, above=above) >= enough) == (outside < 0)


@given(steps=steps, share=shares)
def test_arms_that_change_places_change_the_sign(steps: list[Step], share: float) -> None:
    found = seen(steps, share)
    mirrored = seen([(not challenger, value) for challenger, value in steps], 1 - share)
    one, other = found.interval(0.95), mirrored.interval(0.95)
    assert (mirrored.estimate, other.low, other.high) == pytest.approx((-found.estimate, -one.high, -one.low), abs=1e-9)
    assert mirrored.n == found.n[::-1]


@given(steps=steps, share=shares)
def test_scores_that_are_turned_round_change_the_sign(steps: list[Step], share: float) -> None:
    one, other = seen(steps, share), seen([(challenger, 1 - value) for challenger, value in steps], share)
    assert other.estimate == pytest.approx(-one.estimate, abs=1e-9)
    assert other.interval(0.95).low == pytest.approx(-one.interval(0.95).high, abs=1e-9)


@settings(deadline=None)
@given(steps=steps, share=shares, cuts=st.lists(st.integers(0, 80), max_size=4))
def test_bit_by_bit_through_json_is_the_same_as_at_once(steps: list[Step], share: float, cuts: list[int]) -> None:
    outcomes, found = listed(steps, share), Evidence.at(share)
    edges = [0, *sorted(cuts), len(outcomes)]
    for start, end in pairwise(edges):
        found = found.after(outcomes[start:end])
        assert Evidence.from_json(json.loads(json.dumps(found.to_json())), "ab.json") == found
    whole = Evidence.at(share).after(outcomes)
    for name, value in vars(whole).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-9), name


def test_a_share_may_be_raised_during_a_test() -> None:
    low, high = listed([(True, 1.0), (False, 0.0)] * 30, 0.1), listed([(True, 1.0), (False, 0.0)] * 30, 0.4)
    found = Evidence.at(0.1).after(low).after(high)
    assert found.planned == pytest.approx(60 * 0.1 + 60 * 0.4)
    assert found.interval(0.95).low > 0


@pytest.mark.parametrize("share", [0.05, 0.95, 1.0, float("nan")])
def test_a_share_below_the_first_is_refused(share: float) -> None:
    with pytest.raises(DefinitionError, match=r"leaves an arm less than the 0\.1 that this test began with"):
        Evidence.at(0.1).after(listed([(True, 1.0)], share))


@pytest.mark.parametrize("value", [-0.1, 1.1, 5, float("nan"), float("inf")])
def test_a_value_that_is_no_score_is_refused(value: float) -> None:
    with pytest.raises(DefinitionError, match=r"The value of an outcome is .*: give a number from 0 to 1"):
        Evidence.at(0.1).after(listed([(True, 1.0), (False, value)], 0.1))


@pytest.mark.parametrize("share", [0, 1, -0.2, float("nan")])
def test_a_test_of_one_arm_is_none(share: float) -> None:
    with pytest.raises(DefinitionError, match="two arms need one between 0 and 1"):
        Evidence.at(share)


@pytest.mark.parametrize(("wrong", "told"), [
    ({}, "least: Field required"),
    ([], ": Input should be a dictionary or an instance of Evidence"),
    ({"least": 0}, "least: Input should be greater than 0"),
    ({"least": 0.1, "n": [-1, 0]}, "n.0: Input should be greater than or equal to 0"),
    ({"least": 0.1, "total": math.nan}, "total: Input should be a finite number"),
    ({"least": 0.1, "up": [0.0] * 9}, "up: Tuple should have at least 10 items"),
    ({"least": 0.1, "version": 2}, "version: Input should be 1"),
])  # fmt: skip
def test_damaged_evidence_is_one_line_that_names_the_place(wrong: object, told: str) -> None:
    with pytest.raises(CascadeError) as caught:
        Evidence.from_json(wrong, "ab.json")
    assert told in str(caught.value)
    assert "ab.json is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_the_first_outcome_of_a_key_counts() -> None:
    first, again, other = (
        Outcome(key, arm, value, 0.1)
        for key, arm, value in (("a", Arm.CHAMPION, 1.0), ("a", Arm.CHALLENGER, 0.0), ("b", Arm.CHALLENGER, 0.5))
    )
    assert first_of_each_key([first, again, other, again]) == [first, other]
    assert first_of_each_key([again, other], counted={"a"}) == [other]
    assert first_of_each_key([]) == []


@pytest.mark.parametrize(("kind", "estimate"), [
    ([(True, 1.0), (False, 1.0)], 0.0),
    ([(True, 0.0), (False, 0.0)], 0.0),
    ([(True, 1.0), (False, 0.0)], 1.0),
    ([(True, 0.0), (False, 1.0)], -1.0),
    ([(True, 1.0), (False, 1.0), (True, 0.0), (False, 0.0), (False, 1.0), (True, 1.0)], 0.0),
])  # fmt: skip
def test_a_million_outcomes_of_0_and_1_leave_nothing_infinite(kind: list[Step], estimate: float) -> None:
    found = Evidence.at(0.5).after(listed(kind, 0.5) * (1_000_000 // len(kind)))
    interval = found.interval(0.95)
    assert found.estimate == pytest.approx(estimate, abs=0.002)
    assert interval.high - interval.low < 0.02
    assert interval.low - 1e-9 <= estimate <= interval.high + 1e-9
    assert all(map(math.isfinite, (*found.up, *found.down, found.likelihood, found.squares)))
    assert Evidence.from_json(json.loads(json.dumps(found.to_json())), "x") == found


def test_nothing_is_known_of_no_outcomes() -> None:
    nothing = Evidence.at(0.1)
    assert (nothing.estimate, nothing.outcomes, nothing.mismatch(0.01)) == (0.0, 0, False)
    assert (nothing.interval(0.95).low, nothing.interval(0.95).high) == (-1.0, 1.0)


@pytest.mark.parametrize(("champion", "challenger", "share", "mismatch"), [
    (500, 500, 0.5, False),
    (540, 460, 0.5, False),
    (600, 400, 0.5, True),
    (900, 100, 0.1, False),
    (850, 150, 0.1, True),
    (960, 40, 0.1, True),
    (0, 5, 0.1, True),
    (5, 0, 0.1, False),
])  # fmt: skip
def test_outcomes_in_other_shares_are_noticed(champion: int, challenger: int, share: float, mismatch: bool) -> None:
    found = seen([(False, 1.0)] * champion + [(True, 1.0)] * challenger, share)
    assert found.mismatch(0.01) is mismatch


def test_what_is_needed_falls_with_the_difference_and_rises_with_unequal_shares() -> None:
    needed = [[Evidence.at(share).needed(d, 0.95) or 0 for d in (0.02, 0.05, 0.2)] for share in (0.5, 0.1)]
    assert needed == [[18_445, 2_952, 185], [51_235, 8_198, 513]]
    assert Evidence.at(0.5).needed(0.0, 0.95) is None


def test_what_is_needed_follows_the_spread_that_was_seen() -> None:
    calm = seen([(True, 0.9), (False, 0.9)] * 500)
    wild = seen([(True, 1.0), (False, 0.0), (True, 0.0), (False, 1.0)] * 250)
    assert (calm.needed(0.05, 0.95), wild.needed(0.05, 0.95)) == (61, 2_988)
