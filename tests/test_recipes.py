"""Recipes: stages that were measured together, and experiments under them."""

from pathlib import Path
from typing import Any

import pytest
import scripted

from cascade.discover import discover
from cascade.errors import ExperimentError
from cascade.recipes import RECIPES, classic, distil, small, under
from cascade.testing import ScriptedEngine

ROOT = Path(__file__).parents[1]


def told(stages: Any) -> list[tuple[str, str, str]]:
    return [(stage.name, stage.describe()["optimizer"], stage.lever) for stage in stages]


def test_qa_runs_what_measured_best_and_the_classic_four_are_one_flag_away() -> None:
    wanted = [("instructions", "MIPROv2", "prompt"), ("demos", "BootstrapFewShot", "prompt"),
              ("together", "BetterTogether", "both"), ("weights", "BootstrapFinetune", "weights")]  # fmt: skip
    assert told(classic()) == wanted
    experiment = discover("qa", ROOT)
    assert [stage.describe() for stage in experiment.stages] == [stage.describe() for stage in small()]
    assert told(under(experiment, "classic").stages) == wanted


def test_labels_and_epochs_are_what_the_weights_learn() -> None:
    together, weights = (stage.describe() for stage in classic(labels=10, epochs=2)[2:])
    assert (together["w.max_labeled_rows"], together["w.train_kwargs"]) == ("10", "{'epochs': 2}")
    assert (weights["max_labeled_rows"], weights["train_kwargs"]) == ("5", "{'epochs': 1}")
    assert small(labels=7)[1].describe()["max_labeled_rows"] == "7"


def test_the_last_stage_of_distil_aims_at_cheaper() -> None:
    *before, distilled = distil(labels=7, margin=0.1)
    assert [stage.describe() for stage in before] == [stage.describe() for stage in small(labels=7)]
    assert (distilled.aim, distilled.margin, distilled.describe()) == ("cheaper", 0.1, before[-1].describe())
    assert {stage.aim for stage in before} == {"better"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_experiment_runs_under_any_recipe(recipe: str, tmp_path: Path) -> None:
    defined = under(scripted.experiment(plateau=scripted.PATIENT), recipe)
    assert told(defined.stages) == told(RECIPES[recipe]())
    result = scripted.run(defined, tmp_path, ScriptedEngine(scripted.answer), progress=scripted.Untroubled())
    assert [stage.status for stage in result.stages] == ["done"] * (1 + len(defined.stages))


def test_a_recipe_that_is_not_there_is_named() -> None:
    with pytest.raises(
        ExperimentError, match=r"^There is no recipe 'large'\. Found: classic, small, distil, prompts\.$"
    ):
        under(scripted.experiment(), "large")
