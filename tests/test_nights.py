"""What docs/nights.md says: simulated by what the gate rules, a seeded part of it here, all of it where marked slow."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _nights.histories import NIGHTS, RULES, Plan, granted, histories, looks
from _nights.page import BOUND, FIGURES, PAGE, filled, nothing_gained, worst
from _nights.worlds import WORLDS, Array, World
from scripted import split

from cascade.comparison import score_interval
from cascade.evaluation import Evaluation, Outcome
from cascade.production.promoting.gate import gate, spent

ROOT = Path(__file__).parents[1]
DOCUMENT = json.loads((ROOT / FIGURES).read_text("utf-8"))


def evaluation(scores: Array, size: int) -> Evaluation:
    rows = replace(
        split("test", len(scores)), groups=tuple(str(n // size) for n in range(len(scores))) if size > 1 else None
    )
    return Evaluation(
        rows, tuple(Outcome(id_, score=score) for id_, score in zip(rows.ids, scores.tolist(), strict=True))
    )


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
@pytest.mark.parametrize("attempt", [1, 3, 30])
def test_what_rules_in_a_simulation_is_what_the_gate_says(world: World, attempt: int) -> None:
    rng, count, said = np.random.default_rng(attempt), 12, []
    for gain in (0.0, 0.1, 0.3):
        ease = world.ease(rng, count, 100)
        champion = world.champion(rng, ease)
        challenger = world.challenger(rng, ease, champion, gain)
        quick = granted(challenger, champion, np.full(count, spent(RULES.alpha, attempt)), world.size)
        for row, passed in enumerate(quick):
            new, old = (evaluation(scores[row], world.size) for scores in (challenger, champion))
            assert gate(new, old, RULES, attempt=attempt).granted == passed
            said.append(passed)
    assert 0 < sum(said) < len(said) or world.size > 1


def test_looks_are_numbered_as_the_log_numbers_them() -> None:
    assert looks(5) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
@pytest.mark.parametrize("gain", [0.0, 0.1])
def test_the_truth_of_a_world_is_what_it_says(world: World, gain: float) -> None:
    rng = np.random.default_rng(3)
    ease = world.ease(rng, 400, 500)
    champion = world.champion(rng, ease)
    assert champion.mean() == pytest.approx(world.mean, abs=0.01)
    assert world.challenger(rng, ease, champion, gain).mean() - champion.mean() == pytest.approx(gain, abs=0.006)


@pytest.mark.parametrize("fresh", [0, 20])
def test_nights_without_a_gain_promote_nothing_more_often_than_promised(fresh: int) -> None:
    promoted = histories(Plan(WORLDS[0], 200, fresh), 400, 12) > 0
    assert score_interval(promoted.astype(float).tolist(), confidence=0.99).low < RULES.alpha


def test_without_spending_that_bound_is_broken() -> None:
    """So it can be."""
    promoted = histories(Plan(WORLDS[0], 200, spending=False), 400, 12) > 0
    assert score_interval(promoted.astype(float).tolist(), confidence=0.99).low > 3 * RULES.alpha


def test_a_large_gain_is_promoted_in_the_first_night() -> None:
    assert (histories(Plan(WORLDS[0], 400, gain=0.3), 50, 2) == 1).all()


def test_a_program_that_was_refused_is_not_due_again_without_fresh_rows() -> None:
    night = histories(Plan(WORLDS[0], 100, gain=0.1, same=True), 200, 6)
    assert set(night) == {0, 1}
    assert set(histories(Plan(WORLDS[0], 100, 40, gain=0.1, same=True), 200, 6)) > {0, 1}


def test_the_page_shows_the_figures_beside_it() -> None:
    text = (ROOT / PAGE).read_text("utf-8")
    assert filled(text, DOCUMENT) == text


def test_what_is_published_keeps_the_promise() -> None:
    assert all(row["histories"] >= 2_000 for row in (*DOCUMENT["nothing"], *DOCUMENT["power"]))
    assert (DOCUMENT["nights"], BOUND) == (NIGHTS, 0.98)
    assert worst(DOCUMENT) <= RULES.alpha


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_ten_thousand_histories_keep_the_promise_in_every_world() -> None:
    assert worst({"nothing": nothing_gained(10_000, NIGHTS)}) <= RULES.alpha
