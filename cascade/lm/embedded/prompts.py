"""Messages as the text that a model reads.

It exists so that training and serving cannot disagree: both render with the template in the weights' file.
Invariant: pure; the same template and messages give the same text.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any


def render(template: str, messages: Sequence[Mapping[str, str]], *, answering: bool = True) -> str:
    """The prompt up to where the assistant's answer starts, or with `answering=False` up to the last message's end.

    >>> render("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>", [
    ...     {"role": "user", "content": "Hi"}])
    '<user>Hi<assistant>'
    """
    return str(_compiled(template).render(messages=messages, add_generation_prompt=answering)) if messages else ""


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> Any:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template)
