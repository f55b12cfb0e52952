"""Text that a model or a user wrote, made fit to be shown.

Invariant: what leaves here holds no character that a terminal, a browser or a UTF-8 file would act on or refuse; what
was there instead is shown as its escape.
"""

import json
import re
from difflib import unified_diff
from typing import Any

LONGEST = 2_000
"""Characters of one text that are shown."""
# Control characters but for newline and tab, lone surrogates, characters that turn the direction of writing, and what
# is no character: \ufffe and \uffff.
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def clean(text: str) -> str:
    r"""The text with every acting character as its escape; a carriage return before a newline is dropped.

    >>> clean("red: \x1b[31m"), clean("one\r\ntwo")
    ('red: \\x1b[31m', 'one\ntwo')
    """
    return _ACTING.sub(_escape, text.replace("\r\n", "\n"))


def cut(text: str, longest: int = LONGEST) -> str:
    """At most `longest` characters, and how many more there were.

    >>> cut("abcdef", 4)
    'abcd… (2 more characters)'
    """
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters)"


def shown(value: Any, longest: int = LONGEST) -> str:
    """A value of an example: text as it is, one field as its value, several a line each, anything else as JSON.

    >>> shown({"answer": "vpn", "sure": True})
    'answer: vpn\\nsure: true'
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, dict) and value:
        text = "\n".join(f"{name}: {one if isinstance(one, str) else _json(one)}" for name, one in value.items())
    else:
        text = _json(value)
    return cut(clean(text), longest)


def in_line(value: Any, longest: int = LONGEST) -> str:
    """The same in one line of at most `longest` characters.

    >>> in_line("a\\n  b"), in_line("abcdef", 4)
    ('a b', 'abc…')
    """
    text = " ".join(shown(value, 10 * longest).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def diff(before: str, after: str) -> list[str]:
    """What changed between two texts, a line each, with three lines around; empty if nothing did.

    >>> diff("a", "b")
    ['@@ -1 +1 @@', '-a', '+b']
    """
    lines = unified_diff(clean(before).splitlines(), clean(after).splitlines(), lineterm="")
    return [cut(line) for line in lines][2:]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
