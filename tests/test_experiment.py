"""Definitions: checked when they are made, frozen, and described as text."""

import dataclasses
import math
from typing import Any

import dspy
import pytest
import scripted
from dspy.teleprompt.teleprompt import Teleprompter
from hypothesis import given
from hypothesis import strategies as st

from cascade.dataset import Dataset
from cascade.errors import ExperimentError, MetricError
from cascade.experiment import Budget, Experiment, Plateau, Stage
from cascade.metrics import Metric


class Own(Teleprompter):
    def __init__(self, metric: Any = None, rate: float = 1.0) -> None:
        super().__init__()

    def compile(self, student: Any, *, trainset: Any, rounds: int = 1) -> Any:
        return student


class WithLever(Own):
    lever = "weights"


LEVERS = [
    (dspy.MIPROv2, {}, "prompt"),
    (dspy.BootstrapFewShot, {}, "prompt"),
    (dspy.GEPA, {}, "prompt"),
    (dspy.BetterTogether, {}, "both"),
    (dspy.BootstrapFinetune, {}, "weights"),
    (type("Mine", (dspy.MIPROv2,), {}), {}, "prompt"),
    (Own, {"lever": "both"}, "both"),
    (WithLever, {}, "weights"),
    (dspy.MIPROv2, {"lever": "weights"}, "weights"),
]


@pytest.mark.parametrize(("optimizer", "options", "lever"), LEVERS)
def test_the_lever_is_known_given_or_the_optimizer_s_own(optimizer: type, options: dict[str, Any], lever: str) -> None:
    assert Stage("s", optimizer, **options).lever == lever


WRONG_STAGES = [
    (lambda: Stage("", dspy.MIPROv2), ["name must be text without '/'", "''"]),
    (lambda: Stage("a/b", dspy.MIPROv2), ["'a/b'"]),
    (lambda: Stage(3, dspy.MIPROv2), ["not 3"]),  # type: ignore[arg-type]
    (lambda: Stage("s", dspy.LabeledFewShot()), ["Stage 's'", "is no optimizer class", "such as dspy.MIPROv2"]),  # type: ignore[arg-type]
    (lambda: Stage("s", dict), ["<class 'dict'> is no optimizer class"]),
    (lambda: Stage("s", Own), ["Stage 's': lever = None", "Add lever= one of prompt, both, weights"]),
    (lambda: Stage("s", Own, lever="hope"), ["lever = 'hope'"]),  # type: ignore[arg-type]
    (lambda: Stage("s", dspy.MIPROv2, aim="cheaper", margin=3), ["Stage 's'", "margin = 3", "a fraction from 0"]),
    (lambda: Plateau(max_cost_per_point=0), ["max_cost_per_point = 0", "above 0"]),
    (lambda: Stage("s", dspy.MIPROv2, aim="nicer"), ["aim = 'nicer'", "'better' or 'cheaper'"]),  # type: ignore[arg-type]
    (
        lambda: Stage("s", Own, lever="prompt", speed=1),
        ["Stage 's': Own has no option 'speed'", "Options: rate, rounds."],
    ),
    (
        lambda: Stage("s", dspy.BootstrapFewShot, max_demos=1),
        ["BootstrapFewShot has no option 'max_demos'", "max_bootstrapped_demos"],
    ),
    (lambda: Stage("s", dspy.BetterTogether, stategy="p"), ["BetterTogether has no option 'stategy'", "strategy"]),
]


@pytest.mark.parametrize(("make", "told"), WRONG_STAGES)
def test_a_wrong_stage_is_refused_with_place_and_fix(make: Any, told: list[str]) -> None:
    with pytest.raises(ExperimentError) as caught:
        make()
    assert [part for part in told if part not in str(caught.value)] == []


def test_options_of_constructor_and_compile_are_taken() -> None:
    stage = Stage("s", Own, lever="prompt", rate=2.0, rounds=3, metric=len)
    assert dict(stage.options) == {"rate": 2.0, "rounds": 3, "metric": len}
    assert stage.describe() == {"optimizer": "Own", "rate": "2.0", "rounds": "3", "metric": "len"}


def test_nested_stages_are_described_behind_their_name() -> None:
    assert scripted.FOUR_STAGES[2].describe() == {
        "optimizer": "BetterTogether", "strategy": "p -> w", "p.optimizer": "BootstrapFewShot", "w.optimizer": "BootstrapFinetune",
    }  # fmt: skip
    assert set(scripted.FOUR_STAGES[2].nested()) == {"p", "w"}


