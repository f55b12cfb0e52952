"""A plain function as a step.

Invariant: every part of a flow is a `dspy.Module`; functions become one at the border.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import dspy

from cascade.errors import ProgramError, StepFailed
from cascade.programs.awaiting import finished, in_thread
from cascade.programs.ports import Port, Ports, parameters


class Step(dspy.Module):  # type: ignore[misc]
    """A function, awaitable or not, as a module.

    >>> Step(lambda text: len(text.split()), gives="words")(text="one two").words
    2

    Args:
        function: takes fields by name; returns a mapping or a `dspy.Prediction`, or what `gives` names.
        gives: names of what it returns: the value itself for one name, a tuple for several; () where it gives nothing.
    """

    def __init__(self, function: Callable[..., Any], gives: str | Sequence[str] | None = None) -> None:
        super().__init__()
        if not callable(function):
            raise ProgramError(f"{function!r} is no function and no module, so it cannot be a step.")
        self.function = function
        self.names = (gives,) if isinstance(gives, str) else None if gives is None else tuple(gives)

    @property
    def takes(self) -> Ports | None:
        """The function's parameters."""
        return parameters(self.function)

    @property
    def gives(self) -> Ports | None:
        """What was declared."""
        return None if self.names is None else {name: Port() for name in self.names}

    def forward(self, **fields: Any) -> Any:
        """Call it; an awaitable is awaited here, in a thread if this one has a loop already."""
        value = self.function(**fields)
        return self._named(finished(value) if inspect.isawaitable(value) else value)

    async def aforward(self, **fields: Any) -> Any:
        """Await it, or run it in a thread."""
        if inspect.iscoroutinefunction(self.function):
            return self._named(await self.function(**fields))
        return await in_thread(partial(Step.forward, self), fields)  # DSPy warns of who calls `self.forward`

    def _named(self, value: Any) -> Any:
        if isinstance(value, dspy.Example | Mapping):
            return value if isinstance(value, dspy.Prediction) else dspy.Prediction(**dict(value))
        if self.names and len(self.names) == 1:
            return dspy.Prediction(**{self.names[0]: value})
        if self.names and isinstance(value, tuple) and len(value) == len(self.names):
            return dspy.Prediction(**dict(zip(self.names, value, strict=True)))
        name = getattr(self.function, "__name__", type(self.function).__name__)
        wanted = f"a tuple of {', '.join(self.names)}" if self.names else "a dict"
        raise StepFailed(
            f"The function {name} returned {type(value).__name__} where {wanted} was wanted. "
            f"Return that, or name the value: Step({name}, gives='…')."
        )


def as_step(part: Any, gives: str | Sequence[str] | None = None) -> Any:
    """A module as it is; a function as a `Step`."""
    return part if isinstance(part, dspy.Module) else Step(part, gives)


def nothing() -> dict[str, Any]:
    """The function of a step that does nothing."""
    return {}
