"""Programs of several steps, put together like functions and optimized from end to end like any DSPy module.

from cascade.programs import Pipeline
"""

from cascade.programs.calling import Call, Failed, Visit, Watcher, step_of, watching
from cascade.programs.flow import Discard, Flow, Steps, Together
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.sequential import Pipeline
from cascade.programs.step import Step, as_step

__all__ = [
    "Call", "Discard", "Failed", "Flow", "Pipeline", "Port", "Ports", "Step", "Steps", "Together", "Visit", "Watcher",
    "as_step", "gives_of", "step_of", "takes_of", "watching",
]  # fmt: skip
