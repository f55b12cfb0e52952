"""The program that serves, inside a service of your own.

    import cascade
    answer = cascade.load_champion("qa")
    answer(question="the mic is dead in every call").answer

Invariant: nothing of DSPy's or MLflow's global settings is read for it or set.
"""

import logging
from typing import Any

from cascade.lm.lms import LMs
from cascade.mlflow_store.programs import MakeLMs
from cascade.mlflow_store.registry import CHAMPION
from cascade.production.live import REFRESH, Live, Target
from cascade.settings import Settings, load_settings

_LOGGER = logging.getLogger("cascade")


class Champion:
    """A program that is always the version with the alias `champion`; safe to call from several threads."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def __call__(self, **inputs: Any) -> Any:
        """Run the version that serves now; returns its `dspy.Prediction`, and raises what the program raises."""
        with self._live.taken() as (_, served):
            return served.program(**inputs)

    async def acall(self, **inputs: Any) -> Any:
        """The same, without blocking the event loop: in a thread, where the program has no `aforward`."""
        with self._live.taken() as (_, served):
            return await served.program.acall(**inputs)

    @property
    def version(self) -> str:
        """Number of the version that serves now."""
        return self._live.now[CHAMPION].number

    def refresh(self) -> None:
        """Look now whether another version serves; this is done in the background anyway."""
        self._live.look()

    def close(self) -> None:
        """Free what it holds; it cannot be called any more."""
        self._live.close()


def load_champion(
    name: str, *, settings: Settings | None = None, refresh: float = REFRESH, lms: MakeLMs = LMs
) -> Champion:
    """The champion of an experiment, which follows promotions and rollbacks.

    A thread looks every `refresh` seconds whether the alias moved. Then the new version is loaded, weights included,
    and takes all calls that begin from there on; calls in flight end on the old one, whose weights are freed if nothing
    else uses them. A store that is down, or a version that cannot be loaded, is one warning of the logger `cascade`;
    what is loaded goes on. A process that starts while the store is down loads what this machine served last.

    Args:
        name: of the experiment.
        settings: default: those of the working directory.
        refresh: seconds; 0 looks only on `Champion.refresh`.
        lms: makes the LMs; see `cascade.mlflow_store.load_program`.

    Raises:
        Refused: no version has the alias `champion`.
        TrackingError: MLflow cannot be reached, and this machine has served no version.
        SettingsError: an LM that it needs has no key.
        ModelError: its weights are damaged, or their base model is missing.
    """
    target = Target(name, settings or load_settings(), lms=lms)
    return Champion(Live(target, _LOGGER.warning, _LOGGER.info, refresh).start())
