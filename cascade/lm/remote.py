"""A `dspy.LM` behind a connection, which sends again what may pass the next time and heeds what an endpoint can take.

DSPy sends a call again below everything that could see that it failed, and sleeps while it holds on to the question and
to its place with the meter. So its own retries are off here, and this makes as many. Each attempt is a call of its own
to the gateway: what rests is not in flight, and a run that stops does not wait for it.

Invariant: what is saved of it is a plain `dspy.LM`.
"""

import asyncio
import time
from itertools import count
from typing import Any

import dspy
from dspy.utils.exceptions import is_retryable_lm_error

from cascade.lm.gateway import Gateway
from cascade.lm.pace import Pace
from cascade.lm.unpickled import UnpickledLM

LONGEST = 60.0
"""Seconds that a call rests at most, whatever `Retry-After` says."""
_GLANCE = 0.2


class RemoteLM(UnpickledLM):
    """An LM over HTTP.

    Args:
        model: DSPy's model string.
        pace: of its endpoint.
        retries: how often a call that ended by a 429, a 5xx, a time-out or a broken connection is sent again; a call
            whose answer is streamed is sent once.
        options: of `dspy.LM`.
    """

    def __init__(self, model: str, *, pace: Pace, retries: int, **options: Any) -> None:
        super().__init__(model, num_retries=0, **options)
        self.pace, self.retries = pace, retries

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """As `dspy.LM`; raises the last attempt's error, or `Stop` when the run stops between two."""
        for attempt in count():
            try:
                return super().__call__(prompt, messages=messages, **kwargs)
            except Exception as error:
                if not self._again(error, attempt):
                    raise
                until = time.monotonic() + rest(error, attempt)
            while (left := until - time.monotonic()) > 0:
                _check()
                time.sleep(min(left, _GLANCE))
        raise AssertionError

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """The same, awaited. It waits for room before it asks the gateway, whose threads bring the answers."""
        for attempt in count():
            while not self.pace.expect():
                _check()
                await asyncio.sleep(_GLANCE / 4)
            try:
                return await super().acall(prompt, messages=messages, **kwargs)
            except Exception as error:
                if not self._again(error, attempt):
                    raise
                until = time.monotonic() + rest(error, attempt)
            finally:
                self.pace.forget()
            while (left := until - time.monotonic()) > 0:
                _check()
                await asyncio.sleep(min(left, _GLANCE))
        raise AssertionError

    def dump_state(self) -> dict[str, Any]:
        """What makes a plain `dspy.LM` of as many retries."""
        return {**super().dump_state(), "num_retries": self.retries}

    def _again(self, error: Exception, attempt: int) -> bool:
        return attempt < self.retries and is_retryable_lm_error(error) and dspy.settings.send_stream is None


def rest(error: Exception, attempt: int) -> float:
    """Seconds until the next attempt: what the endpoint says, else 1, 2, 4, …; at most `LONGEST`."""
    said = getattr(error, "retry_after", None)
    return float(min(2**attempt if said is None else said, LONGEST))


def _check() -> None:
    gateway = vars(dspy).get("cache")  # where there is none, `dspy.cache` would make one on disk
    if isinstance(gateway, Gateway):
        gateway.meter.check()
