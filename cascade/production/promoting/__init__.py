"""Which program serves: who may take the champion's place, who did, and who took it back.

    gate         may it? A pure function of two evaluations on test
    looks        what makes a look at test what it is
    scoring      programs out of the registry on today's test
    log          who served when, and why
    registrar    the log and MLflow's registry in one hand
    promotion    promote, judge without promoting, roll back
    checks       a ruling as a list of checks, for a pull request

Invariant: nothing serves that the gate refused, unless somebody forced it and the log says so.
"""

from typing import TYPE_CHECKING, Any

from cascade.production.promoting.gate import Rules, Ruling
from cascade.production.promoting.log import Entry, PromotionLog, Standing, standing

if TYPE_CHECKING:
    from cascade.production.promoting.promotion import judged, promote, roll_back

__all__ = ["Entry", "PromotionLog", "Rules", "Ruling", "Standing", "judged", "promote", "roll_back", "standing"]


def __getattr__(name: str) -> Any:
    """Import what runs programs when it is first used: the log is read without waiting for DSPy."""
    if name in ("judged", "promote", "roll_back"):
        from cascade.production.promoting import promotion

        return getattr(promotion, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
