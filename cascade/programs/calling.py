"""How steps are called: here, in threads or awaited, each under its name.

Invariant: whoever calls a step gets a `Visit` back, whatever the step did. Raised are orders to stop and errors of
cascade itself (a definition, the ledger, weights), because an answer in spite of them would be none. Steps that run at
once see the caller's context, and write into traces of their own, which the caller puts in the order of the steps: what
an optimizer learns from does not depend on who was first.
"""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy

from cascade.errors import CascadeError, StepFailed
from cascade.programs.awaiting import awaited, started
from cascade.redaction import told

PLACE = "cascade_place"
WATCHERS = "cascade_watchers"
"""Keys of `dspy.context`, which DSPy carries into its own threads too."""
IN_STEP = "In step "


@dataclass(frozen=True)
class Call:
    """A wish of a flow: this step with these fields.

    Args:
        name: of the step, by which errors, profiles and traces know it.
        module: any `dspy.Module`.
        timeout: seconds after which it counts as failed. What runs in a thread cannot be ended: it may finish the
            module that it is in, and starts no further step.
    """

    name: str
    module: Any
    fields: Mapping[str, Any]
    timeout: float | None = None


@dataclass(frozen=True)
class Failed:
    """A step that failed, as data.

    Args:
        step: its path, as in `research.retrieve`.
    """

    step: str
    error: Exception

    @property
    def reason(self) -> str:
        """Kind and message, in one line, without keys."""
        return told(self.error).removesuffix(": ")


@dataclass
class Visit:
    """One call of a step, as watchers see it: `outcome` is set when they are left, unless it was stopped.

    Args:
        path: names from the outermost flow to the step.
        trace: what its predictors said, as `dspy.settings.trace` has it; None where nobody asked for a trace.
    """

    call: Call
    path: tuple[str, ...]
    trace: list[Any] | None
    outcome: "dspy.Prediction | Failed | None" = None

    @property
    def step(self) -> str:
        """The path as one word."""
        return ".".join(self.path)


Watcher = Callable[[Visit], AbstractContextManager[Any]]
"""Entered in the step's own thread and context before it runs, and left when its outcome is known."""


@dataclass(frozen=True)
class Place:
    """Where in the program a call is made, and who may have given it up."""

    path: tuple[str, ...] = ()
    given_up: tuple[threading.Event, ...] = field(default=(), repr=False)


class Abandoned(BaseException):
    """Nobody waits for this step any more; no `except Exception` of a recovery may keep it going."""


@contextmanager
def watching(watcher: Watcher) -> Generator[None, None, None]:
    """Let `watcher` see every call of a step inside, in all threads."""
    with dspy.context(**{WATCHERS: (*dspy.settings.get(WATCHERS, ()), watcher)}):
        yield


def step_of(error: BaseException) -> str:
    """The path of the step in which an error was raised; "" if in none."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(IN_STEP)]
    return notes[0].removeprefix(IN_STEP).strip("'.") if notes else ""


def call_all(calls: Sequence[Call]) -> list[Visit]:
    """Call steps at once, in the order given; one without a time-out stays in this thread."""
    if len(calls) == 1 and calls[0].timeout is None:
        return [_attempt(calls[0])]
    branches = [_Branch(call) for call in calls]
    try:
        for branch in branches:
            branch.start()
        return _collected(branches)
    except BaseException:
        for branch in branches:
            branch.given_up.set()
        raise


async def acall_all(calls: Sequence[Call]) -> list[Visit]:
    """The same, awaited."""
    if len(calls) == 1 and calls[0].timeout is None:
        return [await _aattempt(calls[0])]
    given_up = threading.Event()
    tasks = [asyncio.ensure_future(_awithin(call, given_up)) for call in calls]
    try:
        _, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if others:
            given_up.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks]
    except BaseException:
        given_up.set()
        for task in tasks:
            task.cancel()
        raise


def _attempt(call: Call) -> Visit:
    with _visiting(call) as visit:
        visit.outcome = prediction_of(call.module(**call.fields), visit.step)
    return visit


async def _aattempt(call: Call) -> Visit:
    with _visiting(call) as visit:
        visit.outcome = prediction_of(await awaited(call.module, call.fields), visit.step)
    return visit


@contextmanager
def _visiting(call: Call) -> Generator[Visit, None, None]:
    """A step's own place and trace; its error becomes its outcome."""
    place = dspy.settings.get(PLACE, Place())
    if any(event.is_set() for event in place.given_up):
        raise Abandoned(call.name)
    trace = None if dspy.settings.trace is None else StepTrace()
    visit = Visit(call, (*place.path, call.name), trace)
    with dspy.context(trace=trace, **{PLACE: Place(visit.path, place.given_up)}), ExitStack() as watched:
        for watcher in dspy.settings.get(WATCHERS, ()):
            watched.enter_context(watcher(visit))
        try:
            yield visit
        except Exception as error:
            if not step_of(error):
                error.add_note(f"{IN_STEP}{visit.step!r}.")
            if isinstance(error, CascadeError) and not isinstance(error, StepFailed):
                raise
            visit.outcome = Failed(step_of(error), error)


