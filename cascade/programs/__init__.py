"""Programs of several steps, put together like functions and optimized from end to end like any DSPy module.

from cascade.programs import Pipeline, Router, Loop, Parallel, Vote
"""

from cascade.programs.branching import Adaptive, Router, Rule, When
from cascade.programs.building import build
from cascade.programs.calling import Call, Failed, Visit, Watcher, step_of, watching
from cascade.programs.ensemble import AskUntilAgreed, Consensus, MostConfident, Vote
from cascade.programs.flow import Discard, Flow, Steps, Together
from cascade.programs.iterative import Loop
from cascade.programs.merging import Merge, concatenate
from cascade.programs.parallel import Each, Parallel
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.sequential import Pipeline, Renamed
from cascade.programs.step import Step, as_step

__all__ = [
    "Adaptive", "AskUntilAgreed", "Call", "Consensus", "Discard", "Each", "Failed", "Flow", "Loop", "Merge",
    "MostConfident", "Parallel", "Pipeline", "Port", "Ports", "Renamed", "Router", "Rule", "Step", "Steps", "Together",
    "Visit", "Vote", "Watcher", "When", "as_step", "build", "concatenate", "gives_of", "step_of", "takes_of",
    "watching",
]  # fmt: skip
