"""An optimizer made ready: what it is given by name, and the copies of the incumbent that it may take apart.

Invariant: nothing that an optimizer is given is shared with the incumbent but LMs, not even signatures.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from cascade.dataset import Split
from cascade.experiment import Stage
from cascade.lm.lms import LMs
from cascade.metrics import Metric, for_optimizer
from cascade.optimizers import BootstrapFinetune, Ensemble, InferRules
from cascade.options import parameters
from cascade.program import snapshot, thawed

VALIDATION_SHARE = 0.3
"""Of train, carved out for optimizers that take a validation set."""
_STANDS_IN_FOR: Mapping[type, type] = {
    dspy.BootstrapFinetune: BootstrapFinetune,
    dspy.Ensemble: Ensemble,
    dspy.InferRules: InferRules,
}
_MANY = 1_000_000
"""Errors an optimizer may meet: a failing example is data, and only the budget ends a stage."""


@dataclass(frozen=True)
class Workshop:
    """What stages of one run have in common.

    Args:
        log: file that takes what optimizers print.
        earlier: different programs of earlier stages, best on dev first.
    """

    factory: Callable[[], Any]
    metric: Metric
    train: Split
    lms: LMs
    seed: int
    log: Path
    earlier: Sequence[Any] = ()


def build(stage: Stage, supplies: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A fresh optimizer and the arguments of its `compile`.

    Options of the stage come first; what it does not say is taken from `supplies` by parameter name.
    """
    optimizer = _STANDS_IN_FOR.get(stage.optimizer, stage.optimizer)
    constructor, compile_ = parameters(stage.optimizer)
    # The optimizer around it validates on the same rows: `NearestDemos` must not show them.
    nested = {name: build(inner, {**supplies, "refit": False})[0] for name, inner in stage.nested().items()}
    given = {**stage.options, **nested}
    at_compile = {name for name in given if name in compile_ and name not in constructor}
    made = {name: value for name, value in supplies.items() if name in constructor}
    made |= {name: value for name, value in given.items() if name not in at_compile}
    passed = {name: value for name, value in supplies.items() if name in compile_ and name not in made}
    passed |= {name: given[name] for name in at_compile}
    if _refuses_teacher(stage):
        passed.pop("teacher", None)
    if nested and "optimizer_compile_args" in compile_ and "optimizer_compile_args" not in given:
        passed["optimizer_compile_args"] = {
            name: _at_nested_compile(inner, supplies) for name, inner in stage.nested().items()
        }
    return optimizer(**made), passed


def _at_nested_compile(inner: Stage, supplies: Mapping[str, Any]) -> dict[str, Any]:
    """What `BetterTogether` does not hand on itself: the nested stage's own options, and the teacher as it is."""
    constructor, compile_ = parameters(inner.optimizer)
    own = {name: value for name, value in inner.options.items() if name in compile_ and name not in constructor}
    given = "teacher" in supplies and "teacher" in compile_ and not _refuses_teacher(inner)
    return {**({"teacher": supplies["teacher"]} if given else {}), **own}


def _refuses_teacher(stage: Stage) -> bool:
    """`GEPA` takes the argument and asserts that it is None; `BetterTogether` refuses it where a step is one."""
    return any(issubclass(one.optimizer, dspy.GEPA) for one in (stage, *stage.nested().values()))


def carve(train: Split, seed: int) -> tuple[list[Any], list[Any]]:
    """What an optimizer learns from and what it validates on."""
    learn, validate = parted(train, round(VALIDATION_SHARE * len(train)), seed)
    return learn.examples(), validate.examples()


def parted(split: Split, wanted: int, seed: int) -> tuple[Split, Split]:
    """A split in two, the second with `wanted` rows or a few more, because groups stay together."""
    owners = split.groups or split.ids
    sizes = Counter(owners)
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    chosen: set[str] = set()
    for group in order:
        if wanted <= 0:
            break
        chosen.add(group)
        wanted -= sizes[group]
    return split.where([owner not in chosen for owner in owners]), split.where([owner in chosen for owner in owners])


def supplies_for(stage: Stage, incumbent: Any, workshop: Workshop) -> dict[str, Any]:
    """What an optimizer may be given, by the name of its parameter."""
    lms = workshop.lms
    supplies: dict[str, Any] = {
        "metric": for_optimizer(workshop.metric),
        "prompt_model": lms["prompt"],
        "task_model": lms["task"],
        "reflection_lm": lms["prompt"],
        "num_threads": lms.threads,
        "seed": workshop.seed,
        "max_errors": _MANY,
        "trainset": workshop.train.examples(),
    }
    if embedder := lms.settings.lm.get("embedder"):
        supplies["embedder"] = embedder.model
    wanted = parameters(stage.optimizer)[1]
    if "programs" in wanted:
        supplies["programs"] = [_lent(program) for program in workshop.earlier if _differ(program, incumbent)]
    if "valset" in wanted and "valset" not in stage.options:
        supplies["trainset"], supplies["valset"] = carve(workshop.train, workshop.seed)
    if lms.own_teacher or stage.aim == "cheaper":
        teacher = _lent(incumbent)
        if lms.own_teacher:
            teacher.set_lm(lms["teacher"])
        supplies["teacher"] = _keeping_lms(teacher)
    return supplies


def student_of(stage: Stage, incumbent: Any, workshop: Workshop) -> Any:
    """The copy of the incumbent that the stage's optimizer starts from."""
    student = _lent(incumbent)
    if stage.aim == "cheaper":
        student.set_lm(workshop.lms["student"])
    elif stage.lever != "prompt":
        for predictor in student.predictors():
            predictor.lm = predictor.lm or workshop.lms["task"]
    return _keeping_lms(student)


def _differ(one: Any, other: Any) -> bool:
    return snapshot(one).digest != snapshot(other).digest


def _lent(program: Any) -> Any:
    """A copy with signatures of its own: copies of programs share theirs, and an optimizer may write into them."""
    twin = thawed(program)
    for predictor in twin.predictors():
        shared = predictor.signature
        # A subclass under the same name: proposers look up a signature's source, which `with_instructions` loses.
        same = {"__doc__": shared.instructions, "__module__": shared.__module__, "__qualname__": shared.__qualname__}
        predictor.signature = type(shared)(shared.__name__, (shared,), same)
    return twin


def _keeping_lms(program: Any) -> Any:
    """Let predictors keep their LMs when they are reset.

    DSPy's optimizers reset a copy to have it without demos, and then search and bootstrap under the task's LM, although
    the program has trained weights, or its teacher an LM of its own.
    """
    for predictor in program.predictors():
        if predictor.lm is not None:
            predictor.__class__ = _keeping(type(predictor))
    return program


class _KeepsLM:
    """A predictor whose reset leaves its LM; a class, because copies of methods stay bound to the original."""

    lm: Any

    def reset(self) -> None:
        lm = self.lm
        super().reset()  # type: ignore[misc]
        self.lm = lm


def _keeping(kind: type) -> type:
    return kind if issubclass(kind, _KeepsLM) else type(kind.__name__, (_KeepsLM, kind), {})
