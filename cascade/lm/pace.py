"""How many calls one endpoint is sent at once: as many as wanted until it says that they are too many, then by AIMD.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), the rule by which TCP shares a line: no limit has to
be known or set, and it is found again when it moves. Invariant: a place is held by a call that was sent and by nothing
else, not by one that rests before it is sent again; so whoever has a place ends, and nobody waits for ever.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOO_MANY = frozenset((429, 503, 529))
"""What endpoints say when they are sent too much; 529 is Anthropic's, 503 that of Ollama and of proxies."""
ROUNDS = 4
"""Times the limit, in answers, after which one more call at once is tried."""
_GLANCE = 0.2


@dataclass(frozen=True)
class Window:
    """How many calls may be sent at once.

    >>> Window().narrowed(8)
    Window(limit=4, answered=0)

    Args:
        limit: None until an endpoint first said that it was sent too much.
        answered: calls since the limit last changed.
    """

    limit: int | None = None
    answered: int = 0

    def admits(self, inside: int) -> bool:
        """Whether one more may be sent beside `inside` others."""
        return self.limit is None or inside < self.limit

    def narrowed(self, inside: int) -> "Window":
        """Half of what was sent when it was too much, at least 1."""
        return Window(max(1, min(inside, self.limit or inside) // 2))

    def widened(self) -> "Window":
        """After an answer: one more, once there were `ROUNDS` times as many answers as the limit."""
        if self.limit is None:
            return self
        answered = self.answered + 1
        return Window(self.limit + 1) if answered >= ROUNDS * self.limit else Window(self.limit, answered)


class Pace:
    """The window of one endpoint and model, shared by all who call it in this process; never copied."""

    def __init__(self) -> None:
        self.window = Window()
        self.inside = self.awaited = 0
        self.refusals = 0
        self._round = 0
        self._changed = threading.Condition()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Pace":
        return self

    def enter(self, check: Callable[[], None], *, wait: bool = True) -> int:
        """Take a place, waiting until there is one; what `check` raises ends the wait.

        Args:
            wait: False takes a place though there be none.

        Returns:
            What `leave` wants.
        """
        with self._changed:
            while wait and not self.window.admits(self.inside):
                check()
                self._changed.wait(_GLANCE)
            self.inside += 1
            return self._round

    def leave(self, entered: int, status: int | None) -> None:
        """Give the place back.

        Calls that were sent before the window was last narrowed do not narrow it again: they were all part of the one
        time that it was too much.

        Args:
            entered: what `enter` returned.
            status: 200 for an answer, that of HTTP for an error, None when there was neither.
        """
        with self._changed:
            if status in TOO_MANY:
                self.refusals += 1
                if entered == self._round:
                    self._round += 1
                    self.window = self.window.narrowed(self.inside)
            elif status == 200:
                self.window = self.window.widened()
            self.inside -= 1
            if self.window.limit is not None:
                self._changed.notify_all()

    def expect(self) -> bool:
        """Whether an awaited call may go on to take a place; if so, `forget` must follow when it has ended.

        Awaited calls cannot wait in `enter`: their threads also bring the answers that give places back.
        """
        with self._changed:
            admitted = self.window.admits(max(self.inside, self.awaited))
            self.awaited += admitted
            return admitted

    def forget(self) -> None:
        """An awaited call has ended."""
        with self._changed:
            self.awaited -= 1
