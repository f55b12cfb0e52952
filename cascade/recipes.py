"""Stages to begin with. What came of them on the embedded model is in `experiments/LOG.md`; `prompts` is for others.

Invariant: a recipe is a function that returns stages, and a run under it is a run of the experiment like any other.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from cascade.errors import ExperimentError
from cascade.experiment import Experiment, Stage
from cascade.optimizers import BootstrapFinetune, NearestDemos


def classic(labels: int = 80, epochs: int = 4) -> tuple[Stage, ...]:
    """Instructions, demos, both together with weights, weights: `MIPROv2` to `BootstrapFinetune`.

    Args:
        labels: of train that the weights learn beside the program's own good answers; 0 for programs of several
            predictors.
        epochs: over those rows; a last stage goes over half as many labels once.
    """
    # A 135M model writes no better instructions for reading its own source and summaries of its data, only slower ones.
    plain: dict[str, Any] = {
        "program_aware_proposer": False,
        "data_aware_proposer": False,
        "fewshot_aware_proposer": False,
    }
    # It reads 200 tokens a second on a core: every demo that a search tries costs it a quarter of a second an answer.
    few: dict[str, Any] = {"max_bootstrapped_demos": 2, "max_labeled_demos": 4}
    return (
        Stage("instructions", dspy.MIPROv2, auto="light", **few, **plain),
        Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=4, max_labeled_demos=8),
        Stage(
            "together",
            dspy.BetterTogether,
            strategy="w -> p",
            w=_weights("w", labels, epochs),
            p=Stage("p", dspy.BootstrapFewShot, **few),
        ),
        _weights("weights", labels // 2, 1),
    )


def small(labels: int = 120, epochs: int = 4) -> tuple[Stage, ...]:
    """For small models, which copy what they see: the nearest demos, then weights that need none.

    Args:
        labels, epochs: as in `classic`.
    """
    return Stage("nearest", NearestDemos), _weights("weights", labels, epochs)


def distil(labels: int = 120, epochs: int = 4, margin: float = 0.2) -> tuple[Stage, ...]:
    """`small`, and then the LM `student` in place of the task's, trained on what the program so far answers.

    Args:
        labels, epochs: as in `classic`.
        margin: how much lower than the program so far the student's may score, a fraction. `cascade check` says what
            dev can show: 24 groups nothing below 0.17.
    """
    return *small(labels, epochs), _weights("distilled", labels, epochs, aim="cheaper", margin=margin)


def prompts() -> tuple[Stage, ...]:
    """For models that nobody trains, such as most behind an API: instructions, then the nearest demos."""
    return Stage("instructions", dspy.MIPROv2, auto="light"), Stage("nearest", NearestDemos)


RECIPES: Mapping[str, Callable[[], tuple[Stage, ...]]] = {
    "classic": classic,
    "small": small,
    "distil": distil,
    "prompts": prompts,
}


def under(experiment: Experiment, recipe: str) -> Experiment:
    """The experiment with the stages of a recipe instead of its own.

    Raises:
        ExperimentError: there is no such recipe.
    """
    if recipe not in RECIPES:
        raise ExperimentError(f"There is no recipe {recipe!r}. Found: {', '.join(RECIPES)}.")
    return dataclasses.replace(experiment, stages=RECIPES[recipe]())


def _weights(name: str, labels: int, epochs: int, **aim: Any) -> Stage:
    options: dict[str, Any] = {"max_labeled_rows": labels, "exclude_demos": True, "train_kwargs": {"epochs": epochs}}
    return Stage(name, BootstrapFinetune, **aim, **options)
