"""What becomes of a step's errors, by their type.

Invariant: an error is handled by the entry of its most specific class; what no entry names is raised as it was. Orders
to stop and errors of cascade itself are never handled: no flow is told of them (`calling`).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import LMError

from cascade.errors import CascadeError, ProgramError, StepFailed
from cascade.programs.calling import PLACE, Call, Failed, Place
from cascade.programs.flow import Flow, Steps
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.rollouts import drawn
from cascade.programs.step import as_step
from cascade.programs.wrapper import ERROR_LOG, reserve

_LONGEST = 200


@dataclass(frozen=True)
class Retry:
    """Ask again.

    An error of the connection (`dspy.utils.exceptions.LMError`) is asked again as it was; after any other the model is
    asked for another answer: with a rollout id of its own, so that no cache gives the old one.

    Args:
        times: at most so many attempts more.
        wait: seconds before the second attempt.
        factor: by which the wait grows from one attempt to the next; never over a minute.
        temperature: at which it is asked for another answer: at 0 it would say the same again.
    """

    times: int = 1
    wait: float = 0.0
    factor: float = 2.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.times < 1 or self.wait < 0:
            raise ProgramError(f"{self!r} never asks again. Give times above 0 and a wait of 0 s or more.")

    def seconds(self, attempt: int) -> float:
        """To wait before the attempt of this number, counted from 1 after the first failure."""
        return min(60.0, self.wait * self.factor ** (attempt - 1))


class Guarded(Flow):
    """A module whose errors are retried, answered by something else, or skipped.

    >>> from cascade.programs import Step
    >>> def broken(text):
    ...     raise TimeoutError("no answer")
    >>> step = Guarded(Step(broken), retry={ValueError: 2}, fallback={TimeoutError: {"answer": "unknown"}})
    >>> said = step(text="hi")
    >>> said.answer, said.error_log
    ('unknown', [{'step': 'module', 'error': 'TimeoutError: no answer', 'action': 'fallback'}])

    Args:
        module: whose errors are handled.
        retry: how often by type (a number or a `Retry`); a number or a `Retry` alone is for every `Exception`.
        fallback: what answers instead, by type: a module or function that is given the same fields, or the fields of
            the answer; one alone is for every `Exception`. Its own errors are raised.
        skip: types after which the step gives nothing: None in each of its fields. True for every `Exception`.
    """

    def __init__(self, module: Any, *, retry: Any = None, fallback: Any = None, skip: Any = None) -> None:
        super().__init__()
        self.module = as_step(module)
        reserve(ERROR_LOG, self.module, "The guarded step")
        self.retries = {kind: one if isinstance(one, Retry) else Retry(one) for kind, one in _table(retry).items()}
        given = _table(fallback)
        self.fallbacks = {kind.__name__: _answering(one) for kind, one in given.items()}
        self.answered = tuple(given)
        self.skipped = _kinds(skip)
        _check(self.retries, self.answered, self.skipped)

    def named_steps(self) -> dict[str, Any]:
        """The module and what answers instead of it."""
        return {"module": self.module, **{f"fallback_{kind}": part for kind, part in self.fallbacks.items()}}

    @property
    def takes(self) -> Ports | None:
        """The module's, and the log so far, to which it adds."""
        inside = takes_of(self.module)
        return None if inside is None else {**inside, ERROR_LOG: Port(list, sure=False)}

    @property
    def gives(self) -> Ports | None:
        """The module's, which are None where it is skipped, and the log."""
        inside = gives_of(self.module)
        return None if inside is None else {**inside, ERROR_LOG: Port(list)}

    def steps(self, **fields: Any) -> Steps:
        """Ask until there is an answer, or an error that nobody handles."""
        log = list(fields.pop(ERROR_LOG, None) or ())
        asked: dict[type, int] = {}
        call = ask = Call("module", self.module, fields)
        while True:
            try:
                said = yield call
            except Exception as error:
                kind, action = self._action(error, asked)
                log.append(_told(error, action))
                another = not isinstance(error, LMError)
            else:
                return {**said, ERROR_LOG: log}
            if action == "retry":
                retry = self.retries[kind]
                if seconds := retry.seconds(asked[kind]):
                    yield Call("wait", _Wait(seconds), {})
                call = drawn(ask, sum(asked.values()), retry.temperature) if another else ask
            elif action == "fallback":
                said = yield Call(f"fallback_{kind.__name__}", self.fallbacks[kind.__name__], fields)
                return {**said, ERROR_LOG: log}
            else:
                return {**dict.fromkeys(gives_of(self.module) or ()), ERROR_LOG: log}

    def _action(self, error: Exception, asked: dict[type, int]) -> tuple[type, str]:
        """What is done about an error, and the entry that says so; raises the error where none does."""
        spent = False
        for kind in type(error).__mro__:
            if kind in self.retries and not spent:
                if asked.get(kind, 0) < self.retries[kind].times:
                    asked[kind] = asked.get(kind, 0) + 1
                    return kind, "retry"
                spent = True  # what a wider type says of retries is not for this error
            if kind in self.answered:
                return kind, "fallback"
            if kind in self.skipped:
                return kind, "skip"
        raise error


class _Wait(dspy.Module):  # type: ignore[misc]
    """Some seconds, which do not stop others that are awaited."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self) -> Any:
        time.sleep(self.seconds)
        return {}

    async def aforward(self) -> Any:
        await asyncio.sleep(self.seconds)
        return {}


def _told(error: Exception, action: str) -> dict[str, str]:
    step = ".".join((*dspy.settings.get(PLACE, Place()).path, "module"))
    text = Failed(step, error).reason
    return {"step": step, "error": text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…", "action": action}


def _table(given: Any) -> dict[type, Any]:
    """Entries by type; one without a type is for every `Exception`."""
    if given is None:
        return {}
    if isinstance(given, Mapping) and (not given or any(isinstance(kind, type) for kind in given)):
        return dict(given)
    return {Exception: given}


def _kinds(given: Any) -> tuple[type, ...]:
    if given is None or given is False:
        return ()
    if given is True:
        return (Exception,)
    return (given,) if isinstance(given, type) else tuple(given)


def _answering(one: Any) -> Any:
    return as_step(_Fixed(one) if isinstance(one, Mapping) else one)


class _Fixed:
    """A function that says the same whatever it is asked."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)

    def __call__(self, **_: Any) -> dict[str, Any]:
        return dict(self.fields)


def _check(retries: Mapping[type, Retry], answered: tuple[type, ...], skipped: tuple[type, ...]) -> None:
    for kind in (*retries, *answered, *skipped):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ProgramError(
                f"Guarded(…) names {kind!r}, which is no type of Exception. Orders to stop are not handled."
            )
        if issubclass(kind, CascadeError) and not issubclass(kind, StepFailed):
            raise ProgramError(
                f"Guarded(…) names {kind.__name__}, an error of cascade itself. Leave it out: it is raised."
            )
    if both := [kind.__name__ for kind in answered if kind in skipped]:
        raise ProgramError(f"Guarded(…) has both a fallback and a skip for {both[0]}. Leave one out.")
    if len({kind.__name__ for kind in answered}) < len(answered):
        raise ProgramError(
            "Guarded(…, fallback=…) has two types of one name. Use their common base, or nest two guards."
        )
