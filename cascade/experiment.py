"""What a user writes down: stages, plateau, budget, and the experiment that holds them.

Invariant: definitions are frozen values, checked when they are made, and cannot run themselves.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from cascade.dataset import Dataset
from cascade.errors import ExperimentError
from cascade.metrics import Metric, as_metric
from cascade.options import check_options

Lever = Literal["prompt", "both", "weights"]
Aim = Literal["better", "cheaper"]
LEVERS: tuple[Lever, ...] = ("prompt", "both", "weights")
"""What a stage changes, from cheap to costly."""
NO_LEVER = "none"
"""Of the stage that searches nothing: it brings a program that exists."""

_LEVER_OF: Mapping[str, Lever] = {
    **dict.fromkeys(
        ("MIPROv2", "BootstrapFewShot", "BootstrapFewShotWithRandomSearch", "GEPA", "SIMBA", "COPRO", "InferRules",
         "LabeledFewShot", "BootstrapFewShotWithOptuna"), "prompt"),
    **dict.fromkeys(("BetterTogether", "Ensemble"), "both"),
    "BootstrapFinetune": "weights",
}  # fmt: skip
_REFUSED: Mapping[str, str] = {
    "KNNFewShot": "its program keeps its index in a closure and is lost when it is saved. Use "
    "cascade.optimizers.NearestDemos, with k= and embedder=",
}


@dataclass(frozen=True, init=False)
class Stage:
    """One optimizer and its options: one stage of the cascade.

    An option that is itself a `Stage` is a nested optimizer. Options are checked against the optimizer's
    constructor and `compile`, so that a misspelt one costs nothing.

    Args:
        name: shown everywhere; unique in an experiment.
        optimizer: a class with `compile(student, …)`.
        lever: what it changes; known for DSPy's optimizers.
        aim: `better`, or `cheaper` for one that need not score higher, only cost less to serve, with the LM `student`.
        margin: with `cheaper`, how much lower than the incumbent it may score, a fraction.
        options: of the optimizer's constructor and `compile`.

    Raises:
        ExperimentError: no optimizer, an unknown option, or no lever where none is known.
    """

    name: str
    optimizer: type
    lever: Lever
    aim: Aim
    margin: float
    options: Mapping[str, Any]

    def __init__(
        self,
        name: str,
        optimizer: type,
        *,
        lever: Lever | None = None,
        aim: Aim = "better",
        margin: float = 0.03,
        **options: Any,
    ) -> None:
        if not isinstance(name, str) or not name.strip() or "/" in name:
            raise ExperimentError(f"A stage's name must be text without '/', not {name!r}.")
        if not isinstance(optimizer, type) or not callable(getattr(optimizer, "compile", None)):
            raise ExperimentError(
                f"Stage {name!r}: {optimizer!r} is no optimizer class. Give the class, such as dspy.MIPROv2, "
                "and its options by name."
            )
        for base in optimizer.__mro__:
            if base.__name__ in _REFUSED:
                raise ExperimentError(f"Stage {name!r}: {base.__name__} is no stage: {_REFUSED[base.__name__]}.")
        known = next((_LEVER_OF[base.__name__] for base in optimizer.__mro__ if base.__name__ in _LEVER_OF), None)
        lever = lever or getattr(optimizer, "lever", None) or known
        if lever not in LEVERS and getattr(optimizer, "lever", "") != NO_LEVER:
            raise ExperimentError(f"Stage {name!r}: lever = {lever!r}. Add lever= one of {', '.join(LEVERS)}.")
        if aim not in ("better", "cheaper"):
            raise ExperimentError(f"Stage {name!r}: aim = {aim!r}. Use 'better' or 'cheaper'.")
        _require(0 <= margin < 1, f"Stage {name!r}", "margin", margin, "a fraction from 0 to below 1")
        check_options(name, optimizer, options)
        frozen = MappingProxyType(dict(options))
        values = dict(name=name, optimizer=optimizer, lever=lever, aim=aim, margin=margin, options=frozen)
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def nested(self) -> Mapping[str, "Stage"]:
        """The options that are optimizers themselves."""
        return {name: option for name, option in self.options.items() if isinstance(option, Stage)}

    def describe(self) -> dict[str, str]:
        """Optimizer and options as flat text, nested ones behind their name: what is logged as params.

        >>> import dspy
        >>> Stage("demos", dspy.BootstrapFewShot, max_rounds=2).describe()
        {'optimizer': 'BootstrapFewShot', 'max_rounds': '2'}
        """
        flat = {"optimizer": self.optimizer.__name__}
        for name, option in self.options.items():
            if isinstance(option, Stage):
                flat |= {f"{name}.{key}": value for key, value in option.describe().items()}
            else:
                flat[name] = _told(option)
        return flat


@dataclass(frozen=True)
class Plateau:
    """When more of the same is no longer worth it.

    Args:
        patience: consecutive stages of one lever without `better` that make a plateau.
        min_gain: least rise of the dev mean for which a new program is kept, as a fraction.
        equivalence_margin: differences inside ± this are called `equivalent`.
        confidence: of all verdicts of a cascade together, corrected for their number, and of the look at test. At 0.90,
            at most 5 cascades in 100 falsely call something `better`, and 5 looks in 100 falsely prove something.
        on_plateau: `escalate` to the next lever, or `stop`.
        max_cost_per_point: at a plateau, stop when dollars since the anchor divided by the most points that
            could have been gained exceed this.
    """

    patience: int = 2
    min_gain: float = 0.01
    equivalence_margin: float = 0.03
    confidence: float = 0.90
    on_plateau: Literal["escalate", "stop"] = "escalate"
    max_cost_per_point: float | None = None

    def __post_init__(self) -> None:
        _require(self.patience >= 1, "Plateau", "patience", self.patience, "at least 1")
        _require(0 <= self.min_gain < 1, "Plateau", "min_gain", self.min_gain, "from 0 to below 1")
        margin = self.equivalence_margin
        _require(0 < margin < 1, "Plateau", "equivalence_margin", margin, "between 0 and 1")
        _require(0.5 <= self.confidence < 1, "Plateau", "confidence", self.confidence, "from 0.5 to below 1")
        known = self.on_plateau in ("escalate", "stop")
        _require(known, "Plateau", "on_plateau", self.on_plateau, "'escalate' or 'stop'")
        limit = self.max_cost_per_point
        _require(limit is None or limit > 0, "Plateau", "max_cost_per_point", limit, "above 0")


@dataclass(frozen=True)
class Budget:
    """Hard caps over all stages and roles of a run; None is no cap.

    Args:
        lm_calls: answered by a model; what the ledger answers is free.
        tokens: in and out.
        usd: dollars; refused where a model's price is not known.
        minutes: of wall clock.
    """

    lm_calls: int | None = None
    tokens: int | None = None
    usd: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name, cap in vars(self).items():
            _require(cap is None or cap > 0, "Budget", name, cap, "above 0")

    def describe(self) -> dict[str, str]:
        """The caps that are set."""
        return {name: str(cap) for name, cap in vars(self).items() if cap is not None}


@dataclass(frozen=True)
class Headroom:
    """Ask before paying for a search whether any prompt could gain something: `cascade.headroom` says how.

    Args:
        examples: of train that are answered.
        variants: cheap prompts that answer them beside the program's own, each with other demos.
    """

    examples: int = 40
    variants: int = 4

    def __post_init__(self) -> None:
        _require(self.examples >= 20, "Headroom", "examples", self.examples, "at least 20")
        _require(self.variants >= 1, "Headroom", "variants", self.variants, "at least 1")


@dataclass(frozen=True)
class Experiment:
    """A question put to data: dataset, metric, program, and the stages that may improve it.

    Args:
        dataset: a `Dataset`; the name of one is accepted.
        metric: what `@metric` made of a function of an example and a prediction; the bare function is accepted.
        program: a factory: a module class, or a function without arguments that returns a module.
        stages: in order, cheap before costly.
        target: dev mean at which there is nothing left to want.
        repeats: answers asked of each dev and test example, whose scores are averaged: for models that draw.
        headroom: look for something to gain before the first stage; None spends nothing on it.
        start: a program that exists, to begin from: a file, a run's id or `models:/NAME@ALIAS`; see `cascade.run`.
        guardrails: how much worse a figure of a program may get when it is promoted: `cost` and `latency` as a share of
            the champion's, any part of the score as a difference of means. Looked at by the gate only.
        name, hypothesis, path: filled in by `discover` from the file's name, docstring and place.
    """

    dataset: Dataset
    metric: Metric
    program: Callable[[], Any]
    stages: Sequence[Stage] = ()
    plateau: Plateau = field(default_factory=Plateau)
    budget: Budget = field(default_factory=Budget)
    target: float | None = None
    repeats: int = 1
    headroom: Headroom | None = None
    start: str | Path | None = None
    guardrails: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    hypothesis: str = ""
    path: Path | None = None

    def __post_init__(self) -> None:
        dataset = Dataset(self.dataset) if isinstance(self.dataset, str) else self.dataset
        object.__setattr__(self, "dataset", dataset)
        object.__setattr__(self, "metric", as_metric(self.metric))
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "guardrails", MappingProxyType(dict(self.guardrails)))
        self._check()

    @property
    def claims(self) -> int:
        """What a run may say of its programs on dev: a verdict a stage, and of a `cheaper` one that it lost little."""
        return len(self.stages) + sum(stage.aim == "cheaper" for stage in self.stages)

    def _check(self) -> None:
        if not isinstance(self.dataset, Dataset):
            raise ExperimentError(f"Experiment: dataset = {self.dataset!r}. Give a Dataset or the name of one.")
        if not callable(self.program):
            raise ExperimentError(
                f"Experiment: program = {self.program!r} is no factory. "
                "Give a module class or a function without arguments."
            )
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise ExperimentError(f"Experiment: {stage!r} in stages is no Stage.")
        names = ["baseline", *(["start"] if self.start else []), *(stage.name for stage in self.stages)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ExperimentError(f"Experiment: stage name {twice[0]!r} is used twice. Make names unique.")
        for name, margin in self.guardrails.items():
            number = isinstance(margin, int | float) and margin >= 0
            _require(number, "Experiment", f"guardrails[{name!r}]", margin, "a number from 0")
        reachable = self.target is None or 0 < self.target <= 1
        _require(reachable, "Experiment", "target", self.target, "above 0 and at most 1")
        whole = isinstance(self.repeats, int) and self.repeats >= 1
        _require(whole, "Experiment", "repeats", self.repeats, "a whole number of at least 1")


def _told(option: Any) -> str:
    """An option as a text that is the same in the next process: an LM's model, a function's name, no address."""
    if isinstance(model := getattr(option, "model", None), str):
        return model
    return getattr(option, "__name__", None) or re.sub(r" at 0x[0-9a-f]+", "", str(option))


def _require(holds: bool, where: str, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise ExperimentError(f"{where}: {name} = {value!r} must be {wanted}.")
