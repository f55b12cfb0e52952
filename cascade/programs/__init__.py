"""Programs of several steps, put together like functions and optimized from end to end like any DSPy module.

from cascade.programs import Pipeline
"""

from cascade.programs.cache import CacheStats
from cascade.programs.cached import Cached
from cascade.programs.calling import Call, Failed, Visit, Watcher, step_of, watching
from cascade.programs.contract import Contract, ContractBroken
from cascade.programs.flow import Discard, Flow, Steps, Together
from cascade.programs.guarded import Guarded, Retry
from cascade.programs.lazy import Lazy, LazyPrediction
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.sequential import Pipeline
from cascade.programs.step import Step, as_step

__all__ = [
    "CacheStats",
    "Cached",
    "Call",
    "Contract",
    "ContractBroken",
    "Discard",
    "Failed",
    "Flow",
    "Guarded",
    "Lazy",
    "LazyPrediction",
    "Pipeline",
    "Port",
    "Ports",
    "Retry",
    "Step",
    "Steps",
    "Together",
    "Visit",
    "Watcher",
    "as_step",
    "gives_of",
    "step_of",
    "takes_of",
    "watching",
]  # fmt: skip
