"""Optimizers of our own, with DSPy's interface."""

from cascade.optimizers.finetune import BootstrapFinetune

__all__ = ["BootstrapFinetune"]
