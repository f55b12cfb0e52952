"""Optimizers of our own, with DSPy's interface."""

from cascade.optimizers.ensemble import Ensemble
from cascade.optimizers.finetune import BootstrapFinetune
from cascade.optimizers.nearest import NearestDemos
from cascade.optimizers.rules import InferRules

__all__ = ["BootstrapFinetune", "Ensemble", "InferRules", "NearestDemos"]
