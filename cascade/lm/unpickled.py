"""A `dspy.LM` whose answers are kept in the ledger, or in memory, and in no file of DSPy's.

Outside a run DSPy would keep them as pickles in the user's home, and load whatever lies there; a key of its cache shows
neither the endpoint nor how weights are run. Invariant: what is saved of it is a plain `dspy.LM`.
"""

from typing import Any

import dspy


class UnpickledLM(dspy.LM):  # type: ignore[misc]
    """As `dspy.LM`, but it asks DSPy's cache only where that has no disk: the gateway, or one that a user chose."""

    @property
    def cache(self) -> bool:
        """Whether the next call may ask DSPy's cache; looking makes none."""
        return not getattr(vars(dspy).get("cache"), "enable_disk_cache", True)

    @cache.setter
    def cache(self, wanted: bool) -> None:
        """DSPy's constructor and copies set it; settings refuse `cache = false`."""

    def dump_state(self) -> dict[str, Any]:
        """What makes a plain `dspy.LM`."""
        plain = f"{dspy.LM.__module__}.{dspy.LM.__qualname__}"
        return {**super().dump_state(), "_dspy_lm_class": plain, "cache": True}
