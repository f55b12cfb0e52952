"""One LM call on its way: who asks, and under which key the ledger knows it.

Invariant: the callback on an LM makes a fresh `Call` for each call, in the caller's context; the gateway fills it in,
also from another thread, and the callback ends it. It is the only thing that travels with a call.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from dspy.utils.callback import BaseCallback


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
