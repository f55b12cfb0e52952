"""A polite crawler of one site: it asks robots.txt first, waits between pages, and stops at every limit.

Invariant: no request goes to another host than the first one's, to a path that robots.txt closes, or to an address that
is not public (loopback only where that is asked for): the address is looked at and then connected to, so no second look
at DNS can give another. What was left out is told, with the reason.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urldefrag, urljoin, urlsplit, urlunsplit

from cascade.errors import StepFailed
from cascade.tools.html_text import Document, read_html
from cascade.tools.http import Fetched, Limits, fetch
from cascade.tools.robots import Robots, read_robots

AGENT = "cascade-crawler"
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_SAFE = "/%:@!$&'()*+,;=~?-._"


@dataclass(frozen=True)
class Page:
    """A page that was read; `url` is where it was found after redirects."""

    url: str
    document: Document


@dataclass(frozen=True)
class Crawl:
    """Args:
    pages: in the order in which they were found, nearest to the start first.
    left_out: reason by URL, for links of this host that were not read.
    """

    pages: tuple[Page, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def crawl(
    start: str,
    limits: Limits | None = None,
    *,
    agent: str = AGENT,
    loopback: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Crawl:
    """Read the pages of a site, from `start` on, breadth first.

    Args:
        start: `http://…` or `https://…`; its host is the site.
        limits: of pages, depth, size and time, and the seconds between two requests; what robots.txt asks for is added.
        agent: how it calls itself, in requests and where it looks into robots.txt.
        loopback: whether this machine's own addresses may be asked.
        sleep, clock: how it waits, and the seconds that it goes by.

    Raises:
        StepFailed: nothing can be read: no such host, an address that is not public, closed by robots.txt, not to be
            listed.
    """
    return _Walk(normalised(start), limits or Limits(), agent, loopback, (sleep, clock)).run()


def normalised(url: str, base: str = "") -> str:
    """An absolute URL without fragment, default port and dots; "" if it is none that can be asked.

    >>> normalised("../a.html#top", "HTTP://Example.org:80/docs/b/")
    'http://example.org/docs/a.html'
    """
    try:
        parts = urlsplit(urldefrag(urljoin(base, url.strip())).url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    place = host if port in (None, default) else f"{host}:{port}"
    path = quote(urlsplit(urljoin("http://x/", parts.path or "/")).path, safe=_SAFE)
    return urlunsplit((parts.scheme, place, path, quote(parts.query, safe=_SAFE), ""))


class _Walk:
    def __init__(self, start: str, limits: Limits, agent: str, loopback: bool, time_: tuple[Any, Any]) -> None:
        if not start:
            raise StepFailed(
                "The crawl has no start that can be asked. Give http://… or https://…, without a password."
            )
        self.start, self.limits, self.agent, self.loopback = start, limits, agent, loopback
        self.sleep, self.clock = time_
        self.origin = urlsplit(start)[:2]
        self.ends = self.clock() + limits.seconds
        self.left_out: dict[str, str] = {}
        self.asked = 0
        self.robots = Robots()

    def run(self) -> Crawl:
        """Breadth first; each URL at most once."""
        self._read_robots()
        pages: dict[str, Page] = {}
        waiting, seen = deque([(self.start, 0)]), {self.start}
        while waiting:
            url, depth = waiting.popleft()
            if reason := self._spent(len(pages)):
                self.left_out[url] = reason
                continue
            page = self._page(url, seen)
            if page is None or page.url in pages:
                continue
            if "noindex" in page.document.robots:
                self.left_out[url] = "it asks not to be listed"
            else:
                pages[page.url] = page
            for link in self._links(page):
                if link not in seen:
                    seen.add(link)
                    self._queue(link, depth + 1, waiting)
        if not pages and self.start in self.left_out:
            raise StepFailed(f"Nothing could be read of {self.start!r}: {self.left_out[self.start]}.")
        return Crawl(tuple(pages.values()), self.left_out)

    def _queue(self, link: str, depth: int, waiting: "deque[tuple[str, int]]") -> None:
        if depth > self.limits.depth:
            self.left_out[link] = f"deeper than {self.limits.depth} links"
        elif urlsplit(link).query and not self.limits.queries:
            self.left_out[link] = "it has a query, behind which a site may go on without end"
        else:
            waiting.append((link, depth))

    def _links(self, page: Page) -> list[str]:
        if "nofollow" in page.document.robots:
            return []
        found = (normalised(link, page.url) for link in page.document.links)
        return [link for link in found if link and urlsplit(link)[:2] == self.origin]

    def _page(self, url: str, seen: set[str]) -> Page | None:
        """The page behind a URL, through redirects that stay inside; None where there is a reason not to read it."""
        first = url
        for _ in range(_MOST_REDIRECTS):
            if not self.robots.allow(url):
                self.left_out[first] = "robots.txt closes it"
                return None
            got = self._fetch(url)
            if got.status not in _REDIRECTS:
                return self._read(first, url, got)
            target = normalised(got.headers.get("location", ""), url)
            if urlsplit(target)[:2] != self.origin:
                self.left_out[first] = "it leads to another host"
                return None
            if target in seen:
                self.left_out[first] = "it leads to a page that is known"
                return None
            seen.add(target)
            url = target
        self.left_out[first] = f"more than {_MOST_REDIRECTS} redirects"
        return None

    def _read(self, first: str, url: str, got: Fetched) -> Page | None:
        if got.reason or got.status != 200:
            self.left_out[first] = got.reason or f"HTTP {got.status}"
            return None
        return Page(url, read_html(got.text))

    def _fetch(self, url: str) -> Fetched:
        wait = max(self.limits.delay, self.robots.delay) if self.asked else 0.0
        if self.clock() + wait > self.ends:
            return Fetched(reason=self._late())
        if self.asked:
            self.sleep(wait)
        return self._asked_for(url)

    def _asked_for(self, url: str, *, any_type: bool = False) -> Fetched:
        self.asked += 1
        left = self.ends - self.clock()
        if left <= 0:
            return Fetched(reason=self._late())
        return fetch(url, self.limits, agent=self.agent, loopback=self.loopback, seconds=left, any_type=any_type)

    def _spent(self, pages: int) -> str:
        if pages >= self.limits.pages:
            return f"more than {self.limits.pages} pages"
        return self._late() if self.clock() > self.ends else ""

    def _late(self) -> str:
        return f"more than {self.limits.seconds:g} s"

    def _read_robots(self) -> None:
        """As RFC 9309 has it: not there is open, not to be had is closed."""
        url = urlunsplit((*self.origin, "/robots.txt", "", ""))
        got = self._asked_for(url, any_type=True)
        if got.status in _REDIRECTS:
            target = normalised(got.headers.get("location", ""), url)
            if urlsplit(target)[:2] == self.origin:
                got = self._asked_for(target, any_type=True)
        if got.reason or got.status >= 500 or got.status in _REDIRECTS:
            raise StepFailed(f"robots.txt of {self.start!r} cannot be had: {got.reason or f'HTTP {got.status}'}.")
        self.robots = read_robots(got.text if got.status == 200 else "", self.agent)
