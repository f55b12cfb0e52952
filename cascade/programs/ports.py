"""What a module takes and gives, as far as signatures tell.

Invariant: None means that it is not known, and nothing is refused for what is not known.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import dspy
from pydantic_core import PydanticUndefined


@dataclass(frozen=True)
class Port:
    """A field.

    Args:
        type: as it is annotated; `Any` where it is not.
        sure: taken: it must be there; given: it always is.
        sometimes: not sure, but needed, or given, on one of several ways.
    """

    type: Any = Any
    sure: bool = True
    sometimes: bool = False

    @property
    def wanted(self) -> bool:
        """Whether somebody has to give it."""
        return self.sure or self.sometimes


Ports = Mapping[str, Port]


def takes_of(module: Any) -> Ports | None:
    """The fields that a module takes."""
    told = getattr(type(module), "takes", None)
    if isinstance(told, property):
        return module.takes  # type: ignore[no-any-return]
    signature = signature_of(module)
    if signature is not None:
        return {name: _port(field) for name, field in signature.input_fields.items()}
    return parameters(type(module).forward) if hasattr(type(module), "forward") else None


def gives_of(module: Any) -> Ports | None:
    """The fields that a module gives."""
    told = getattr(type(module), "gives", None)
    if isinstance(told, property):
        return module.gives  # type: ignore[no-any-return]
    signature = signature_of(module)
    if signature is None:
        return None
    more = {"trajectory": Port(dict), "reasoning": Port(str)} if isinstance(module, dspy.ReAct) else {}
    return {**more, **{name: Port(_type(field)) for name, field in signature.output_fields.items()}}


def either(ways: Iterable[Ports | None]) -> Ports | None:
    """Of several ways one is gone: only what all of them have is sure."""
    known = list(ways)
    if None in known:
        return None
    found: dict[str, Port] = {}
    for name in dict.fromkeys(name for one in known for name in one or ()):
        had = [one[name] for one in known if one and name in one]
        sure = len(had) == len(known) and all(port.sure for port in had)
        found[name] = Port(had[0].type, sure, not sure and any(port.wanted for port in had))
    return found


def both(parts: Iterable[Ports | None]) -> Ports | None:
    """All of them happen: what one of them has for sure is sure."""
    found: dict[str, Port] = {}
    for one in parts:
        if one is None:
            return None
        for name, port in one.items():
            had = found.get(name, port)
            sure = had.sure or port.sure
            found[name] = Port(had.type, sure, not sure and (had.wanted or port.wanted))
    return found


def chained(parts: Iterable[tuple[Ports | None, Ports | None]]) -> Ports | None:
    """What parts (takes, gives) that follow one another take from outside."""
    needed: Ports | None = {}
    there: set[str] | None = set()
    for takes, gives in parts:
        if takes is None or there is None:  # what an earlier part may give
            return None
        needed = both([needed, {name: port for name, port in takes.items() if name not in there}])
        there = None if gives is None else there | {name for name, port in gives.items() if port.sure}
    return needed


def ports_of(module: Any) -> tuple[Ports | None, Ports | None]:
    """What a module takes and gives."""
    return takes_of(module), gives_of(module)


def signature_of(module: Any) -> Any:
    """The signature of a module that has one, as DSPy's own do; else None."""
    found = module.predict.signature if isinstance(module, dspy.ChainOfThought) else getattr(module, "signature", None)
    return found if isinstance(found, type) and issubclass(found, dspy.Signature) else None


def parameters(function: Callable[..., Any]) -> Ports | None:
    """A function's parameters; None if it takes any, or cannot be looked at."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    named = [one for one in found if one.name != "self" and one.kind != inspect.Parameter.VAR_POSITIONAL]
    if any(one.kind in kinds for one in named):
        return None
    hints = _hints(function)
    return {one.name: Port(hints.get(one.name, Any), one.default is inspect.Parameter.empty) for one in named}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # a name that only the type checker knows
        return {}


def _port(field: Any) -> Port:
    optional = field.default is not PydanticUndefined or type(None) in getattr(field.annotation, "__args__", ())
    return Port(_type(field), not optional)


def _type(field: Any) -> Any:
    return Any if (field.json_schema_extra or {}).get("is_type_undefined") else field.annotation
