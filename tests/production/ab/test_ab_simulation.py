"""What docs/ab.md promises of an A/B test, simulated: a seeded part of it here, more of it where marked slow."""

import ab
import numpy as np
import pytest
from ab import ENOUGH, LOOKS, OTHER, RULES, SAME, World
from scipy.stats import binom

from cascade.production.ab import Evidence
from cascade.production.ab.advice import MISMATCH
from cascade.production.ab.evidence import terms

WORLDS = {world.name: world for world in SAME + OTHER}
TESTS = 200


def most(promise: float, tests: int) -> float:
    """Percent that a true rate of so many percent exceeds in one of 10,000 simulations."""
    return 100 * float(binom.ppf(1 - 1e-4, tests, promise / 100)) / tests


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("name", ["thumbs, 20 %", "0 to 4 stars", "15 points worse, then 15 better"])
def test_what_is_simulated_is_what_evidence_says(name: str, share: float) -> None:
    challenger, values, effect = next(ab.draw(WORLDS[name], 2, 300, share))
    paths = {
        above: ab.capitals(terms(challenger, values, share), share, effect, above=above) for above in (True, False)
    }
    flags = [ab.mismatched(challenger[:, :looks], share) for looks in range(1, 301)]
    for test in range(2):
        evidence, ever = Evidence.at(share), False
        for look, outcome in enumerate(ab.listed(challenger[test], values[test], share)):
            evidence = evidence.after([outcome])
            truth = float(effect[: look + 1].mean())
            for above, path in paths.items():
                assert evidence.capital(truth, above=above) == pytest.approx(path[test, look], abs=1e-9)
            ever |= evidence.mismatch(MISMATCH)
            assert ever == flags[look][test]


@pytest.mark.parametrize("share", ab.SHARES)
@pytest.mark.parametrize("name", ["thumbs, 2 %", "thumbs, 50 %", "graded, mean 0.7", "thumbs, 30 % rising to 90 %",
                                  "15 points worse, then 15 better"])  # fmt: skip
def test_looking_after_each_of_5000_outcomes_says_nothing_false_too_often(name: str, share: float) -> None:
    assert ab.missed(WORLDS[name], TESTS, share)["ours"] <= most(5, TESTS)


def test_a_z_test_by_peeking_breaks_that_bound() -> None:
    """So the bound can be broken, and this is what people would do otherwise."""
    assert ab.missed(WORLDS["thumbs, 50 %"], TESTS, 0.5)["peeking"] > 30


def test_all_outcomes_of_a_key_break_it_and_the_first_of_each_do_not() -> None:
    first, every = ab.repeated(TESTS, 0.5)
    assert first <= most(5, TESTS)
    assert every > 12


def test_one_interval_holds_at_all_looks_together() -> None:
    """What all looks leave together, an intersection that only narrows, holds the truth in 95 of 100 tests."""
    held, tests, looks = 0, 60, range(50, 1_001, 50)
    challenger, values, _ = next(ab.draw(World("five better", ab.steady(0.6), ab.steady(0.05)), tests, looks[-1], 0.5))
    for row in range(tests):
        outcomes, evidence, low, high = ab.listed(challenger[row], values[row], 0.5), Evidence.at(0.5), -1.0, 1.0
        for look in looks:
            evidence = evidence.after(outcomes[look - 50 : look])
            interval = evidence.interval(RULES.confidence)
            low, high = max(low, interval.low), min(high, interval.high)
        held += low <= 0.05 <= high
        assert high - low < 0.25
    assert 100 * (tests - held) / tests <= most(5, tests)


@pytest.mark.parametrize("share", ab.SHARES)
def test_a_challenger_that_is_tolerated_is_not_stopped_too_often(share: float) -> None:
    for tolerance in (0.0, 0.02):
        stops = np.isfinite(ab.stopped(-tolerance, TESTS, share, LOOKS, tolerance))
        assert 100 * stops.mean() <= most(5, TESTS)


def test_harm_is_stopped_soon() -> None:
    assert np.median(ab.stopped(-0.2, 100, 0.1, 2_000)) < 700
    assert np.median(ab.stopped(-0.3, 100, 0.1, 2_000)) < 400
    assert np.median(ab.stopped(-0.2, 100, 0.5, 2_000)) < 250


@pytest.mark.parametrize(("effect", "share"), [(0.2, 0.5), (-0.2, 0.1), (0.1, 0.5)])
def test_about_as_many_outcomes_are_needed_as_is_foretold(effect: float, share: float) -> None:
    times, foretold = ab.seen(effect, 100, share, 4_000)
    assert 0.7 < np.median(times) / np.median(foretold) < 1.5


def test_shares_that_are_kept_are_not_said_not_to_be() -> None:
    assert ab.missed(SAME[2], TESTS, 0.1)["mismatch"] <= most(1, TESTS)
    assert ab.missed(OTHER[-1], 40, 0.5)["mismatch"] == 100


def test_capital_is_counted_until_it_overflows() -> None:
    challenger, values = np.tile([[True, False]], (1, 5_000)), np.tile([[1.0, 0.0]], (1, 5_000))
    path = ab.capitals(terms(challenger, values, 0.5), 0.5, 0, above=True)
    assert np.isfinite(path).all()
    assert path[0, -1] > ENOUGH


@pytest.mark.slow
@pytest.mark.parametrize("share", ab.SHARES)
@pytest.mark.parametrize("world", SAME + OTHER, ids=lambda world: world.name)
def test_nothing_false_is_said_too_often_anywhere(world: World, share: float) -> None:
    assert ab.missed(world, 1_500, share)["ours"] <= most(5, 1_500)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["thumbs, 50 %", "thumbs, 95 %"])
def test_nor_over_fifty_thousand_outcomes(name: str) -> None:
    assert ab.missed(WORLDS[name], 300, 0.5, 50_000)["ours"] <= most(5, 300)