@contextmanager
def _may_be_given_up(*events: threading.Event) -> Generator[None, None, None]:
    place = dspy.settings.get(PLACE, Place())
    with dspy.context(**{PLACE: Place(place.path, (*place.given_up, *events))}):
        yield


class _Branch:
    """One step in a thread of its own."""

    future: "Future[Visit]"

    def __init__(self, call: Call) -> None:
        self.call, self.given_up = call, threading.Event()
        self.ends = float("inf") if call.timeout is None else time.monotonic() + call.timeout

    def start(self) -> None:
        self.future = started(self._work, self.call.name)

    def _work(self) -> Visit:
        with _may_be_given_up(self.given_up):
            return _attempt(self.call)


def _collected(branches: Sequence[_Branch]) -> list[Visit]:
    """Each branch's visit, or its time-out; an order to stop is raised when what is in flight has ended."""
    visits: dict[Future[Visit], Visit] = {}
    waiting = {branch.future: branch for branch in branches}
    while waiting:
        rest = min(branch.ends for branch in waiting.values()) - time.monotonic()
        most = None if rest == float("inf") else max(0.0, rest)
        done, _ = wait(waiting, most, FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            for branch in branches:
                branch.given_up.set()
            wait(waiting, most)
        for future in done:
            visits[future] = future.result()
            del waiting[future]
        for future, branch in list(waiting.items()):
            if branch.ends <= time.monotonic():
                branch.given_up.set()
                visits[future] = _late(branch.call)
                del waiting[future]
    return [visits[branch.future] for branch in branches]


async def _awithin(call: Call, all_given_up: threading.Event) -> Visit:
    late = threading.Event()
    try:
        with _may_be_given_up(all_given_up, late):
            return await asyncio.wait_for(_aattempt(call), call.timeout)
    except BaseException as error:
        late.set()
        if isinstance(error, TimeoutError):  # not the step's own: that is an outcome
            return _late(call)
        raise


def _late(call: Call) -> Visit:
    visit = Visit(call, (*dspy.settings.get(PLACE, Place()).path, call.name), None)
    error = TimeoutError(f"Step {visit.step!r} took over {call.timeout:g} s.")
    error.add_note(f"{IN_STEP}{visit.step!r}.")
    visit.outcome = Failed(visit.step, error)
    return visit


class StepTrace(list[Any]):
    """What the predictors of a step said.

    Args:
        onward: the trace that took it in when the flow ended; what is said later (by a `Lazy` step) goes there.
    """

    onward: "list[Any] | None" = None


def extend(trace: list[Any], said: Iterable[Any]) -> None:
    """Add to a trace, or to where it has gone; the oldest entries make way as in DSPy."""
    while isinstance(trace, StepTrace) and trace.onward is not None:
        trace = trace.onward
    if (most := dspy.settings.max_trace_size) > 0:
        trace.extend(said)
        del trace[:-most]


def prediction_of(value: Any, step: str) -> Any:
    """What a step returned as a `dspy.Prediction`; raises `StepFailed` if it has no named fields."""
    if isinstance(value, dspy.Prediction):
        return value
    if isinstance(value, dspy.Example | Mapping):
        return dspy.Prediction(**dict(value))
    if inspect.isawaitable(value):
        raise StepFailed(f"Step {step!r} can only be awaited. Call the program with acall(…).")
    raise StepFailed(
        f"Step {step!r} returned {type(value).__name__}, which has no named fields. Return a dict or a "
        "dspy.Prediction, or say what it is called: Step(function, gives=('name',))."
    )
