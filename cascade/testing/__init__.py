"""Fakes for tests, yours and ours: a language model that answers by rule, in the process or behind a connection, and a
trainer that trains nothing real.
"""

from cascade.testing.endpoint import Reply, ScriptedEndpoint
from cascade.testing.scripted import Answerer, AsyncScriptedEngine, ScriptedEngine, ScriptedLMs, ScriptedProvider
from cascade.testing.training import ScriptedJobs

__all__ = [
    "Answerer", "AsyncScriptedEngine", "Reply", "ScriptedEndpoint", "ScriptedEngine", "ScriptedJobs", "ScriptedLMs",
    "ScriptedProvider",
]  # fmt: skip
