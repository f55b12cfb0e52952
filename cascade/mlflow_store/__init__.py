"""Journals into MLflow, programs out of it.

Invariant: importing this package imports neither MLflow nor DSPy; they are loaded when they are used.
"""

from typing import TYPE_CHECKING, Any

from cascade.mlflow_store.tracker import MlflowTracker

if TYPE_CHECKING:
    from cascade.mlflow_store.programs import load_program

__all__ = ["MlflowTracker", "load_program"]


def __getattr__(name: str) -> Any:
    if name == "load_program":
        from cascade.mlflow_store.programs import load_program

        return load_program
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
