"""Optimizers of our own, with DSPy's interface."""

from cascade.optimizers.finetune import TolerantFinetune

__all__ = ["TolerantFinetune"]
