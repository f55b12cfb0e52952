"""What may leave the house: text in which nothing is left that might tell who somebody is, and a step that sends that.

Rules that look for what is personal miss what they do not know. These keep what is known to be harmless and take the
rest: every capitalised word but the usual first ones of a sentence, every number of three digits or more, every word
with digits in it. Invariant: what a sealed step sends has passed `anonymous`, whatever the program or its demos put in.

What passes are names and numbers written in words of small letters, names that are such words as a sentence begins
with, and single numbers below 100, of which several fields may hold one each.
"""

import copy
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dspy

from cascade.errors import StepFailed
from cascade.tools.personal import impersonal

NAME, NUMBER = "<name>", "<number>"
_STARTERS = frozenset((
    "a", "about", "add", "after", "again", "all", "also", "although", "am", "and", "another", "answer", "any",
    "anybody", "anyone", "are", "as", "at", "away", "back", "be", "because", "before", "both", "but", "by",
    "call", "can", "cancel", "card", "cash", "change", "close", "could", "cut", "dear", "delete", "did", "do",
    "does", "each", "either", "end", "every", "everybody", "everyone", "everything", "explain", "find", "fix",
    "for", "from", "give", "good", "greetings", "had", "half", "has", "have", "he", "hello", "help", "her",
    "here", "his", "how", "however", "if", "in", "instead", "is", "it", "its", "just", "keep", "kind", "kindly",
    "last", "let", "letters", "like", "look", "lost", "make", "many", "maybe", "money", "more", "most", "move",
    "my", "neither", "new", "next", "no", "nobody", "none", "nor", "not", "note", "nothing", "now", "of", "on",
    "once", "one", "only", "or", "other", "our", "out", "over", "paid", "perhaps", "please", "put", "quite",
    "raise", "reach", "receive", "refund", "regards", "say", "see", "send", "shall", "she", "should", "show",
    "shut", "since", "so", "some", "somebody", "someone", "something", "sometimes", "somewhere", "soon", "sorry",
    "split", "still", "stop", "such", "take", "tell", "thank", "thanks", "that", "the", "their", "then", "there",
    "these", "they", "this", "those", "three", "through", "to", "today", "tomorrow", "tonight", "too", "two",
    "under", "until", "urgent", "use", "very", "wait", "want", "was", "we", "were", "what", "when", "where",
    "whether", "which", "while", "who", "whoever", "whose", "why", "with", "without", "would", "write", "yes",
    "yesterday", "yet", "you", "your",
))  # fmt: skip
"""Words that a sentence often begins with. `may`, `will`, `mark` are not among them, because they are names too."""
_ITSELF = frozenset(("I", "I'm", "I'd", "I've", "I'll", "I’m", "I’d", "I’ve", "I’ll"))
_STAND_IN = r"<(?:email|iban|ip|phone|card|name|number)>|\[P\d{1,2}\]|\*\*\*"
_JOINED = r"(?:_|[^\s\w,;:!?()\[\]<>\"“”„|])"
"""Between the parts of one word, as in O'Brien, Anna-Lena and J.R.: what is not known to part words."""
_PIECE = re.compile(rf"(?P<stand_in>{_STAND_IN})|(?P<address>\S*(?:@|://|www\.)\S*)|[^\W_]+(?:{_JOINED}[^\W_]+)*")
_ORDINAL = re.compile(r"\d{1,2}(?:st|nd|rd|th)")
_DIGITS = rf"(?:{NUMBER}|(?<!\[P)(?<!\[P\d)\d+)"
_NUMBERS = re.compile(rf"{_DIGITS}(?:[\W_]*{_DIGITS})+")
_BEFORE_A_NAME = re.compile(rf"\b\d{{1,2}}(?=,? {NAME})")
_ENDS = re.compile(r"(?:^|[.!?\n])[\s\"'“”‘’()\[\]-]*$")
_SHORTENED = re.compile(r"\b(?:mr|mrs|ms|dr|st|prof|no|\w)\.\s*$", re.IGNORECASE)
_COMMON = frozenset(
    ("com", "example", "net", "org", "street", "road", "lane", "avenue", "way", "court", "close", "hill")
)


def anonymous(text: str) -> str:
    """The text with stand-ins for all that might tell who somebody is; `[P1]` and other stand-ins stay.

    >>> anonymous("I am Ann Lee, 14 Mill Lane. Please call (212) 555-0134 or write to ann@example.org.")
    'I am <name> <name>, <number> <name> <name>. Please call <phone> or write to <email>.'
    """
    found = impersonal(_plain(text))
    found = _PIECE.sub(lambda piece: _kept(piece, found), found)
    found = _NUMBERS.sub(lambda run: run[0] if run[0].isdigit() and len(run[0]) < 3 else NUMBER, found)
    return _BEFORE_A_NAME.sub(NUMBER, found)


