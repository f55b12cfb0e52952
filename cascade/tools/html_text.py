"""What a page of HTML says: its title, its lines of text, its links.

Invariant: any text is read without an error, because pages of the world are not well-formed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser

_SILENT = frozenset(("script", "style", "template", "noscript", "form", "nav", "svg", "head"))
_INLINE = frozenset(
    "a abbr b code em font i kbd small span strong sub sup tt u var".split()  # noqa: SIM905 - read at a glance
)
_VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
)


@dataclass(frozen=True)
class Document:
    """Args:
    title: of the head, "" where there is none.
    lines: what is shown, a block a line, without what scripts, forms and `nav` hold.
    links: of `a`, as they are written, without those that say `nofollow`.
    robots: what `<meta name="robots">` asks for, in small letters, such as `noindex`.
    """

    title: str
    lines: tuple[str, ...]
    links: tuple[str, ...]
    robots: frozenset[str] = frozenset()


def read_html(text: str) -> Document:
    """Read a page.

    >>> read_html("<title>Pears</title><h1>All <b>pears</b></h1><p>See <a href='b.html'>more</a>.").lines
    ('All pears', 'See more.')
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    reader.end_line()
    return Document(_joined(reader.title), tuple(reader.lines), tuple(reader.links), frozenset(reader.robots))


def without_boilerplate(pages: Mapping[str, Iterable[str]], share: float = 0.5) -> dict[str, tuple[str, ...]]:
    """Lines by page without those that stand in more than this share of all pages: menus, mottos, footers.

    Below four pages nothing can be told apart, and all is kept.
    """
    lines = {name: tuple(found) for name, found in pages.items()}
    often = Counter(line for found in lines.values() for line in set(found))
    least = share * len(lines) if len(lines) >= 4 else len(lines)
    return {name: tuple(line for line in found if often[line] <= least) for name, found in lines.items()}


def opening(lines: Iterable[str], words: int = 55) -> str:
    """How a page begins: its first line, and of the rest what is long enough to be a sentence.

    >>> opening(["Pears", "Menu", "A pear is a fruit of a tree."], words=6)
    'Pears. A pear is a fruit'
    """
    first, *rest = [line for line in lines if any(one.isalpha() for one in line)] or [""]
    told = [first if first[-1:] in ".!?" else f"{first}.", *(line for line in rest if len(line.split()) >= 6)]
    return " ".join(" ".join(told).split()[:words]) if first else ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.lines: list[str] = []
        self.links: list[str] = []
        self.robots: set[str] = set()
        self._silent: list[str] = []
        self._line: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "body":  # also where the head was not closed
            self._silent.clear()
        if tag == "a" and given.get("href") and "nofollow" not in given.get("rel", "").lower().split():
            self.links.append(given["href"])
        if tag == "meta" and given.get("name", "").lower() == "robots":
            self.robots |= {word.strip() for word in given.get("content", "").lower().split(",")}
        self._in_title = tag == "title"
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag not in _INLINE:
            self.end_line()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if tag in self._silent:
            while self._silent.pop() != tag:
                pass
        elif tag not in _INLINE:
            self.end_line()

    def handle_data(self, data: str) -> None:
        if self._in_title and not self.lines:
            self.title.append(data)
        elif not self._silent:
            self._line.append(data)

    def end_line(self) -> None:
        if line := _joined(self._line):
            self.lines.append(line)
        self._line = []


def _joined(parts: list[str]) -> str:
    return re.sub(r"\s+", " ", "".join(parts)).strip()
