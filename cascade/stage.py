"""One stage: an optimizer, given what it asks for by name, started from the incumbent.

Invariant: the incumbent is never touched, and what a stage returns has been rebuilt from its saved state, so that
what is judged is what can be loaded again.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from cascade.building import Workshop, build, student_of, supplies_for
from cascade.errors import CascadeError, StageFailed
from cascade.experiment import Stage
from cascade.program import Snapshot, called, predictor_lms, restore, snapshot, thawed
from cascade.redaction import Redacting, redacted, told


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


@dataclass
class Bench:
    """What a running stage leaves behind, also when it is stopped in the middle."""

    on_candidate: Callable[[Candidate], None] = lambda _: None
    candidates: list[Candidate] = field(default_factory=list)

    def take(self, program: Any, score: float, n: int) -> None:
        """Keep a program that was scored on so many examples."""
        candidate = Candidate(len(self.candidates), score, n, snapshot(program).to_json())
        self.candidates.append(candidate)
        self.on_candidate(candidate)


def optimize(stage: Stage, incumbent: Any, workshop: Workshop, bench: Bench | None = None) -> Any:
    """Run the stage's optimizer on a copy of the incumbent and return the program it made.

    Raises:
        StageFailed: the optimizer raised, or its result does not survive saving and loading.
        Stop: budget or Ctrl-C; the candidates so far are in `bench`.
    """
    bench = bench or Bench()
    student = student_of(stage, incumbent, workshop)
    watcher = _Watcher(bench)
    try:
        with _printing_to(workshop.log) as errors, dspy.context(callbacks=[*dspy.settings.callbacks, watcher]):
            optimizer, arguments = build(stage, supplies_for(stage, incumbent, workshop))
            result = optimizer.compile(student, **arguments)
        if isinstance(optimizer, dspy.SIMBA):  # It scores without `dspy.Evaluate`, so nothing was seen on the way.
            for tried in result.candidate_programs:
                bench.take(tried["program"], tried["score"], len(arguments["trainset"]))
        _refuse_half_done(result, errors)
        return _rebuilt(result, incumbent, workshop)
    except CascadeError as error:
        raise StageFailed(f"Stage {stage.name!r}: {error}") from error
    except Exception as error:
        raise StageFailed(f"Stage {stage.name!r}: {told(error)}") from error


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
    before = {name: called(lm) for name, lm in predictor_lms(incumbent).items()}
    task = workshop.lms.model("task")
    known = {**before, **{name: model for name, model in taken.lms.items() if model != task or name in before}}
    return {name: model for name, model in known.items() if name in taken.state}


def _restored(taken: Snapshot, incumbent: Any, workshop: Workshop, lms: Mapping[str, Any] | None = None) -> Any:
    known = {called(lm): lm for lm in (*(lms or {}).values(), *predictor_lms(incumbent).values())}
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
        whole = (inputs.get("callback_metadata") or {}).get("metric_key") == "eval_full"  # what GEPA calls it
        if getattr(vars(program).get("forward"), "__name__", "") == "patched_forward" and not whole:
            return  # DSPy collects traces this way: it bootstraps training rows and tries nothing
        self._open[call_id] = (program, len(inputs.get("devset") or instance.devset))

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        program, n = self._open.pop(call_id, (None, 0))
        if program is None or exception is not None or outputs is None:
            return
        self._bench.take(program, float(getattr(outputs, "score", outputs)) / 100, n)


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
