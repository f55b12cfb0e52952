"""Fakes for tests, yours and ours: a language model that answers by rule, in the process or behind a connection, a
trainer that trains nothing real, and the contract that every program of several steps keeps.
"""

from cascade.testing.endpoint import Reply, ScriptedEndpoint
from cascade.testing.programs import PROGRAM_CONTRACT, ProgramCase
from cascade.testing.scripted import Answerer, AsyncScriptedEngine, ScriptedEngine, ScriptedLMs, ScriptedProvider
from cascade.testing.training import ScriptedJobs

__all__ = [
    "PROGRAM_CONTRACT",
    "Answerer", "AsyncScriptedEngine", "ProgramCase", "Reply", "ScriptedEndpoint", "ScriptedEngine", "ScriptedJobs",
    "ScriptedLMs", "ScriptedProvider",
]  # fmt: skip
