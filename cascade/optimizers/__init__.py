"""Optimizers of our own, with DSPy's interface."""

from cascade.optimizers.finetune import BootstrapFinetune
from cascade.optimizers.nearest import NearestDemos

__all__ = ["BootstrapFinetune", "NearestDemos"]
