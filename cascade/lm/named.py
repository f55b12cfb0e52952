"""LMs that a program or a metric asks for by the name that settings give them.

Invariant: who asks gets the LM of whoever runs it: the run's, the check's, or the loaded program's; elsewhere that of
the project's settings. So a program names its LMs and holds none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy

from cascade.lm.lms import LMs
from cascade.settings import load_settings

LMS = "cascade_lms"
"""Name in DSPy's context, which reaches the threads that DSPy starts."""
_last: list[LMs] = []


def lm_named(name: str) -> Any:
    """The `dspy.LM` that settings call `name`; what settings do not name is their `default`.

    In a program's `__init__`, `self.answer.set_lm(lm_named("cloud"))` lets a predictor keep it through every stage, and
    it is bound again by its name when the program is loaded. In a metric, or where a program runs,
    `with dspy.context(lm=lm_named("judge")):` asks it.

    Raises:
        SettingsError: its model is unknown or has no key.
    """
    lms: LMs = dspy.settings.get(LMS) or _of_project()
    return lms.asked(name)


@contextmanager
def offering(lms: LMs) -> Iterator[None]:
    """Let `lm_named` find these LMs inside."""
    with dspy.context(**{LMS: lms}):
        yield


def _of_project() -> LMs:
    """Those of the working directory; made anew where settings are others than before."""
    settings = load_settings()
    if not _last or _last[0].settings != settings:
        _last[:] = [LMs(settings)]
    return _last[0]
