"""A block in which neither an LM nor another machine is reached.

Invariant: who is refused is stopped, whatever it catches: a `Stop` is no `Exception`. Only the context of the block is
concerned, so that other threads of the process go on.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from cascade.errors import Stop

_REACHING_OUT = frozenset(("socket.connect", "socket.getaddrinfo", "socket.sendto"))
"""Audit events of Python that come before a connection: a judge may ask a provider's client and not DSPy."""


class CallRefused(Stop):
    """An LM or another machine was about to be asked."""


class Refusal(BaseCallback):  # type: ignore[misc]
    """What was asked for, "" for nothing."""

    def __init__(self) -> None:
        self.asked = ""

    def refuse(self, asked: str) -> None:
        """Stop who asks."""
        self.asked = self.asked or asked
        raise CallRefused(f"asks {asked}")

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Stop a call of any of DSPy's LMs."""
        self.refuse("an LM")


_REFUSAL: ContextVar[Refusal | None] = ContextVar("cascade_refusal", default=None)


@contextmanager
def refusing(lm: Any) -> Iterator[Refusal]:
    """Refuse calls inside, and end quietly where one was refused.

    Args:
        lm: that may be looked at; it is not called.
    """
    _listen()
    refusal = Refusal()
    token = _REFUSAL.set(refusal)
    try:
        with dspy.context(lm=lm, callbacks=[refusal]):
            yield refusal
    except CallRefused:
        pass
    finally:
        _REFUSAL.reset(token)


@cache
def _listen() -> None:
    """Once: an audit hook cannot be taken away again."""
    sys.addaudithook(_on_event)


def _on_event(event: str, _: Any) -> None:
    if event in _REACHING_OUT and (refusal := _REFUSAL.get()):
        refusal.refuse("another machine")
