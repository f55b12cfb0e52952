"""What of a text may name a person, replaced by a word that says what stood there.

Invariant: what has the form of an address, a number of a telephone, a card or an account, or of a key, is gone; names
of people are not found, because no rule finds them: who harvests reads what was harvested.
"""

import re
from typing import Any

from cascade.redaction import redacted

_CARD = re.compile(r"(?<![\w-])(?:\d[ -]?){12,18}\d(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_ABROAD = re.compile(r"(?<![\w.,/-])(?:\+|00)\d{1,3}[ ./-]?(?:\(?\d+\)?[ ./-]?){2,6}\d{2,}(?!\w)")
_FORMS = (
    ("<email>", re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")),
    ("<ip>", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")),
    ("<phone>", re.compile(r"(?<![\w.,/-])\(?0?\d{2,5}\)?[ ./-]\d{3,4}[ .-]?\d{3,6}(?![\w-])")),
)


def impersonal(value: Any) -> Any:
    """The same value, texts in it without what may name a person and without keys.

    >>> impersonal({"question": "write to ann.lee@example.org or +49 30 1234567"})
    {'question': 'write to <email> or <phone>'}
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {name: impersonal(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [impersonal(part) for part in value]
    return value


def _text(text: str) -> str:
    text = _IBAN.sub("<iban>", redacted(text))
    text = _ABROAD.sub("<phone>", text)  # before cards: one in ten passes for a card
    text = _CARD.sub(lambda found: "<card>" if _is_card(found[0]) else found[0], text)
    for word, form in _FORMS:
        text = form.sub(word, text)
    return text


def _is_card(text: str) -> bool:
    """Luhn's check: most other numbers fail it."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
