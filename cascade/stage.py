"""One stage: an optimizer, given what it asks for by name, started from the incumbent.

Invariant: the incumbent is never touched, and what a stage returns has been rebuilt from its saved state, so that
what is judged is what can be loaded again.
"""

import dataclasses
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from cascade.dataset import Split
from cascade.errors import CascadeError, StageFailed
from cascade.experiment import Stage, parameters
from cascade.lm.lms import LMs
from cascade.metrics import Metric, for_optimizer
from cascade.optimizers import BootstrapFinetune
from cascade.program import Snapshot, predictor_lms, restore, snapshot, thawed
from cascade.redaction import Redacting, redacted, told

VALIDATION_SHARE = 0.3
"""Of train, carved out for optimizers that take a validation set."""
_STANDS_IN_FOR: Mapping[type, type] = {dspy.BootstrapFinetune: BootstrapFinetune}
_MANY = 1_000_000
"""Errors an optimizer may meet: a failing example is data, and only the budget ends a stage."""


@dataclass(frozen=True)
class Candidate:
    """A program that an optimizer tried, on its own validation examples.

    Args:
        step: from 0, in the order of trying.
        score: mean of the optimizer's evaluation, 0 to 1.
        n: examples it was scored on.
        state: as in `Snapshot`.
    """

    step: int
    score: float
    n: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Workshop:
    """What stages of one run have in common.

    Args:
        log: file that takes what optimizers print.
    """

    factory: Callable[[], Any]
    metric: Metric
    train: Split
    lms: LMs
    seed: int
    log: Path


@dataclass
class Bench:
    """What a running stage leaves behind, also when it is stopped in the middle."""

    on_candidate: Callable[[Candidate], None] = lambda _: None
    candidates: list[Candidate] = field(default_factory=list)


def optimize(stage: Stage, incumbent: Any, workshop: Workshop, bench: Bench | None = None) -> Any:
    """Run the stage's optimizer on a copy of the incumbent and return the program it made.

    Raises:
        StageFailed: the optimizer raised, or its result does not survive saving and loading.
        Stop: budget or Ctrl-C; the candidates so far are in `bench`.
    """
    bench = bench or Bench()
    student = _student(stage, incumbent, workshop)
    watcher = _Watcher(bench)
    try:
        with _printing_to(workshop.log) as errors, dspy.context(callbacks=[*dspy.settings.callbacks, watcher]):
            optimizer, arguments = build(stage, _supplies(stage, incumbent, workshop))
            result = optimizer.compile(student, **arguments)
        _refuse_half_done(result, errors)
        return _rebuilt(result, incumbent, workshop)
    except CascadeError as error:
        raise StageFailed(f"Stage {stage.name!r}: {error}") from error
    except Exception as error:
        raise StageFailed(f"Stage {stage.name!r}: {told(error)}") from error


