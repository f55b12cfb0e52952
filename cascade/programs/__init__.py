"""Programs of several steps, put together like functions and optimized from end to end like any DSPy module.

from cascade.programs import Pipeline, Router, Loop, Parallel, Vote
"""

from cascade.programs.agent import Agent, Turn
from cascade.programs.branching import Adaptive, Router, Rule, When
from cascade.programs.building import build
from cascade.programs.cache import CacheStats
from cascade.programs.cached import Cached
from cascade.programs.calling import Call, Failed, Visit, Watcher, step_of, watching
from cascade.programs.contract import Contract, ContractBroken
from cascade.programs.ensemble import AskUntilAgreed, Consensus, MostConfident, Vote
from cascade.programs.flow import Discard, Flow, Steps, Together
from cascade.programs.fusion import Filtered, fuse, fuse_filter, fuse_retrieval
from cascade.programs.guarded import Guarded, Retry
from cascade.programs.iterative import Loop
from cascade.programs.lazy import Lazy, LazyPrediction
from cascade.programs.merging import Merge, concatenate
from cascade.programs.parallel import Each, Parallel
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.profiling import Profile, profile
from cascade.programs.sequential import Pipeline, Renamed
from cascade.programs.step import Step, as_step

__all__ = [
    "Adaptive", "Agent", "AskUntilAgreed", "CacheStats", "Cached", "Call", "Consensus", "Contract", "ContractBroken",
    "Discard", "Each", "Failed", "Filtered", "Flow", "Guarded", "Lazy", "LazyPrediction", "Loop", "Merge",
    "MostConfident", "Parallel", "Pipeline", "Port", "Ports", "Profile", "Renamed", "Retry", "Router", "Rule", "Step",
    "Steps", "Together", "Turn", "Visit", "Vote", "Watcher", "When", "as_step", "build", "concatenate", "fuse",
    "fuse_filter", "fuse_retrieval", "gives_of", "profile", "step_of", "takes_of", "watching",
]  # fmt: skip
