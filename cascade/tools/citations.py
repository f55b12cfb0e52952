"""Citations: which passage is said to hold which words, and whether it does.

Invariant: a citation holds only if its passage was really retrieved and really has the words, three or more.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Citation = dict[str, str]
"""`{"id": …, "quote": …}`."""
LEAST = 3
"""Words of a quotation: fewer stand in many a passage, whatever it is about."""


def citation(told: str) -> Citation:
    """A citation as a model writes it: id, colon, words.

    >>> citation("minutes-04: The clock stays seven minutes fast.")
    {'id': 'minutes-04', 'quote': 'The clock stays seven minutes fast.'}
    """
    id_, _, quote = told.partition(":")
    return {"id": id_.strip().strip("[]"), "quote": quote.strip()}


def fault(cited: Citation, passages: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with a citation, in words; "" if it holds.

    Args:
        passages: those that were retrieved, with `id` and `text`.
    """
    texts = {one["id"]: one["text"] for one in passages}
    if cited["id"] not in texts:
        return f"{cited['id'] or 'a passage without a name'} was not retrieved"
    wanted = _plain(cited["quote"])
    if not wanted or f" {wanted} " not in f" {_plain(texts[cited['id']])} ":
        return f"{cited['id']} does not say {cited['quote']!r}"
    if len(wanted.split()) < LEAST:
        return f"{cited['quote']!r} is too short to tell {cited['id']} from other passages"
    return ""


def _plain(text: str) -> str:
    """Its words: case, punctuation and line breaks make no other quotation."""
    return " ".join(re.findall(r"\w+", text.lower()))