def leaked(secrets: Iterable[str], text: str) -> list[str]:
    """The secrets of which a word of three letters or a number of three digits stands in the text.

    >>> leaked(["Ann Lee", "GB33 TEST 0000 1234"], "Is Lee at home?")
    ['Ann Lee']
    """
    words = _telling(text)
    return [secret for secret in secrets if words & _telling(secret)]


class Sealed(dspy.Module):  # type: ignore[misc]
    """A step whose LM is sent nothing that has not passed `anonymous`: inputs, demos, and instructions other than those
    it was made with. Its own, and what is said of its fields, lose the forms of numbers and addresses only.

    Args:
        step: a predictor, or a module of several.

    Raises:
        StepFailed: a field that is no text, number or list or table of them, so that it cannot be looked through.
    """

    def __init__(self, step: Any) -> None:
        super().__init__()
        self.step = step
        self._written = frozenset(one.signature.instructions for one in step.predictors())

    @property
    def signature(self) -> Any:
        """Of the step."""
        return self.step.signature

    def forward(self, **fields: Any) -> Any:
        """Call the step with what may be sent."""
        with dspy.context(adapter=_sealing(dspy.settings.adapter, self._written)):
            return self.step(**_sealed(fields))

    async def aforward(self, **fields: Any) -> Any:
        """The same, awaited."""
        with dspy.context(adapter=_sealing(dspy.settings.adapter, self._written)):
            return await self.step.acall(**_sealed(fields))


def _sealing(adapter: Any, written: frozenset[str]) -> Any:
    """The adapter, sealed on its way to messages; its way out to another adapter, which is not sealed, is closed."""
    base = adapter or dspy.ChatAdapter()
    twin = copy.copy(base)
    twin.use_json_adapter_fallback = False

    def format(signature: Any, demos: list[Any], inputs: dict[str, Any]) -> list[dict[str, Any]]:
        if signature.instructions not in written:  # an optimizer wrote them, which may have seen messages
            signature = signature.with_instructions(anonymous(signature.instructions))
        messages = base.format(signature, [_sealed(dict(demo)) for demo in demos], _sealed(inputs))
        return [impersonal(message) for message in messages]

    twin.format = format
    return twin


def _sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value, name) for name, value in fields.items()}


def _value(value: Any, name: str, several: bool = False) -> Any:
    """A value as it may be sent; of several numbers in one field none, because they may be one that was taken apart."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return NUMBER if several and value.strip().isdigit() else anonymous(value)
    if isinstance(value, int | float):
        return NUMBER if several or not abs(value) < 100 else value
    several = several or sum(_is_number(one) for one in _leaves(value)) > 1
    if isinstance(value, Mapping):
        return {_value(str(key), name, several): _value(part, name, several) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_value(part, name, several) for part in value]
    raise StepFailed(
        f"The field {name!r} is a {type(value).__name__}, which cannot be looked through before it is sent. Give text."
    )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from (str(key), *_leaves(part))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and str(value).strip().replace(".", "", 1).isdigit()


def _is_seen(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in ("Cf", "Cc", "Mn")


def _kept(piece: "re.Match[str]", text: str) -> str:
    """A piece of a text, or what stands for it."""
    word = piece[0]
    if piece["stand_in"] or word in _ITSELF or _ORDINAL.fullmatch(word):
        return word
    if piece["address"]:
        return "<email>"
    digits = sum(one.isnumeric() for one in word)
    if digits:
        return NUMBER if digits > 2 or not word.isnumeric() else word
    if word == word.lower() and not any(one.isalpha() and one.lower() == one.upper() for one in word):
        return word
    begins = _ENDS.search(text[: piece.start()]) and not _SHORTENED.search(text[: piece.start()])
    return word if begins and word.lower() in _STARTERS and not _name_follows(text[piece.end() :]) else NAME


def _name_follows(text: str) -> bool:
    after = re.match(r"[ \t]+([^\W\d_][\w'’]*)", text)
    return after is not None and after[1][0] != after[1][0].lower() and after[1] not in _ITSELF


def _telling(text: str) -> set[str]:
    """Words and numbers, in small letters: who looks for a name does not care how it is written."""
    return set(re.findall(r"[^\W\d_]{3,}|\d{3,}", _plain(text).casefold())) - _COMMON


def _plain(text: str) -> str:
    """In letters of one kind, without those that hide between others: formats, controls, marks."""
    return "".join(filter(_is_seen, unicodedata.normalize("NFKC", text)))
