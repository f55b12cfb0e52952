"""A program bound to its LMs, so that it can be called anywhere.

Invariant: nothing of DSPy's global settings is read for the LM or set; the program runs as it was judged.
"""

import asyncio
from contextlib import AbstractContextManager
from typing import Any

import dspy

from cascade.lm.lms import LMs
from cascade.lm.named import LMS


class BoundProgram:
    """A program with the LMs and the adapter it was judged with.

    Args:
        module: the `dspy.Module`.
        lms: its LMs; they may be shared with other programs.
    """

    def __init__(self, module: Any, lms: LMs) -> None:
        self.module = module
        self.lms = lms

    def __call__(self, **inputs: Any) -> Any:
        """Run it; returns its `dspy.Prediction`."""
        with self.context():
            return self.module(**inputs)

    async def acall(self, **inputs: Any) -> Any:
        """Run it without blocking the event loop: awaited where its module can be, else in a thread."""
        if not hasattr(self.module, "aforward"):
            return await asyncio.to_thread(self, **inputs)
        with self.context():
            return await self.module.acall(**inputs)

    @property
    def models(self) -> frozenset[str]:
        """Model strings of the LMs that its predictors ask."""
        own = (predictor.lm for predictor in self.module.predictors())
        return frozenset(lm.model if lm is not None else self.lms.model("task") for lm in own)

    def context(self) -> AbstractContextManager[None]:
        """The `dspy.context` under which the module runs."""
        lms = self.lms
        names: dict[str, Any] = {"lm": lms["task"], "adapter": lms.adapter, "num_threads": lms.threads, LMS: lms}
        context: AbstractContextManager[None] = dspy.context(**names, disable_history=True)
        return context
