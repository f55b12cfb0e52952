"""What the predictors of a program should have answered to what, as far as rows of train say it.

A row is a label of every predictor whose outputs it holds, if they are such as the predictor can give. So each step of
a program has rows, and of two routes with answers of their own each learns from its own. Where a row does not hold what
a predictor is given, the program is run with the steps before it saying their labels, so that later steps learn from
right inputs. (Teacher forcing, Williams and Zipser, 1989, over steps.) Invariant: no LM is asked and no row changed.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, get_args

import dspy
from dspy.adapters.utils import parse_value

from cascade.fields import plain
from cascade.program import thawed
from cascade.programs.keys import LABELS
from cascade.threads import at_once

Trace = list[tuple[Any, dict[str, Any], Any]]


def has_labels(predictors: Iterable[Any], fields: Iterable[str]) -> bool:
    """Whether all outputs of these predictors are among the fields."""
    return {name for one in predictors for name in one.signature.output_fields} <= set(fields)


def held(predictor: Any, fields: Iterable[str]) -> bool:
    """Whether all that a predictor is given and answers is among the fields."""
    return set(predictor.signature.fields) <= set(fields)


def labelled(program: Any, examples: Sequence[Any], num_threads: int | None = None) -> list[Trace]:
    """For each example what predictors are given, and what the labels say.

    A predictor is not in an example's trace if the example has no label of it, or the program did not come to it: it
    went another way, failed, or needed an answer for which there is no label.

    Returns:
        Traces as DSPy has them, of the predictors of `program` itself.
    """
    twin = thawed(program)
    own = {}
    for ours, theirs in zip(twin.predictors(), program.predictors(), strict=True):
        own[id(ours)] = theirs
        ours.__class__ = _saying(type(ours))

    def run(example: Any) -> Trace:
        told = [one for one in program.predictors() if _says(one, example)]
        whole = [one for one in told if held(one, example.keys())]
        trace = [
            (one, {name: example[name] for name in one.signature.input_fields}, _said(one, example)) for one in whole
        ]
        if len(whole) == len(told):
            return trace
        with dspy.context(trace=[], lm=None, **{LABELS: example}):
            with suppress(Exception):
                twin(**example.inputs())
            said = [(own[id(one)], given, answer) for one, given, answer in dspy.settings.trace if id(one) in own]
        return trace + [entry for entry in said if all(entry[0] is not one for one in whole)]

    return at_once(run, examples, num_threads)


def _says(predictor: Any, example: Any) -> bool:
    """Whether an example holds answers that the predictor could give."""
    with suppress(Exception):
        for name, field in predictor.signature.output_fields.items():
            if example[name] is None and type(None) not in get_args(field.annotation):
                return False
            parse_value(plain(example[name]), field.annotation)
        return True
    return False


def _given(predictor: Any, fields: Any) -> dict[str, Any]:
    return {name: fields[name] for name in predictor.signature.input_fields if name in fields}


def _said(predictor: Any, example: Any) -> Any:
    return dspy.Prediction(**{name: example[name] for name in predictor.signature.output_fields})


class _SaysLabels:
    """A predictor that says what the example says, and asks nobody."""

    signature: Any

    def forward(self, **inputs: Any) -> Any:
        """The labels, noted in the trace like an answer."""
        example = dspy.settings.get(LABELS)
        if not _says(self, example):
            raise LookupError("no label")
        said = _said(self, example)
        if dspy.settings.trace is not None:
            dspy.settings.trace.append((self, _given(self, inputs), said))
        return said

    async def aforward(self, **inputs: Any) -> Any:
        """The same, awaited."""
        return self.forward(**inputs)


def _saying(kind: type) -> type:
    return type(kind.__name__, (_SaysLabels, kind), {})
