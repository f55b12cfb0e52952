"""What an answer must look like: a signature's output fields as slots, and the GBNF grammar of each.

It exists because a 135M model knows answers but not formats: without it, zero-shot output almost never parses.
Invariant: everything the slots allow parses with `dspy.ChatAdapter`, for every type that is not free text.

A form travels from adapter to engine in a context variable, since DSPy refuses unknown options of a call.
GBNF: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

import enum
import itertools
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

_INTEGER = '"-"? ("0" | [1-9] [0-9]{0,11})'
_FLOAT = '"-"? ("0" | [1-9] [0-9]{0,11}) ("." [0-9]{1,6})?'
_STRING = r'"\"" [^"\\\n\x00-\x1f]{0,80} "\""'
_STRINGS = f'"[" ({_STRING} (", " {_STRING}){{0,15}})? "]"'
_SHORT = r"[^\n\r\x5b] [^\n\r]"
"""One line, of so many characters as a field's `max_length` says."""
_LINE = r'([^\n\x5b] | "[" [^\n\x5b]) [^\n]*'
_TEXT = f'{_LINE} ("\\n" ({_LINE})?){{0,11}}'
"""At most 12 lines, none of which starts with `[[`, which would be a header; their length is bounded in tokens."""


@dataclass(frozen=True)
class Slot:
    """One output field: its name and what it may hold.

    Args:
        name: of the field.
        rule: GBNF of the value.
        choices: all possible values, if they are few and known.
        free: free text, which ends where the model ends it and needs no grammar to parse.
    """

    name: str
    rule: str
    choices: tuple[str, ...] = ()
    free: bool = False

    @property
    def header(self) -> str:
        """The line that `dspy.ChatAdapter` puts before the value."""
        return f"[[ ## {self.name} ## ]]\n"

    def settled(self, text: str) -> str | None:
        """The one choice that `text` can still become, or None while more than one is possible.

        >>> Slot("mood", "", choices=("happy", "sad", "sadder")).settled("h")
        'happy'
        >>> Slot("mood", "", choices=("sad", "sadder")).settled("sad") is None
        True
        """
        if "\n" in text:
            return text.partition("\n")[0]
        possible = [choice for choice in self.choices if choice.startswith(text)]
        return possible[0] if len(possible) == 1 else None


@dataclass
class Form:
    """What one adapter call asks of the engine.

    Args:
        slots: output fields in order.
        rollout: DSPy's rollout id, which a request does not show.
        turns: counts the candidates of one call, so that they differ at a temperature above 0.
    """

    slots: tuple[Slot, ...]
    rollout: int | None = None
    turns: Iterator[int] = field(default_factory=itertools.count)


_FORM: ContextVar[Form | None] = ContextVar("cascade_embedded_form", default=None)


def current_form() -> Form | None:
    """The form that the adapter around this call has set, if any."""
    return _FORM.get()


@contextmanager
def forcing(form: Form | None) -> Iterator[None]:
    """Answer calls inside the block in this form."""
    token = _FORM.set(form)
    try:
        yield
    finally:
        _FORM.reset(token)


def slots(signature: Any) -> tuple[Slot, ...]:
    """The output fields of a DSPy signature as slots, in order."""
    fields: Mapping[str, Any] = signature.output_fields
    return tuple(_slot(name, info.annotation, _longest(info)) for name, info in fields.items())


def grammar(signature: Any) -> str:
    """GBNF of a whole answer to a signature, after the first field's header, which is given.

    >>> import dspy
    >>> print(grammar(dspy.Signature("text -> urgent: bool, days: int")))
    root ::= urgent "\\n\\n[[ ## days ## ]]\\n" days "\\n\\n[[ ## completed ## ]]"
    urgent ::= "True" | "False"
    days ::= "-"? ("0" | [1-9] [0-9]{0,11})
    """
    fields = slots(signature)
    ends = [quote(f"\n\n{slot.header}") for slot in fields[1:]] + [quote("\n\n[[ ## completed ## ]]")]
    root = " ".join(f"{_rule_name(slot.name)} {end}" for slot, end in zip(fields, ends, strict=True))
    return "\n".join([f"root ::= {root}", *(f"{_rule_name(slot.name)} ::= {slot.rule}" for slot in fields)])


def value_grammar(slot: Slot) -> str:
    """GBNF of one value and the blank line that ends it."""
    return f'root ::= ({slot.rule}) "\\n\\n"'


def quote(text: str) -> str:
    r"""A GBNF string literal.

    >>> print(quote('say "hi"\n'))
    "say \"hi\"\n"
    """
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    escaped = "".join(named.get(c, f"\\x{ord(c):02X}" if ord(c) < 32 else c) for c in text)
    return f'"{escaped}"'


def _longest(info: Any) -> int:
    """Characters that a field declares as its `max_length`; 0 where it does not."""
    return next((rule.max_length for rule in info.metadata if getattr(rule, "max_length", None)), 0)


def _slot(name: str, annotation: Any, longest: int = 0) -> Slot:
    if annotation is str and longest:
        return Slot(name, f"{_SHORT}{{0,{longest - 1}}}")
    if choices := _choices(annotation):
        return Slot(name, " | ".join(quote(choice) for choice in choices), choices)
    if rule := _rule(annotation):
        return Slot(name, rule)
    return Slot(name, _TEXT, free=True)


def _choices(annotation: Any) -> tuple[str, ...]:
    """All values of a closed type as `dspy.ChatAdapter` reads them; empty for an open type."""
    if annotation is bool:
        return ("True", "False")
    if isinstance(annotation, enum.EnumMeta):
        # DSPy finds a member by a string value or else by its name; a number is no string.
        members: list[Any] = list(annotation)
        return _distinct(member.value if isinstance(member.value, str) else str(member.name) for member in members)
    if get_origin(annotation) is Literal:
        return _distinct(str(value) for value in get_args(annotation))
    if inner := _optional(annotation):
        return _distinct((*_choices(inner), "None")) if _choices(inner) else ()
    return ()


def _rule(annotation: Any) -> str:
    if annotation is int:
        return _INTEGER
    if annotation is float:
        return _FLOAT
    if get_origin(annotation) is list and get_args(annotation) == (str,):
        return _STRINGS
    if (inner := _optional(annotation)) and (rule := _rule(inner)):
        return f'{rule} | "None"'
    return ""


def _optional(annotation: Any) -> Any:
    """`X` of `X | None`, else None."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return None
    inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    return inner[0] if len(inner) == 1 and len(get_args(annotation)) == 2 else None


def _distinct(values: Iterator[str] | tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(values))
    # A value with a line break or outer spaces cannot be told from the format around it: leave it to free text.
    return found if all(value and value == value.strip() and "\n" not in value for value in found) else ()


def _rule_name(field_name: str) -> str:
    # GBNF names take letters, digits and dashes; `root` is taken.
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in field_name)
    return f"field-{name}" if name == "root" or not name[0].isalpha() else name
