"""What must not be written: keys, wherever the text that holds one comes from.

An endpoint may echo a key in an error, a library may log it, a model may repeat it. Invariant: everything that cascade
writes (journal, ledger, log, terminal) passes `redacted`, and every error from outside passes `told` before it is kept.
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit, urlunsplit

HIDDEN = "***"
_NAMES = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD)(_|$)", re.IGNORECASE)
"""Environment variables that hold a key."""
_OPTIONS = re.compile(r"header|auth|key|token|secret|password|sig", re.IGNORECASE)
"""Options of an LM, and parts of a query, that hold one."""
_SHAPES = re.compile(
    r"\b(sk-|gsk_|hf_|ghp_|github_pat_|glpat-|xox[abp]-|AKIA|AIza|ya29\.)[\w.-]{12,}"
    r"|(?<=Bearer )[\w.~+/=-]{12,}|(?<=://)[^/\s@]+(?=@)"
)
"""Keys that can be known by their form; looked for in errors only, because a prompt may well speak of `sk-…`."""
_told_of: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Keep these out of everything that is written from now on, beside the keys in the environment."""
    _told_of.update(filter(_is_secret, values))


def plain_source(source: str) -> str:
    """Where data came from, without user, password and query: a signed URL is a key.

    >>> plain_source("https://me:pw@host/a.csv?signature=1")
    'https://host/a.csv'
    """
    if "://" not in source:
        return source
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def secrets_of(options: Mapping[str, Any]) -> Iterator[str]:
    """Values of an LM's options that are keys: headers, and what in an endpoint's address is one.

    >>> list(secrets_of({"api_base": "https://me:pw-0123456789@host/v1", "extra_headers": {"X-Key": "abc-0123456789"}}))
    ['pw-0123456789', 'me:pw-0123456789', 'abc-0123456789']
    """
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from (str(inner).removeprefix("Bearer ") for inner in value.values() if _OPTIONS.search(name))
        elif isinstance(value, str) and "://" in value:
            parts = urlsplit(value)
            yield from (text for text in (parts.password, parts.netloc.rpartition("@")[0]) if text)
            yield from (text for part, text in parse_qsl(parts.query) if _OPTIONS.search(part))
        elif isinstance(value, str) and _OPTIONS.search(name):
            yield value


def redacted(text: str) -> str:
    """The text without the keys of the environment and those that were told to `hide`, in any usual encoding."""
    # For every answer of a model, too: nothing is decoded but names, and a text is searched before it is changed.
    secrets = {os.environ.get(name, "") for name in os.environ if _is_name(name)}
    for form in _forms(frozenset(secrets | _told_of)):
        if form in text:
            text = text.replace(form, HIDDEN)
    return text


def told(error: BaseException) -> str:
    """An error from outside in one line of at most 500 characters, without keys, nor what looks like one.

    >>> told(ValueError("401 for Bearer abcdefghijkl: no\\naccess"))
    'ValueError: 401 for Bearer ***: no access'
    """
    # DSPy's advice after an LM's error is for who writes the call, and long.
    text = " ".join(redacted(str(error)).partition("\n\n  To fix:\n")[0].split())
    return f"{type(error).__name__}: {_SHAPES.sub(HIDDEN, text)}"[:500]


def _is_secret(value: str) -> bool:
    """Not a path, a switch or a stand-in such as `EMPTY`, which may be part of any text."""
    longest = max((len(part) for part in value.split()), default=0)
    return longest >= (8 if re.search(r"\d", value) else 16) and not value.startswith(("/", "~"))


@lru_cache(maxsize=4096)
def _is_name(variable: str) -> bool:
    return _NAMES.search(variable) is not None


@lru_cache(maxsize=16)
def _forms(secrets: frozenset[str]) -> tuple[str, ...]:
    """All that must not be written, the longest first."""
    forms = {form for secret in filter(_is_secret, secrets) for form in _encoded(secret)}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))


def _encoded(secret: str) -> Iterator[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield from (quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret.encode()).decode().rstrip("=")


class Redacting:
    """A text stream in front of another, through which no key passes.

    Args:
        stream: where the text goes.
        lossy: what cannot be written is dropped: a log is worth no failure.
    """

    def __init__(self, stream: Any, *, lossy: bool = False) -> None:
        self._stream = stream
        self._lossy = lossy

    def write(self, text: str) -> int:
        """Write the text without keys."""
        try:
            self._stream.write(redacted(text))
        except OSError:
            if not self._lossy:
                raise
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what is behind."""
        try:
            self._stream.flush()
        except OSError:
            if not self._lossy:
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
