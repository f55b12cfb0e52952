"""What the predictors of a program are given when those before them say what the labels say.

A row of train may hold what a step in the middle should say, under the name of that step's output. Then a whole program
can be shown right runs that it could not make itself yet, and its later steps learn from right inputs: teacher forcing
(Williams and Zipser, 1989), over steps. Invariant: no LM is asked.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, get_args

import dspy
from dspy.adapters.utils import parse_value

from cascade.fields import plain
from cascade.program import thawed

LABELS = "cascade_labels"
"""Name in DSPy's context of the example whose labels are said."""
Trace = list[tuple[Any, dict[str, Any], Any]]


def has_labels(program: Any, fields: Iterable[str]) -> bool:
    """Whether all outputs of all predictors are among these fields."""
    return {name for one in program.predictors() for name in one.signature.output_fields} <= set(fields)


def possible(predictor: Any, fields: Any) -> bool:
    """Whether a predictor could answer what these fields say: of steps whose outputs share a name, each its own."""
    with suppress(Exception):
        for name, field in predictor.signature.output_fields.items():
            if fields[name] is None and type(None) not in get_args(field.annotation):
                return False
            parse_value(plain(fields[name]), field.annotation)
        return True
    return False


def labelled(program: Any, examples: Sequence[Any], num_threads: int | None = None) -> list[Trace]:
    """For each example what the predictors are given, and what the labels say.

    An example on which the program fails has an empty trace: it is data.

    Args:
        program: one that `has_labels`.

    Returns:
        Traces as DSPy has them, of the predictors of `program` itself.
    """
    twin = thawed(program)
    own = {}
    for ours, theirs in zip(twin.predictors(), program.predictors(), strict=True):
        own[id(ours)] = theirs
        ours.__class__ = _saying(type(ours))

    def run(example: Any) -> Trace:
        try:
            with dspy.context(trace=[], **{LABELS: example}):
                twin(**example.inputs())
                said = list(dspy.settings.trace)
        except Exception:
            return []
        return [(own[id(one)], inputs, outputs) for one, inputs, outputs in said]

    with ThreadPoolExecutor(num_threads or dspy.settings.num_threads) as pool:
        return list(pool.map(_in_this_context(run), examples))


def _in_this_context(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """DSPy's settings reach a thread by its context."""
    contexts = copy_context()
    return lambda one: contexts.copy().run(function, one)


class _SaysLabels:
    """A predictor that says what the example says, and asks nobody."""

    signature: Any

    def forward(self, **inputs: Any) -> Any:
        """The labels, noted in the trace like an answer."""
        example = dspy.settings.get(LABELS)
        said = dspy.Prediction(**{name: example[name] for name in self.signature.output_fields})
        if dspy.settings.trace is not None:
            given = {name: inputs[name] for name in self.signature.input_fields if name in inputs}
            dspy.settings.trace.append((self, given, said))
        return said

    async def aforward(self, **inputs: Any) -> Any:
        """The same, awaited."""
        return self.forward(**inputs)


def _saying(kind: type) -> type:
    return type(kind.__name__, (_SaysLabels, kind), {})
