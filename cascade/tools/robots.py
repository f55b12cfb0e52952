"""What a site's robots.txt asks of a crawler, as RFC 9309 has it.

`urllib.robotparser` takes the first rule that fits and no `*` inside of a path, so it reads what a site has closed.
Invariant: of the rules that fit a path the longest counts, of equals the one that allows; and any text is read in time
that grows with its length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

_SAFE = "/:@!$&'()*+,;=~?-._"


@dataclass(frozen=True)
class Robots:
    """Rules for one crawler.

    Args:
        rules: whether it is allowed, and the path, in which `*` is anything and `$` the end.
        delay: seconds that it is asked to wait between pages.
    """

    rules: Sequence[tuple[bool, str]] = ()
    delay: float = 0.0

    def allow(self, url: str) -> bool:
        """Whether a page may be asked for.

        >>> robots = read_robots("User-agent: *\\nAllow: /\\nDisallow: /*/private\\n", "a-crawler")
        >>> robots.allow("https://example.org/a/b"), robots.allow("https://example.org/a/private/b")
        (True, False)
        """
        parts = urlsplit(url)
        path = _written(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
        fits = [(len(pattern), allowed) for allowed, pattern in self.rules if _fits(pattern, path)]
        return max(fits, default=(0, True))[1]


def read_robots(text: str, agent: str) -> Robots:
    """The rules of the groups that name `agent`; where none does, of those for all (`*`)."""
    name = agent.partition("/")[0].strip().lower()
    groups: dict[str, list[tuple[str, str]]] = {}
    named: list[str] = []
    heading = False
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
        if key.lower() == "user-agent":
            named = [*named, value.partition("/")[0].lower()] if heading else [value.partition("/")[0].lower()]
            groups.setdefault(named[-1], [])
            heading = True
        elif key.lower() in ("allow", "disallow", "crawl-delay"):
            heading = False
            for one in named:
                groups[one].append((key.lower(), value))
    mine = groups.get(name, groups.get("*", []))
    rules = tuple((key == "allow", _written(value)) for key, value in mine if key != "crawl-delay" and value)
    return Robots(rules, max([0.0, *(_seconds(value) for key, value in mine if key == "crawl-delay")]))


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def _written(path: str) -> str:
    """One way to write a path, so that `%7E` is `~`."""
    return quote(unquote(path), safe=_SAFE)


def _fits(pattern: str, path: str) -> bool:
    first, *rest = pattern.removesuffix("$").split("*")
    ends = pattern.endswith("$")
    if not path.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1] if ends else rest:
        if (found := path.find(part, at)) < 0:
            return False
        at = found + len(part)
    if not ends:
        return True
    return path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= at if rest else at == len(path)
