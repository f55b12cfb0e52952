"""Stages: optimizers that take their options, and LMs that can be trained where one trains them.

Invariant: optimizers are made and never run; one that asks an LM or an embedder as soon as it is made is not made.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy

from cascade.building import Workshop, build, supplies_for
from cascade.check import Prepared
from cascade.checks.finding import Finding
from cascade.checks.refusing import refusing
from cascade.errors import CascadeError
from cascade.experiment import Stage
from cascade.options import parameters
from cascade.redaction import told

_ARROW = " -> "


def stages(prepared: Prepared) -> Iterator[Finding]:
    """What would make a stage fail for certain."""
    for stage in prepared.experiment.stages:
        found = [*_strategy(stage), *_untrainable(stage, prepared)]
        yield from found or _options(stage, prepared)


def _options(stage: Stage, prepared: Prepared) -> Iterator[Finding]:
    """Values that the optimizer refuses."""
    experiment, settings = prepared.experiment, prepared.settings
    workshop = Workshop(
        experiment.program, experiment.metric, prepared.data.train, prepared.lms, settings.seed, Path("optimizer.log")
    )
    try:
        with refusing(prepared.lms["task"]):
            build(stage, supplies_for(stage, prepared.program, workshop))
    except CascadeError:
        raise
    except Exception as error:
        given = ", ".join(f"{name} = {value}" for name, value in stage.describe().items() if name != "optimizer")
        yield Finding(
            "error",
            f"Stage {stage.name!r}",
            f"{stage.optimizer.__name__} cannot be made with {given or 'no options'}: {told(error)} "
            "Correct the option.",
        )


def _strategy(stage: Stage) -> Iterator[Finding]:
    """Steps of a strategy that no nested stage stands for."""
    nested = list(stage.nested())
    if not issubclass(stage.optimizer, dspy.BetterTogether) or not nested:
        return
    strategy = str(stage.options.get("strategy", parameters(stage.optimizer)[1]["strategy"].default))
    unknown = [step for step in strategy.split(_ARROW) if step not in nested]
    if unknown:
        yield Finding(
            "error",
            f"Stage {stage.name!r}",
            f"strategy = {strategy!r} names {unknown[0]!r}, which is none of its stages. Found: {', '.join(nested)}. "
            f"Write them with {_ARROW!r} between.",
        )


def _untrainable(stage: Stage, prepared: Prepared) -> Iterator[Finding]:
    """A fine-tuning stage whose LM's provider trains none."""
    trainer = _trainer(stage)
    if not trainer:
        return
    for name, lm in _trained(stage, prepared).items():
        if not getattr(getattr(lm, "provider", None), "finetunable", False):
            yield Finding(
                "error",
                f"Stage {stage.name!r}",
                f"{trainer} fine-tunes the LM {name!r}, but {lm.model!r} cannot be trained. Give one whose provider "
                "trains, such as embedded/smollm2-135m, or leave the stage out.",
            )


def _trainer(stage: Stage) -> str:
    """The optimizer that trains, of the stage or nested in it, or ""."""
    if issubclass(stage.optimizer, dspy.BootstrapFinetune):
        return str(stage.optimizer.__name__)
    if issubclass(stage.optimizer, dspy.BetterTogether) and not stage.nested():
        return "BootstrapFinetune"
    return next(filter(None, map(_trainer, stage.nested().values())), "")


def _trained(stage: Stage, prepared: Prepared) -> dict[str, Any]:
    """LMs that the stage trains, by name; those of the program itself by their predictor."""
    if stage.aim == "cheaper":
        return {"student": prepared.lms["student"]}
    return {
        "task" if predictor.lm is None else name: predictor.lm or prepared.lms["task"]
        for name, predictor in prepared.program.named_predictors()
    }