def test_definitions_are_frozen() -> None:
    stage, defined = Stage("s", dspy.MIPROv2), scripted.experiment()
    for value, name in (
        (stage, "name"),
        (Plateau(), "patience"),
        (Budget(), "usd"),
        (defined, "target"),
        (defined.dataset, "name"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, 1)
    with pytest.raises(TypeError):
        stage.options["auto"] = "heavy"  # type: ignore[index]


NUMBERS = [
    (Plateau, "patience", [1, 5], [0, -1]),
    (Plateau, "min_gain", [0, 0.5], [-0.01, 1, math.nan]),
    (Plateau, "equivalence_margin", [0.01, 0.9], [0, 1, math.nan]),
    (Plateau, "confidence", [0.5, 0.99], [0.49, 1, 90, math.nan]),
    (Plateau, "on_plateau", ["escalate", "stop"], ["go on", None]),
    (Budget, "lm_calls", [1, 10**9, None], [0, -5]),
    (Budget, "tokens", [1, None], [0]),
    (Budget, "usd", [0.01, None], [0, -1.0, math.nan]),
    (Budget, "minutes", [0.5, None], [0, math.nan]),
]
BAD = [(definition, name, value) for definition, name, _, bad in NUMBERS for value in bad]
GOOD = [(definition, name, value) for definition, name, good, _ in NUMBERS for value in good]


@pytest.mark.parametrize(("definition", "name", "value"), BAD)
def test_a_number_outside_its_range_is_quoted(definition: Any, name: str, value: Any) -> None:
    with pytest.raises(ExperimentError) as caught:
        definition(**{name: value})
    assert f"{definition.__name__}: {name} = {value!r} must be " in str(caught.value)


@pytest.mark.parametrize(("definition", "name", "value"), GOOD)
def test_a_number_inside_its_range_is_taken(definition: Any, name: str, value: Any) -> None:
    assert getattr(definition(**{name: value}), name) == value


@given(st.floats() | st.integers())
def test_any_target_is_taken_or_refused(value: float) -> None:
    try:
        assert scripted.experiment(target=value).target == value
    except ExperimentError as error:
        assert not 0 < value <= 1
        assert f"target = {value!r} must be above 0 and at most 1" in str(error)
    else:
        assert 0 < value <= 1


def test_loose_input_is_taken_in_one_shape() -> None:
    defined = Experiment("qa", lambda example, prediction: True, scripted.Asks, [Stage("s", dspy.MIPROv2)])  # type: ignore[arg-type]
    assert defined.dataset == Dataset("qa")
    assert isinstance(defined.metric, Metric)
    assert isinstance(defined.stages, tuple)


WRONG_EXPERIMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"dataset": 3}, ExperimentError, "dataset = 3. Give a Dataset or the name of one"),
    ({"metric": "exact"}, MetricError, "metric = 'exact' cannot be called"),
    ({"program": 3}, ExperimentError, "program = 3 is no factory. Give a module class"),
    ({"stages": [dspy.MIPROv2]}, ExperimentError, "in stages is no Stage"),
    ({"stages": [Stage("a", dspy.MIPROv2), Stage("a", dspy.MIPROv2)]}, ExperimentError, "stage name 'a' is used twice"),
    ({"stages": [Stage("baseline", dspy.MIPROv2)]}, ExperimentError, "stage name 'baseline' is used twice"),
]


@pytest.mark.parametrize(("changes", "error", "told"), WRONG_EXPERIMENTS)
def test_a_wrong_experiment_is_refused(changes: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught:
        Experiment(**{"dataset": "qa", "metric": len, "program": scripted.Asks, **changes})
    assert told in str(caught.value)


def test_a_budget_describes_the_caps_that_are_set() -> None:
    assert Budget(lm_calls=5, usd=1.5).describe() == {"lm_calls": "5", "usd": "1.5"}
    assert Budget().describe() == {}


def test_options_are_described_without_addresses() -> None:
    class Mine:
        """Has no text of its own."""

    stage = Stage("s", dspy.MIPROv2, prompt_model=dspy.LM("openai/gpt-5"), task_model=Mine(), metric=len)
    described = stage.describe()
    assert described["prompt_model"] == "openai/gpt-5"
    assert described["metric"] == "len"
    assert described["task_model"].endswith("Mine object>")
