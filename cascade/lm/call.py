"""One LM call on its way: who asks, and under which key the ledger knows it.

Invariant: the callback on an LM makes a fresh `Call` for each call, in the caller's context; the gateway fills it in,
also from another thread, and the callback ends it. It is the only thing that travels with a call.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from dspy.utils.callback import BaseCallback

from cascade.errors import Interrupted


@dataclass
class Call:
    """State of one call; `release` frees its place when it ends without an answer."""

    role: str
    key: str = ""
    started: float = 0.0
    release: Callable[[], None] | None = None


CALL: ContextVar[Call | None] = ContextVar("cascade_call", default=None)


class RoleCallback(BaseCallback):  # type: ignore[misc]
    """Marks the calls of one LM with its role; survives copies of the LM and is in no saved state."""

    def __init__(self, role: str) -> None:
        self.role = role

    def __deepcopy__(self, memo: dict[int, Any]) -> "RoleCallback":
        return self

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Begin a call."""
        CALL.set(Call(self.role))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """End it, whether it was answered or not."""
        call = CALL.get()
        CALL.set(None)
        if call and call.release:
            call.release()


class Door(RoleCallback):
    """Lets LM calls in until the run is over, and knows how many are inside.

    DSPy does not wait for the threads of an evaluation that was stopped; their next call would reach a model behind
    the gateway's back. DSPy swallows what a callback raises, but not a `BaseException`.
    """

    def __init__(self) -> None:
        super().__init__("program")
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
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._inside <= 0, timeout=seconds)
