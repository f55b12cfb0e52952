"""A language model inside this process: no key, no network at run time, real training on the CPU.

It exists so that every cascade, test and demonstration can run, fine-tuning included, on any machine.
Invariant: importing this package loads no model library; weights, engine and trainer are loaded on first use.
"""

import os
from typing import Any

import dspy

from cascade.lm.embedded.adapter import FormatForcingAdapter
from cascade.lm.embedded.engine import AsyncEmbeddedEngine, EmbeddedEngine
from cascade.lm.embedded.models import PREFIX, Models
from cascade.lm.embedded.provider import EmbeddedProvider
from cascade.lm.unpickled import UnpickledLM

__all__ = ["EmbeddedEngine", "EmbeddedProvider", "FormatForcingAdapter", "Models", "embedded_lm"]

# Before torch loads its threads: they wait for each other at every step, by default at full speed, which beside other
# busy processes made a training five times as slow.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_DEFAULTS = {"temperature": 0.0, "max_tokens": 128, "num_retries": 0, "stop": ["[[ ## completed"]}


def embedded_lm(name: str, engine: EmbeddedEngine, provider: EmbeddedProvider | None = None, **options: Any) -> dspy.LM:
    """An `UnpickledLM` for the weights `name` of the engine's store, fine-tunable through `provider`.

    Args:
        name: a name in `Models`, with or without `embedded/`.
        engine: answers; it is shared by all copies of the LM.
        provider: trains; None makes one on the same engine.
        options: of `dspy.LM`; they replace temperature 0, 128 tokens, no retries and the stop string at which
            an answer of `dspy.ChatAdapter` ends. Retries are off because a local failure repeats itself.
    """
    return UnpickledLM(
        PREFIX + name.removeprefix(PREFIX),
        engine=engine,
        async_engine=AsyncEmbeddedEngine(engine),
        provider=provider or EmbeddedProvider(engine),
        **{**_DEFAULTS, **options},
    )
