"""What a run may cost and what it could show, before anything is spent."""

from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import prepare
from cascade.comparison import compare
from cascade.experiment import Budget, Headroom, Stage
from cascade.forecast import DISAGREEMENT, Forecast, detectable, forecast
from cascade.settings import LMSpec
from cascade.testing import ScriptedEngine, ScriptedLMs


class Named(ScriptedLMs):
    """Scripted LMs under the names that settings give them."""

    def model(self, name: str) -> str:
        return self.settings.lm_named(name).model


def foreseen(folder: Path, *stages: Stage, lm: dict[str, LMSpec] | None = None, **options: Any) -> Forecast:
    settings, engine = scripted.settings_in(folder, lm=lm or {}), ScriptedEngine(scripted.answer)
    found = forecast(prepare(scripted.experiment(*stages, **options), settings, Named(settings, engine)))
    assert engine.requests == []
    assert not settings.home.exists()
    return found


def test_a_run_stays_within_its_forecast(tmp_path: Path) -> None:
    options: dict[str, Any] = {"plateau": scripted.PATIENT, "headroom": Headroom(20, 2), "dev": 20, "test": 20}
    found = foreseen(tmp_path, *scripted.FOUR_STAGES, **options)
    defined = scripted.experiment(*scripted.FOUR_STAGES, **options)
    result = scripted.run(defined, tmp_path, ScriptedEngine(scripted.answer))
    at_most = {row.name: row.bound.total for row in found.rows}
    for stage in result.stages:
        asked = stage.spent.lm_calls + stage.spent.lm_calls_cached
        assert 0 < asked <= (at_most[stage.name] or 0), stage.name
    used = result.spent.lm_calls + result.spent.lm_calls_cached
    assert used <= (found.bound.total or 0) <= 3 * used


def test_every_step_has_a_row_and_the_total_is_their_sum(tmp_path: Path) -> None:
    stages = (Stage("demos", dspy.BootstrapFewShot), Stage("weights", dspy.BootstrapFinetune))
    found = foreseen(tmp_path, *stages, headroom=Headroom(30, 3), repeats=2)
    assert [(row.name, row.search.total, row.judging.total) for row in found.rows] == [
        ("0-baseline", 0, 80),
        ("headroom", 2 * 4 * 15, 0),
        ("1-demos", 30, 80),
        ("2-weights", 60, 80),
        ("test", 0, 160),
    ]
    assert found.bound.total == found.to_json()["lm_calls_at_most"] == 120 + 90 + 3 * 80 + 160


def test_without_a_bound_for_one_stage_there_is_none_for_the_run(tmp_path: Path) -> None:
    class Mine(dspy.BootstrapFewShot):
        pass

    found = foreseen(tmp_path, Stage("mine", Mine), budget=Budget(lm_calls=10**6))
    document = found.to_json()
    assert document["lm_calls_at_most"] is None
    assert document["stages"][1]["search"] is None
    assert "Mine" in document["stages"][1]["unknown"]
    assert found.may_cut == ("lm_calls",)


EMBEDDED, PAID = LMSpec("embedded/smollm2-135m"), LMSpec("openai/gpt-5-mini")
COSTS = [
    ({}, [0.0, 0.0, 0.0]),
    ({"default": PAID}, [None, None, None]),
    ({"prompt": PAID}, [0.0, None, 0.0]),
    ({"prompt": EMBEDDED, "task": PAID}, [None, None, None]),
    ({"teacher": PAID}, [0.0, None, 0.0]),
]


@pytest.mark.parametrize(("lm", "costs"), COSTS)
def test_embedded_models_cost_nothing_and_what_others_will_cost_is_unknown(
    tmp_path: Path, lm: dict[str, LMSpec], costs: list[float | None]
) -> None:
    found = foreseen(tmp_path, Stage("s", dspy.MIPROv2), lm=lm)
    assert [row.cost_usd for row in found.rows] == costs
    assert found.cost_usd == (None if None in costs else 0.0)


CUTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ()),
    ({"lm_calls": 150}, ()),
    ({"lm_calls": 149}, ("lm_calls",)),
    ({"lm_calls": 150, "minutes": 9, "tokens": 5}, ("tokens", "minutes")),
    ({"usd": 1.0}, ()),
]


@pytest.mark.parametrize(("caps", "cutting"), CUTS)
def test_a_cap_that_cannot_be_reached_is_told_from_one_that_may(
    tmp_path: Path, caps: dict[str, Any], cutting: tuple[str, ...]
) -> None:
    class Priced(Named):
        def priced(self, name: str) -> bool:
            return True

    settings = scripted.settings_in(tmp_path)
    defined = scripted.experiment(Stage("s", dspy.BootstrapFewShot), dev=30, test=30, budget=Budget(**caps))
    found = forecast(prepare(defined, settings, Priced(settings, ScriptedEngine(scripted.answer))))
    assert found.bound.total == 30 + 30 + 30 + 60
    assert found.may_cut == cutting


@pytest.mark.parametrize("n", [20, 57, 96, 400])
def test_what_can_be_detected_is_what_a_comparison_would_say(n: int) -> None:
    found = detectable(scripted.split("dev", n), 0.9)
    differ = round(DISAGREEMENT * n)
    ours = [1.0] * (differ - differ // 2) + [0.0] * (n - differ + differ // 2)
    theirs = [0.0] * (n - differ // 2) + [1.0] * (differ // 2)
    said = compare(ours, theirs, confidence=0.9, margin=0.03).minimum_detectable_gain
    assert (found.n, found.gain) == (n, pytest.approx(said))


def test_groups_show_less() -> None:
    alone = detectable(scripted.split("dev", 120), 0.9).gain
    grouped = detectable(scripted.split("dev", 120, tuple(f"g{n // 6}" for n in range(120))), 0.9).gain
    assert 0 < alone < grouped < 1
