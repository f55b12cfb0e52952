"""Scripted models for tests of steps."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dspy

from cascade.testing import AsyncScriptedEngine, ScriptedEngine

Says = Callable[[Mapping[str, str]], Mapping[str, str] | str]


def loud(inputs: Mapping[str, str]) -> Mapping[str, str]:
    """The first input in capitals, whatever is asked."""
    return _All(next(iter(inputs.values()), "").upper())


class _All(dict[str, str]):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def get(self, key: str, default: Any = None) -> Any:
        return self.text


def model(engine: ScriptedEngine, **options: Any) -> Any:
    """An LM of a script, without DSPy's cache."""
    return dspy.LM(
        "scripted/base", engine=engine, async_engine=AsyncScriptedEngine(engine), num_retries=0,
        **{"temperature": 0.0, "cache": False, **options},
    )  # fmt: skip


@contextmanager
def asking(says: Says = loud, **context: Any) -> Iterator[ScriptedEngine]:
    """DSPy with a scripted model and an empty trace."""
    engine = ScriptedEngine(lambda _model, inputs, _demos: says(inputs))
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    with dspy.context(**{"lm": model(engine), "adapter": adapter, "trace": [], "disable_history": True, **context}):
        yield engine
