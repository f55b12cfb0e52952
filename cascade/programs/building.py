"""Programs from a nested definition, such as a JSON file.

Invariant: a definition is data. It names kinds that stand here and parts that are given, and nothing in it is imported,
called or evaluated; what it names otherwise is refused with its place.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import dspy

from cascade.errors import ProgramError
from cascade.programs.branching import Adaptive, Router, When
from cascade.programs.ensemble import AskUntilAgreed, Consensus, MostConfident, Vote
from cascade.programs.flow import told
from cascade.programs.iterative import Loop
from cascade.programs.merging import concatenate
from cascade.programs.parallel import Each, Parallel
from cascade.programs.sequential import Pipeline, Renamed
from cascade.programs.step import as_step

DEEPEST = 50


@dataclass(frozen=True)
class Kind:
    """How a kind is made.

    Args:
        one: options that are a part or a definition.
        many: options that are several, by name or in a list.
        plain: options that are taken as they are.
    """

    make: Callable[..., Any]
    one: tuple[str, ...] = ()
    many: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """All options."""
        return (*self.many, *self.one, *self.plain)


TYPES = frozenset(("str", "int", "float", "bool", "list", "dict", "Literal", "Optional", "Union", "Any"))


def _pipeline(steps: Mapping[str, Any], signature: str | None = None) -> Pipeline:
    if signature is not None:
        _refuse_code(signature)
    return Pipeline(signature, **steps)


def _refuse_code(signature: str) -> None:
    """Of what a signature's types name that it does not know, DSPy imports modules, and pydantic evaluates texts."""
    try:
        sides = [ast.parse(f"def _({side}): ...") for side in signature.split("->")]
    except (SyntaxError, AttributeError):
        raise ValueError(f"its signature {signature!r:.80} cannot be read") from None
    given = [one.annotation for side in sides for one in ast.walk(side) if isinstance(one, ast.arg) and one.annotation]
    if strange := [ast.unparse(one) for one in given if not _is_type(one)]:
        raise ValueError(f"its signature has the type {strange[0]!r:.80}. Known: {told(sorted(TYPES))}, dspy.Image")


def _is_type(node: ast.expr, *, value: bool = False) -> bool:  # noqa: PLR0911
    """Whether nothing but types that are known stands there; texts only as values of a `Literal`."""
    match node:
        case ast.Constant(value=constant):
            return value or constant is None
        case ast.Name(id=name):
            return name in TYPES
        case ast.Attribute(value=ast.Name(id="dspy"), attr=name):
            return isinstance(getattr(dspy, name, None), type)
        case ast.Subscript(value=ast.Name(id=name), slice=inside):
            return name in TYPES and _is_type(inside, value=name == "Literal")
        case ast.Tuple(elts=parts):
            return all(_is_type(one, value=value) for one in parts)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _is_type(left) and _is_type(right)
    return False


def _parallel(branches: Mapping[str, Any], merge: Any = "by_name", **options: Any) -> Parallel:
    joined = isinstance(merge, Mapping) and set(merge) == {"concatenate"}
    return Parallel(merge=concatenate(merge["concatenate"]) if joined else merge, **options, **branches)


KINDS = {
    "pipeline": Kind(_pipeline, many=("steps",), plain=("signature",)),
    "router": Kind(Router, one=("by",), many=("routes",), plain=("default", "field")),
    "when": Kind(When, one=("condition", "then", "otherwise"), plain=("field",)),
    "adaptive": Kind(Adaptive, one=("analyse",), many=("structures",), plain=("default", "field")),
    "loop": Kind(Loop, one=("body", "score"), plain=("at_least", "patience", "limit", "start")),
    "renamed": Kind(Renamed, one=("part",), plain=("takes", "gives")),
    "parallel": Kind(_parallel, many=("branches",), plain=("merge", "timeout", "required")),
    "each": Kind(Each, one=("body",), plain=("over", "each", "timeout", "at_once")),
    "vote": Kind(Vote, many=("members",), plain=("field", "weights")),
    "most_confident": Kind(MostConfident, many=("members",), plain=("confidence",)),
    "consensus": Kind(Consensus, one=("otherwise",), many=("members",), plain=("agree", "field")),
    "ask_until_agreed": Kind(AskUntilAgreed, one=("member",), plain=("agree", "limit", "field", "temperature")),
}


def build(definition: Any, parts: Mapping[str, Any]) -> Any:
    """A program from a nested definition.

    >>> parts = {"count": Step(lambda text: len(text), gives="n"), "long": lambda n: n > 3,
    ...          "cut": Step(lambda: "!", gives="end")}
    >>> steps = {"count": "count", "end": {"when": {"condition": "long", "then": "cut"}}}
    >>> build({"pipeline": {"steps": steps}}, parts)(text="abcd").end
    '!'

    Args:
        definition: the name of a part, or one kind with its options: `{"router": {"by": …, "routes": {…}}}`. Kinds:
            pipeline, renamed, router, when, adaptive, loop, parallel, each, vote, most_confident, consensus,
            ask_until_agreed.
        parts: modules and functions by name. A part that is named twice is one module, and optimized as one.

    Raises:
        ProgramError: for an unknown part, kind or option, with its place.
    """
    return _built(definition, {name: as_step(part) if not callable(part) else part for name, part in parts.items()}, ())


def _built(told_: Any, parts: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    if len(place) > DEEPEST:
        raise _wrong(place[:6], f"is nested deeper than {DEEPEST}")
    if isinstance(told_, str):
        return parts[_known(told_, parts, "part", place)]
    if not isinstance(told_, Mapping) or len(told_) != 1:
        raise _wrong(place, f"is {told_!r:.80}, not the name of a part or one kind with its options")
    name, options = next(iter(told_.items()))
    kind = KINDS[_known(name, KINDS, "kind", place)]
    if not isinstance(options, Mapping):
        raise _wrong((*place, name), f"has {options!r:.80} in place of options")
    here = (*place, str(name))
    found = {_known(option, kind.known, "option", here): value for option, value in options.items()}
    try:
        return kind.make(**{option: _value(kind, option, value, parts, here) for option, value in found.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise _wrong(here, f"cannot be made: {error}") from None


def _value(kind: Kind, option: str, value: Any, parts: Mapping[str, Any], place: tuple[str, ...]) -> Any:
    here = (*place, option)
    if option in kind.one and value is not None:
        return _built(value, parts, here)
    if option not in kind.many:
        return value
    if isinstance(value, Mapping):
        return {str(name): _built(one, parts, (*here, str(name))) for name, one in value.items()}
    if isinstance(value, list) and option == "members":
        return [_built(one, parts, (*here, str(number))) for number, one in enumerate(value)]
    raise _wrong(here, f"is {value!r:.80}, not several by name")


def _known(name: Any, known: Any, what: str, place: tuple[str, ...]) -> str:
    if not isinstance(name, str) or name not in known:
        near = get_close_matches(str(name), list(known), 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise _wrong(place, f"names {name!r}, which is no {what}. Known: {told(known)}.{meant}")
    return name


def _wrong(place: tuple[str, ...], what: str) -> ProgramError:
    return ProgramError(f"The definition at {'.'.join(place) or 'its top'} {what}".rstrip(".") + ".")
