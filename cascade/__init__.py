"""From the simplest DSPy program that could work to the best that its data can prove.

from cascade import Dataset, Experiment, Stage, metric
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.dataset import Dataset
    from cascade.errors import CascadeError
    from cascade.experiment import Budget, Experiment, Headroom, Plateau, Stage
    from cascade.lm.named import lm_named
    from cascade.metrics import Metric, Score, metric
    from cascade.production.champion import load_champion
    from cascade.result import Result
    from cascade.running import run

_HOME = {
    "Budget": "experiment",
    "CascadeError": "errors",
    "Dataset": "dataset",
    "Experiment": "experiment",
    "Headroom": "experiment",
    "Metric": "metrics",
    "Plateau": "experiment",
    "Result": "result",
    "Score": "metrics",
    "Stage": "experiment",
    "lm_named": "lm.named",
    "load_champion": "production.champion",
    "metric": "metrics",
    "run": "running",
}
__all__ = [
    "Budget", "CascadeError", "Dataset", "Experiment", "Headroom", "Metric", "Plateau", "Result", "Score", "Stage",
    "lm_named", "load_champion", "metric", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `cascade --help` must not wait for DSPy."""
    if name not in _HOME:
        raise AttributeError(f"module 'cascade' has no attribute {name!r}")
    return getattr(import_module(f"cascade.{_HOME[name]}"), name)
