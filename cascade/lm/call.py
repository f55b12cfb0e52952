"""One LM call on its way: who asks, and under which key the ledger knows it.

Invariant: a callback on an LM makes a fresh `Call` for each call, in the caller's context; the gateway fills it in,
also from another thread, and the callback ends it. It is the only thing that travels with a call.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import LMRateLimitError

from cascade.errors import Interrupted
from cascade.lm.pace import Pace


@dataclass(slots=True)
class Call:
    """State of one call.

    Args:
        key: "" until the gateway was asked.
        claimed: nobody else asks the same meanwhile.
        release: gives its place back when it ends without an answer.
        outer: the call inside which this one was made.
        pace: of the endpoint that it goes to; None for models that take what comes.
        entered: what `pace` gave it when it was sent.
    """

    role: str
    key: str = ""
    started: float = 0.0
    claimed: bool = False
    release: "Callable[[Call], None] | None" = None
    outer: "Call | None" = None
    pace: Pace | None = None
    entered: int | None = None


CALL: ContextVar[Call | None] = ContextVar("cascade_call", default=None)
ANSWERED: ContextVar[bool] = ContextVar("cascade_answered", default=False)
"""Whether the gateway was just told the answer to a call without a `Call`, in this context."""


class RoleCallback(BaseCallback):  # type: ignore[misc]
    """Marks the calls of one LM with its role; survives copies of the LM and is in no saved state.

    Args:
        role: name of the LM, or of that from which its weights were trained.
        model: that the name means; a copy of the LM with another model is not the LM of that name.
    """

    def __init__(self, role: str, pace: Pace | None = None, model: str = "") -> None:
        self.role, self.pace, self.model = role, pace, model

    def __deepcopy__(self, memo: dict[int, Any]) -> "RoleCallback":
        return self

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Begin a call."""
        CALL.set(Call(self.role, outer=CALL.get(), pace=self.pace))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """End it, whether it was answered or not."""
        call = CALL.get()
        if call:
            CALL.set(call.outer)
            if call.pace and call.entered is not None:
                call.pace.leave(call.entered, 200 if exception is None else _status(exception))
            if call.release:
                call.release(call)


class Door(RoleCallback):
    """Lets LM calls in until the run is over, and knows how many are inside.

    DSPy does not wait for the threads of an evaluation that was stopped; their next call would reach a model behind
    the gateway's back. DSPy swallows what a callback raises, but not a `BaseException`.

    `needed` says whether calls must be seen that no `RoleCallback` sees: of other LMs, and of all once it is closed.
    """

    def __init__(self) -> None:
        super().__init__("program")
        self.needed = False
        self._inside = 0
        self._closed = False
        self._changed = threading.Condition()

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Let a call in; raises `Interrupted` once closed."""
        with self._changed:
            if self._closed:
                raise Interrupted("the run is over")
            self._inside += 1
        super().on_lm_start(call_id, instance, inputs)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Let it out."""
        super().on_lm_end(call_id, outputs, exception)
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self, seconds: float = 10.0) -> None:
        """Let nobody in, and wait at most `seconds` until all are out."""
        self.needed = True
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._inside <= 0, timeout=seconds)


class Callbacks(list[Any]):
    """A run's callbacks, among which DSPy finds the door only while it is needed.

    DSPy looks at the arguments of every module, adapter and LM call as soon as there is any callback, which doubles
    what a call costs it; it adds this list to the LM's own each time.

    Args:
        before: callbacks that were there.
    """

    def __init__(self, before: Sequence[Any], door: Door) -> None:
        super().__init__([*before, door])
        self._before, self._door = list(before), door

    def __add__(self, own: list[Any]) -> list[Any]:
        if self._door.needed:
            return [*self, *own]
        return [*self._before, *own] if self._before else own


class Witness:
    """Stands where DSPy keeps its usage tracker, which hears of every call that a model answered.

    Args:
        before: a tracker that was there.
        on_past: told model and usage of a call that did not ask the gateway.
    """

    def __init__(self, before: Any, on_past: Callable[[str, dict[str, Any]], None]) -> None:
        self._before = before
        self._on_past = on_past
        # `dspy.track_usage` inside a program hands on what it has seen, to be forgotten here.
        self.usage_data = before.usage_data if before else defaultdict(lambda: deque(maxlen=0))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Witness":
        return self

    def add_usage(self, model: str, usage: dict[str, Any]) -> None:
        """A model has answered; raises what `on_past` raises."""
        if self._before:
            self._before.add_usage(model, usage)
        call = CALL.get()
        if call:
            asked = bool(call.key) and call.release is None  # else its answer went to another cache
        elif asked := ANSWERED.get():
            ANSWERED.set(False)
        if not asked and (call or not _awaited()):
            self._on_past(model, usage)


def _status(exception: BaseException) -> int | None:
    """Of HTTP, where the call ended by that."""
    if isinstance(exception, LMRateLimitError):
        return 429
    status = getattr(exception, "status", None)
    return status if isinstance(status, int) and status != 200 else None


def _awaited() -> bool:
    """Whether the answer may have been told to the gateway in a context that is not this one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
