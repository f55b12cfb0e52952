"""Which rows of train say what a predictor should have answered.

A row is a label of every predictor all of whose fields it holds, if its answers are such as the predictor can give. So
each step of a program has rows, and of two routes with answers of their own each learns from its own.
Invariant: no program is run and no row changed.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args

from dspy.adapters.utils import parse_value

from cascade.fields import plain


def held(predictor: Any, fields: Any) -> bool:
    """Whether rows with these fields hold all that a predictor is given and answers."""
    return set(predictor.signature.fields) <= set(fields)


def labels_of(predictor: Any, examples: Sequence[Any]) -> list[Any]:
    """The examples that are labels of this predictor, in their order."""
    return [example for example in examples if held(predictor, example.keys()) and _possible(predictor, example)]


def _possible(predictor: Any, example: Any) -> bool:
    with suppress(Exception):
        for name, field in predictor.signature.output_fields.items():
            if example[name] is None and type(None) not in get_args(field.annotation):
                return False
            parse_value(plain(example[name]), field.annotation)
        return True
    return False
