"""A program of steps, written once for callers that wait and callers that await.

Invariant: an architecture is a generator. It yields what is to be called and is sent what came of it, so it never knows
whether it is run or awaited, and there is one text of every algorithm.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import dspy

from cascade.errors import ProgramError, StepFailed
from cascade.programs.calling import Call, Failed, Visit, acall_all, call_all, prediction_of
from cascade.programs.ports import Ports, takes_of


@dataclass(frozen=True)
class Together:
    """A wish of a flow: these steps at once. It is sent a tuple in their order, failed ones as `Failed`."""

    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Discard:
    """A flow's word that these outcomes did not count: no optimizer learns from how they were made."""

    outcomes: tuple[Any, ...]


Request = Call | Together | Discard
Steps = Generator[Request, Any, Any]
"""What `Flow.steps` is: yields requests, returns fields (a `dspy.Prediction` or a mapping)."""


WRITTEN = frozenset({
    "lm", "history", "callbacks", "score", "total_calls", "prompt_model_total_calls", "trial_logs", "detailed_results",
    "candidate_programs", "mb_candidate_programs", "results_best", "results_latest", "simba_idx",
    "flag_compilation_error_occurred",
})  # fmt: skip
"""Attributes that DSPy and its optimizers put into programs; a step in one of them would be gone afterwards."""


class Flow(dspy.Module):  # type: ignore[misc]
    """The base of everything in `cascade.programs`: write `steps`, and get `__call__`, `acall` and the rest of DSPy.

    >>> class Twice(Flow):
    ...     def __init__(self, step):
    ...         super().__init__()
    ...         self.step = step
    ...     def steps(self, **fields):
    ...         first = yield Call("first", self.step, fields)
    ...         return (yield Call("second", self.step, {**fields, **first}))

    A step that fails alone raises its error at the `yield`, where it can be caught; in a group it is sent as `Failed`.
    Keep modules in attributes, or in a list or dict that is one: DSPy finds them nowhere else.
    """

    shape = "series"
    """How it is drawn: its steps one after the other; of `choice` the first one decides which of the others runs; of
    `branches` all run at once, then `merge`; a `loop` goes back to its first."""

    def steps(self, **fields: Any) -> Steps:
        """The logic; a generator."""
        raise NotImplementedError(f"{type(self).__name__} has no steps().")

    def named_steps(self) -> dict[str, Any]:
        """The modules that `steps` calls, by the names that it calls them."""
        return {name: part for name, part in vars(self).items() if isinstance(part, dspy.Module)}

    @property
    def takes(self) -> Ports | None:
        """Input fields; None where they are not known."""
        return None

    @property
    def gives(self) -> Ports | None:
        """Output fields; None where they are not known."""
        return None

    def forward(self, **fields: Any) -> Any:
        """Run it."""
        with _Walk(self, fields) as walk:
            while walk.wanted:
                walk.go_on(call_all(walk.wanted))
        return walk.result

    async def aforward(self, **fields: Any) -> Any:
        """Run it and let others run meanwhile."""
        with _Walk(self, fields) as walk:
            while walk.wanted:
                walk.go_on(await acall_all(walk.wanted))
        return walk.result


class _Walk:
    """One run through a flow's steps.

    What the predictors of a step said is put into the caller's trace at the end: of all steps that succeeded and were
    not discarded, or of all if the flow fails, because then the trace is read to see why.
    """

    def __init__(self, flow: Flow, fields: Mapping[str, Any]) -> None:
        self.flow = flow
        self.wanted: tuple[Call, ...] = ()
        self.result: Any = None
        self._alone = True
        self._visits: list[Visit] = []
        self._steps = flow.steps(**fields)

    def __enter__(self) -> "_Walk":
        self._until_a_call(self._steps.send, None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._steps.close()
        trace, most = dspy.settings.trace, dspy.settings.max_trace_size
        if trace is not None and most > 0:
            said = [visit for visit in self._visits if error or not isinstance(visit.outcome, Failed)]
            trace.extend(entry for visit in said for entry in visit.trace or ())
            del trace[:-most]

    def go_on(self, visits: Sequence[Visit]) -> None:
        """Hand over what came of the calls, and find what is wanted next."""
        self._visits += visits
        outcomes = tuple(visit.outcome for visit in visits)
        if not self._alone:
            self._until_a_call(self._steps.send, outcomes)
        elif isinstance(outcomes[0], Failed):
            self._until_a_call(self._steps.throw, outcomes[0].error)
        else:
            self._until_a_call(self._steps.send, outcomes[0])

    def _until_a_call(self, move: Any, value: Any) -> None:
        self.wanted = ()
        try:
            while not self.wanted:
                request = move(value)
                move, value = self._steps.send, None
                if isinstance(request, Discard):
                    gone = {id(outcome) for outcome in request.outcomes}
                    self._visits = [visit for visit in self._visits if id(visit.outcome) not in gone]
                    continue
                self._alone = isinstance(request, Call)
                self.wanted = (request,) if isinstance(request, Call) else request.calls
                value = None if self._alone else ()  # a group of none is answered at once
        except StopIteration as end:
            self.result = prediction_of(end.value, type(self.flow).__name__)


def call(name: str, module: Any, state: Mapping[str, Any], timeout: float | None = None) -> Call:
    """A call with what the module takes of the fields that are there; with all, where it does not say.

    Raises `StepFailed` if a field is not there that it needs.
    """
    takes = takes_of(module)
    if takes is None:
        return Call(name, module, dict(state), timeout)
    missing = [field for field, port in takes.items() if port.sure and field not in state]
    if missing:
        raise StepFailed(
            f"Step {name!r} needs {told(missing)}, which is not there. There is: {told(state)}. "
            "Give it to the program, or let a step before give it."
        )
    return Call(name, module, {field: state[field] for field in takes if field in state}, timeout)


def told(names: Iterable[str]) -> str:
    """Names as a message has them."""
    return ", ".join(map(repr, names)) or "nothing"


def free_name(name: str, owner: Any, what: str = "Step") -> str:
    """The name of a step, if it can be one; raises `ProgramError`."""
    if name in WRITTEN or hasattr(owner, name) or name.startswith("_") or not name.isidentifier():
        raise ProgramError(
            f"{what} {name!r} of {owner.__name__} has a name that DSPy or its optimizers write to in every program, or "
            "that is no name in Python. Choose another."
        )
    return name


def added(given: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """Fields so far and those of the next step, which count and come last; what failed adds up."""
    failed = {**given.get("failed", {}), **said.get("failed", {})} if "failed" in given and "failed" in said else None
    merged = {**{name: value for name, value in given.items() if name not in said}, **said}
    return merged if failed is None else {**merged, "failed": failed}


def keys(names: Iterable[str], what: str) -> None:
    """Raise `ProgramError` if one cannot be a key under which DSPy finds a module."""
    for name in names:
        if not isinstance(name, str) or not name or set(name) & set("'\\\n"):
            raise ProgramError(f"{what} {name!r} has a name that is empty or holds a quote. Choose another.")


def value_of(said: Any, field: str, step: str) -> Any:
    """A field of what a step said; the last one if no field is named."""
    name = field or (list(said.keys()) or [""])[-1]
    if name not in said:
        raise StepFailed(f"Step {step!r} gave no {name!r}. It gave: {told(said.keys())}.")
    return said[name]


__all__ = [
    "Call", "Discard", "Failed", "Flow", "Request", "Steps", "Together", "added", "call", "free_name", "keys", "told",
    "value_of",
]  # fmt: skip