def build(stage: Stage, supplies: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A fresh optimizer and the arguments of its `compile`.

    Options of the stage come first; what it does not say is taken from `supplies` by parameter name.
    """
    optimizer = _STANDS_IN_FOR.get(stage.optimizer, stage.optimizer)
    constructor, compile_ = parameters(stage.optimizer)
    nested = {name: build(inner, supplies)[0] for name, inner in stage.nested().items()}
    given = {**stage.options, **nested}
    at_compile = {name for name in given if name in compile_ and name not in constructor}
    made = {name: value for name, value in supplies.items() if name in constructor}
    made |= {name: value for name, value in given.items() if name not in at_compile}
    passed = {name: value for name, value in supplies.items() if name in compile_ and name not in made}
    passed |= {name: given[name] for name in at_compile}
    if nested and "optimizer_compile_args" in compile_ and "optimizer_compile_args" not in given:
        passed["optimizer_compile_args"] = {
            name: _at_nested_compile(inner, supplies) for name, inner in stage.nested().items()
        }
    return optimizer(**made), passed


def _at_nested_compile(inner: Stage, supplies: Mapping[str, Any]) -> dict[str, Any]:
    """What `BetterTogether` does not hand on itself: the nested stage's own options, and the teacher as it is."""
    constructor, compile_ = parameters(inner.optimizer)
    own = {name: value for name, value in inner.options.items() if name in compile_ and name not in constructor}
    teacher = {"teacher": supplies["teacher"]} if "teacher" in supplies and "teacher" in compile_ else {}
    return {**teacher, **own}


def _refuse_half_done(result: Any, errors: list[str]) -> None:
    """`BetterTogether` swallows a step that fails and returns what it has."""
    if getattr(result, "flag_compilation_error_occurred", False):
        raise StageFailed(_reason(errors))


def _reason(errors: list[str]) -> str:
    """The sentence in which `BetterTogether` logs which step failed and why, without colours."""
    failed = [line for line in errors if "failed with error" in line]
    return redacted(re.sub(r"\x1b\[\d+m", "", failed[-1])) if failed else "A nested optimizer failed."


def best_so_far(bench: Bench, incumbent: Any, workshop: Workshop) -> Any:
    """The program of the best candidate, on most examples first; the incumbent where there is none."""
    best = max(bench.candidates, key=lambda candidate: (candidate.n, candidate.score), default=None)
    if best is None:
        return incumbent
    taken = Snapshot(best.state["state"], best.state["lms"])
    return _restored(dataclasses.replace(taken, lms=_lms(taken, incumbent, workshop)), incumbent, workshop)


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


def _supplies(stage: Stage, incumbent: Any, workshop: Workshop) -> dict[str, Any]:
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
    if "valset" in parameters(stage.optimizer)[1] and "valset" not in stage.options:
        supplies["trainset"], supplies["valset"] = carve(workshop.train, workshop.seed)
    if lms.model("teacher") != lms.model("task") or stage.aim == "cheaper":
        teacher = thawed(incumbent)
        if lms.model("teacher") != lms.model("task"):
            teacher.set_lm(lms["teacher"])
        supplies["teacher"] = teacher
    return supplies


def _student(stage: Stage, incumbent: Any, workshop: Workshop) -> Any:
    student = thawed(incumbent)
    if stage.aim == "cheaper":
        student.set_lm(workshop.lms["student"])
    elif stage.lever != "prompt":
        for predictor in student.predictors():
            predictor.lm = predictor.lm or workshop.lms["task"]
    return student


def _rebuilt(result: Any, incumbent: Any, workshop: Workshop) -> Any:
    """The optimizer's result as it would be loaded, with the LMs that it dropped."""
    after, found = predictor_lms(thawed(result)), snapshot(result)
    taken = dataclasses.replace(found, lms=_lms(found, incumbent, workshop))
    program = _restored(taken, incumbent, workshop, after)
    if (again := snapshot(program)).digest != taken.digest:
        lost = next((name for name in taken.state if taken.state[name] != again.state.get(name)), "an LM")
        raise StageFailed(f"The result does not survive saving and loading: {lost!r} comes back changed.")
    return program


def _lms(taken: Snapshot, incumbent: Any, workshop: Workshop) -> dict[str, str]:
    """Model by predictor: what the optimizer dropped comes back, and the task's LM needs no pinning."""
    before = {name: lm.model for name, lm in predictor_lms(incumbent).items()}
    task = workshop.lms.model("task")
    return {**before, **{name: model for name, model in taken.lms.items() if model != task or name in before}}


def _restored(taken: Snapshot, incumbent: Any, workshop: Workshop, lms: Mapping[str, Any] | None = None) -> Any:
    known = {lm.model: lm for lm in (*predictor_lms(incumbent).values(), *(lms or {}).values())}
    return restore(workshop.factory, taken, lambda model: known.get(model) or workshop.lms.by_model(model))


class _Watcher(BaseCallback):  # type: ignore[misc]
    """Takes every program that an optimizer evaluates, as soon as it is scored."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._open: dict[str, tuple[Any, int]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Watcher":
        return self

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        program = inputs.get("program")
        if getattr(vars(program).get("forward"), "__name__", "") == "patched_forward":
            return  # DSPy collects traces this way: it bootstraps training rows and tries nothing
        self._open[call_id] = (program, len(inputs.get("devset") or instance.devset))

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        program, n = self._open.pop(call_id, (None, 0))
        if program is None or exception is not None or outputs is None:
            return
        score = float(getattr(outputs, "score", outputs)) / 100
        candidate = Candidate(len(self._bench.candidates), score, n, snapshot(program).to_json())
        self._bench.candidates.append(candidate)
        self._bench.on_candidate(candidate)


@contextmanager
def _printing_to(log: Path) -> Iterator[list[str]]:
    """Send what optimizers print, draw and log into a file; yields the errors that they logged."""
    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(" ".join(record.getMessage().split()))  # type: ignore[method-assign]
    logger = logging.getLogger("dspy")
    logger.addHandler(handler)
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("a", encoding="utf-8") as file:
            clean: Any = Redacting(file, lossy=True)
            with redirect_stdout(clean), redirect_stderr(clean):
                yield errors
    finally:
        logger.removeHandler(handler)
