"""What docs/calibration.md promises, simulated: a seeded part of it here, all of it where marked slow."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from _calibration.cascades import PROGRAMS, Programs, cascades, verdicts
from _calibration.figures import PARTS, Effort
from _calibration.measures import CONFIDENCES, METHODS, Method, misses, ours, students_t
from _calibration.page import FIGURES, NOMINAL, ONE_SIDED, PAGE, TOLERANCE, broken, filled, worst_seen
from _calibration.worlds import COMPARISONS, SCORES, Array, World
from numpy.typing import NDArray

from cascade.comparison import Comparison, Verdict, compare, corrected

ROOT = Path(__file__).parents[1]
DOCUMENT = json.loads((ROOT / FIGURES).read_text("utf-8"))
WORLDS = {world.name: world for world in COMPARISONS + SCORES}
SKEWED = WORLDS["5 % lose 0.9"]


def chance_above(nominal: float, samples: int) -> float:
    """Percent that a true rate of `nominal` percent is above in 1 of 10,000 simulations of so many samples."""
    return nominal + 3.7 * math.sqrt(nominal * (100 - nominal) / samples)


def really(sums: Array, sizes: Array, confidence: float, margin: float) -> Comparison:
    """What `compare` says of one sample of differences: each group's is the same in all of its examples."""
    groups = np.repeat(np.arange(len(sizes)), sizes.astype(int))
    each = (sums / sizes)[groups]
    return compare(
        np.maximum(each, 0).tolist(), np.maximum(-each, 0).tolist(), groups=groups.tolist(), confidence=confidence,
        margin=margin,
    )  # fmt: skip


def really_all(sums: Array, sizes: Array, confidence: float, margin: float) -> NDArray[np.str_]:
    return np.array([really(row, sizes, confidence, margin).verdict.value for row in sums])


@pytest.mark.parametrize("world", COMPARISONS, ids=lambda world: world.name)
def test_what_is_simulated_is_what_compare_says(world: World) -> None:
    sums, sizes = world.draw(np.random.default_rng(23), 3, 40)
    for confidence in CONFIDENCES:
        told = [really(row, sizes, confidence, 0.2) for row in sums]
        assert verdicts(sums, sizes, confidence, 0.2).tolist() == [str(comparison.verdict) for comparison in told]
        for row, comparison in zip(sums, told, strict=True):
            for off, expected in ((1e-9, False), (-1e-9, True)):
                bound = comparison.interval.low + off
                assert [bool(flag) for flag in ours(row[None], sizes, bound, (confidence,))[0]] == [expected]


@pytest.mark.parametrize("programs", PROGRAMS, ids=lambda programs: programs.name)
def test_simulated_cascades_are_what_compare_and_decide_make_of_them(programs: Programs) -> None:
    quick = cascades(programs, 60, [0.0, 0.05, 0.0, 0.05], 8)
    slow = cascades(programs, 60, [0.0, 0.05, 0.0, 0.05], 8, judge=really_all)
    for name, values in vars(quick).items():
        assert np.array_equal(values, getattr(slow, name)), name


@pytest.mark.parametrize("units", [20, 60, 200])
@pytest.mark.parametrize("name", ["pass/fail, 20 % wins, no losses", "pass/fail, 10 % disagree", "ties, skewed",
                                  "token F1, 40 % drawn anew", "5 % lose 0.9", "groups of 5, 5 % lose 0.9",
                                  "groups of 2 and 20, 20 % lose 0.9", "pass/fail, 98%"])  # fmt: skip
def test_the_truth_is_outside_the_interval_no_more_often_than_promised(name: str, units: int) -> None:
    for nominal, missed in zip(ONE_SIDED, misses(WORLDS[name], units, 1_500), strict=True):
        assert max(missed) <= chance_above(nominal, 1_500)


@pytest.mark.parametrize("method", [students_t, METHODS["adjusted Wald"]])
def test_methods_that_were_not_taken_break_that_bound(method: Method) -> None:
    """So the bound can be broken."""
    assert max(misses(WORLDS["groups of 2 and 20, 20 % lose 0.9"], 100, 1_500, method)[0]) > chance_above(5, 1_500) + 2


@pytest.mark.parametrize("name", ["pass/fail, 50 %", "0.9, 4 % of a candidate score 0"])
@pytest.mark.parametrize("gain", [0.0, 0.05])
def test_cascades_say_nothing_false_more_often_than_promised(name: str, gain: float) -> None:
    (programs,) = (programs for programs in PROGRAMS if programs.name == name)
    false = cascades(programs, 100, [gain] * 4, 600).false()
    assert {kind: share for kind, share in false.items() if share > chance_above(NOMINAL[kind], 600)} == {}


def test_without_a_correction_for_the_stages_the_bound_on_cascades_is_broken() -> None:
    def uncorrected(sums: Array, sizes: Array, confidence: float, margin: float) -> NDArray[np.str_]:
        assert confidence == pytest.approx(corrected(0.9, 4))
        return verdicts(sums, sizes, 0.9, margin)

    false = cascades(PROGRAMS[0], 200, [0.0] * 4, 600, judge=uncorrected).false()
    assert false["better"] > chance_above(NOMINAL["better"], 600)


def test_a_large_true_gain_is_found_and_kept() -> None:
    found = cascades(PROGRAMS[0], 200, [0.2] * 4, 100)
    assert (found.best > 0).all()
    assert verdicts(np.ones((1, 20)), np.ones(20), 0.9, 0.03).tolist() == [Verdict.BETTER.value]


def test_the_page_shows_the_figures_beside_it() -> None:
    text = (ROOT / PAGE).read_text("utf-8")
    assert filled(text, DOCUMENT) == text


def test_nothing_published_is_false_more_often_than_promised_by_two_points() -> None:
    assert len(worst_seen(DOCUMENT)) == 10
    assert broken(DOCUMENT) == {}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_every_promise_holds_in_every_world() -> None:
    effort = Effort(3_000, (20, 50, 120, 300))
    document = {part: PARTS[part](effort) for part in ("comparisons", "scores", "cascades", "power")}
    for name, (most, seen) in worst_seen(document).items():
        share = 1 if " one side" in name else 5 if name.startswith("cascade") else 3
        assert seen <= max(most + TOLERANCE, chance_above(most, effort.samples // share)), name
