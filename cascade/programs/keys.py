"""What an answer of a step depends on, as a key: its inputs and its state.

Invariant: equal keys mean the same question to the same program on the same model; what cannot be written down exactly
has no key, and is never taken for something else.
"""

import copy
import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

import dspy
from dspy.predict.parameter import Parameter
from pydantic import BaseModel

_EXACT = (bool, int, float, str, bytes, type(None))
_TOLD = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, pathlib.PurePath, uuid.UUID, enum.Enum)
ROLLOUT = "cascade_rollout"
"""Which of several answers to one example an evaluation asks for, where it stands in DSPy's context."""
LABELS = "cascade_labels"
"""The example whose labels predictors say in place of asking, where it stands there."""


class Unkeyed(Exception):
    """A value that cannot be written down exactly."""


class Same:
    """An object that is like itself alone; holding it keeps its place in memory from being given to another."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.held is self.held

    def __hash__(self) -> int:
        return id(self.held)


def key_of(value: Any, *, held: bool = False) -> Any:  # noqa: PLR0911
    """A value as one that can be hashed; types count, so that 1, 1.0 and True are three.

    Args:
        held: an object of which nothing is known but where it stands in memory is like itself alone.

    Raises:
        Unkeyed: it holds such an object, and `held` is not set.
    """
    if isinstance(value, type):
        return (value.__module__, value.__qualname__)
    if type(value) in _EXACT:
        return (type(value), value)
    if isinstance(value, Mapping):
        return (type(value), tuple((name, key_of(inner, held=held)) for name, inner in value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        parts = [key_of(inner, held=held) for inner in value]
        return (type(value), frozenset(parts) if isinstance(value, set | frozenset) else tuple(parts))
    if isinstance(value, _TOLD):
        return (type(value), str(value))
    if isinstance(value, dspy.Example | BaseModel) or dataclasses.is_dataclass(value):
        return (type(value), key_of(_inside(value), held=held))
    if not held:
        raise Unkeyed(f"{type(value).__name__} has no value that can be compared")
    return Same(value)


def _inside(value: Any) -> dict[str, Any]:
    if isinstance(value, dspy.Example):
        return dict(value.items(include_dspy=True))
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def call_key(module: Any, fields: Mapping[str, Any]) -> Any:
    """Of a call of a module: the fields, the state of every predictor in it, and what the context adds.

    Raises:
        Unkeyed: a field cannot be compared.
    """
    return (
        tuple((name, key_of(fields[name])) for name in sorted(fields)),
        tuple((name, _state(inner)) for name, inner in parameters(module)),
        _lm(dspy.settings.lm),
        _adapter(dspy.settings.adapter),
        dspy.settings.get(ROLLOUT),
        Same(dspy.settings.get(LABELS)),
    )


def parameters(module: Any) -> list[tuple[str, Any]]:
    """Every predictor with its path, those of compiled parts too, which DSPy's `named_parameters` leaves out."""
    return list(module.named_sub_modules(type_=Parameter))


def _state(parameter: Any) -> Any:
    if not isinstance(parameter, dspy.Predict):
        return key_of(parameter.dump_state() if hasattr(parameter, "dump_state") else vars(parameter), held=True)
    twin = copy.copy(parameter)
    twin.lm = None  # its own state may have no end, and leaves out what answers
    state = {name: value for name, value in twin.dump_state().items() if name not in ("traces", "train")}
    types = [(name, str(field.annotation)) for name, field in parameter.signature.fields.items()]
    return (type(parameter), key_of([state, types, parameter.config], held=True), _lm(parameter.lm))


def _lm(lm: Any) -> Any:
    """A model's name and options, and what answers for it: two engines may give one name to different weights."""
    if not isinstance(lm, dspy.LM):
        return Same(lm)
    options = {name: value for name, value in lm.kwargs.items() if name != "api_key"}
    engine = getattr(lm, "_engine_spec", None)
    return (type(lm), lm.model, key_of(options, held=True), engine if isinstance(engine, str) else Same(engine))


def _adapter(adapter: Any) -> Any:
    """Adapters are made anew for every run: two that are set up alike are alike."""
    options = {name: value for name, value in getattr(adapter, "__dict__", {}).items() if name != "callbacks"}
    return (type(adapter), key_of(options, held=True))
