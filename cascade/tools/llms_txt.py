"""The format of llms.txt (https://llmstxt.org): written, read back, and checked.

    # Title
    > Summary, in one paragraph
    Notes, without headings
    ## Section
    - [Name](https://…): what it is

Invariant: what `text_of` writes, `parse` reads as the same value, and `faults` finds nothing in it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_LINK = re.compile(r"- \[(?P<name>(?:\\.|[^\[\]\\])+)\]\((?P<url>[^()\s]+)\)(?:: (?P<notes>\S.*))?")


@dataclass(frozen=True)
class Link:
    """A page: its name, where it is, and what it is about ("" if nothing is said)."""

    name: str
    url: str
    notes: str = ""


@dataclass(frozen=True)
class LlmsTxt:
    """A file.

    Args:
        sections: title and links; one called `Optional` may be left out by who has little room.
        details: paragraphs between summary and sections.
    """

    title: str
    summary: str = ""
    sections: tuple[tuple[str, tuple[Link, ...]], ...] = ()
    details: str = ""


def text_of(file: LlmsTxt) -> str:
    """The file as text. Line breaks inside of names become spaces, and what would be a heading no longer is one."""
    blocks = [f"# {_line(file.title) or 'Untitled'}"]
    blocks += [f"> {_line(file.summary)}"] if _line(file.summary) else []
    blocks += [details] if (details := _plain(file.details)) else []
    for title, links in file.sections:
        blocks += [f"## {_line(title) or 'Pages'}", "\n".join(map(_item, links))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def parse(text: str) -> LlmsTxt:
    """Read a file.

    Raises:
        ValueError: it is none; the first fault, with its line.
    """
    found, faults = _read(text)
    if faults:
        raise ValueError(faults[0])
    return found


def faults(text: str, urls: Iterable[str] | None = None) -> list[str]:
    """What is wrong with a text as llms.txt, line by line; nothing if it is valid.

    Args:
        urls: pages that exist; a link to another is a fault.
    """
    file, found = _read(text)
    known = None if urls is None else set(map(_url, urls))
    links = [link for _, links in file.sections for link in links]
    for link in links:
        if known is not None and _url(link.url) not in known:
            found.append(f"the link to {link.url!r} leads to no page that was read")
    twice = sorted({link.url for link in links if [one.url for one in links].count(link.url) > 1})
    return found + [f"{url!r} is linked twice" for url in twice]


def _read(text: str) -> tuple[LlmsTxt, list[str]]:
    title, summary, wrong = "", "", list[str]()
    details: list[str] = []
    sections: list[tuple[str, list[Link]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# "):
            wrong += [f"line {number}: a second title"] if title else []
            title = title or line[2:].strip()
        elif not title:
            wrong += [f"line {number}: {line[:40]!r} stands before the title, `# …`"] if line.strip() else []
        elif line.startswith("## "):
            sections.append((line[3:].strip(), []))
        elif re.match(r"#{3,} ", line):
            wrong.append(f"line {number}: a heading under that of a section")
        elif sections:
            wrong += _entry(line, number, sections[-1][1])
        elif line.startswith("> ") and not summary and not details:
            summary = line[2:].strip()
        elif line.strip() or details:
            details.append(line)
    wrong += [] if title else ["there is no title, `# …`"]
    wrong += [f"section {name!r} has no links" for name, links in sections if not links]
    return LlmsTxt(
        title, summary, tuple((name, tuple(links)) for name, links in sections), "\n".join(details).strip()
    ), wrong


def _entry(line: str, number: int, links: list[Link]) -> list[str]:
    if not line.strip():
        return []
    found = _LINK.fullmatch(line.rstrip())
    if found is None:
        return [f"line {number}: {line[:40]!r} is no `- [name](url): notes`"]
    name, url = re.sub(r"\\(.)", r"\1", found["name"]), found["url"]
    links.append(Link(name, url, found["notes"] or ""))
    absolute = urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc
    return [] if absolute or url.startswith("/") else [f"line {number}: {url!r} is no absolute link"]


def _item(link: Link) -> str:
    url = _url(link.url)
    name, notes = re.sub(r"([\[\]\\])", r"\\\1", _line(link.name) or url), _line(link.notes)
    return f"- [{name}]({url})" + (f": {notes}" if notes else "")


def _url(url: str) -> str:
    """As it can stand between parentheses."""
    return quote(url.strip(), safe="/%:@!$&'*+,;=~?#-._")


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """Paragraphs in which no line is a heading or a second summary."""
    lines = [re.sub(r"^[#>\s]+", "", line).rstrip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
