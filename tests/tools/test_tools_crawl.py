"""The crawler, on a loopback site: what it reads, what it leaves alone, and when it stops."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import StepFailed
from cascade.tools import http
from cascade.tools.crawl import Crawl, crawl, normalised
from cascade.tools.html_text import opening, read_html, without_boilerplate
from cascade.tools.http import Limits
from cascade.tools.robots import read_robots

Site = dict[str, Any]
"""Body, or status and headers and body, by path."""
unhurried = settings(deadline=None)
QUICK = Limits(delay=0, timeout=2, seconds=20)


class Served:
    """A site on a port of this machine, and what it was asked."""

    def __init__(self, site: Site) -> None:
        self.asked: list[tuple[str, str]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append((self.path, self.headers["User-Agent"]))
                found = site.get(self.path, (404, {}, "gone"))
                status, headers, body = found if isinstance(found, tuple) else (200, {}, found)
                self.send_response(status)
                for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                for chunk in [body] if isinstance(body, str) else body:
                    self.wfile.write(chunk.encode())
                    self.wfile.flush()

            def handle(self) -> None:
                with suppress(ConnectionError):  # the crawler may have heard enough
                    super().handle()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def serve() -> Iterator[Callable[[Site], Served]]:
    made: list[Served] = []

    def start(site: Site) -> Served:
        made.append(Served(site))
        return made[-1]

    yield start
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def links(*to: str) -> str:
    return "<title>t</title><p>" + "".join(f'<a href="{one}">x</a>' for one in to)


def walk(served: Served, start: str = "/", limits: Limits = QUICK, **how: Any) -> tuple[list[str], dict[str, str]]:
    """Paths that were read, and reasons by path for what was not."""
    found: Crawl = crawl(served.url + start, limits, loopback=True, **how)
    return (
        [page.url.removeprefix(served.url) for page in found.pages],
        {url.removeprefix(served.url): reason for url, reason in found.left_out.items()},
    )


def test_it_reads_breadth_first_each_page_once(serve: Any) -> None:
    served = serve({"/": links("a", "b#here", "b", "/", "./a"), "/a": links("c", "/"), "/b": links("a"), "/c": "c"})
    assert walk(served) == (["/", "/a", "/b", "/c"], {})
    assert served.paths == ["/robots.txt", "/", "/a", "/b", "/c"]
    assert {agent for _, agent in served.asked} == {"cascade-crawler"}


def test_robots_txt_is_asked_first_and_kept(serve: Any) -> None:
    rules = "User-agent: cascade-crawler\nDisallow: /private\nCrawl-delay: 3\n\nUser-agent: *\nDisallow: /\n"
    served, slept = serve({"/robots.txt": rules, "/": links("/private/a", "/open"), "/open": "o"}), list[float]()
    assert walk(served, sleep=slept.append) == (["/", "/open"], {"/private/a": "robots.txt closes it"})
    assert "/private/a" not in served.paths
    assert slept == [3.0, 3.0]
    with pytest.raises(StepFailed, match=r"Nothing could be read of .*: robots.txt closes it"):
        walk(served, agent="another")


@pytest.mark.parametrize(("status", "open_"), [(404, True), (403, True), (500, False), (503, False)])
def test_without_robots_txt_a_site_is_open_and_with_a_broken_one_closed(serve: Any, status: int, open_: bool) -> None:
    served = serve({"/robots.txt": (status, {}, ""), "/": "x"})
    if open_:
        assert walk(served)[0] == ["/"]
    else:
        with pytest.raises(StepFailed, match=f"robots.txt of .* cannot be had: HTTP {status}"):
            walk(served)
        assert served.paths == ["/robots.txt"]


def test_only_html_of_this_host_is_read(serve: Any) -> None:
    other = serve({"/": "never"})
    served = serve({
        "/": links(other.url + "/", "a.png", "big", "ftp://x/y", "mailto:a@b.c", "http://u:p@h/", "gone", "a?page=2", "javascript:x"),
        "/a.png": (200, {"Content-Type": "image/png"}, "x"), "/big": "x" * 3000,
    })  # fmt: skip
    read, left = walk(served, limits=Limits(delay=0, bytes=2000))
    assert read == ["/"]
    assert left == {
        "/a.png": "its type is image/png",
        "/big": "larger than 2,000 bytes",
        "/gone": "HTTP 404",
        "/a?page=2": "it has a query, behind which a site may go on without end",
    }
    assert other.asked == []


def test_redirects_stay_inside_and_never_turn_in_circles(serve: Any) -> None:
    other = serve({"/": "never"})

    def to(place: str) -> tuple[int, dict[str, str], str]:
        return 302, {"Location": place}, ""

    served = serve({
        "/robots.txt": "User-agent: *\nDisallow: /closed\n", "/": links("old", "out", "ring", "shut", "chain"),
        "/old": to("new"), "/new": "n", "/out": to(other.url + "/"), "/ring": to("ring2"), "/ring2": to("ring"),
        "/shut": to("/closed"), "/closed": "c", "/chain": to("c1"), **{f"/c{n}": to(f"c{n + 1}") for n in range(1, 9)},
    })  # fmt: skip
    read, left = walk(served)
    assert read == ["/", "/new"]
    assert left == {
        "/out": "it leads to another host",
        "/ring": "it leads to a page that is known",
        "/shut": "robots.txt closes it",
        "/chain": "more than 5 redirects",
    }
    assert other.asked == []
    assert "/closed" not in served.paths


def test_limits_of_pages_depth_and_time(serve: Any) -> None:
    endless = serve({f"/{n}": links(str(n + 1)) for n in range(50)})
    read, left = walk(endless, "/0", Limits(delay=0, pages=3))
    assert (read, left) == (["/0", "/1", "/2"], {"/3": "more than 3 pages"})
    read, left = walk(endless, "/0", Limits(delay=0, depth=1))
    assert (read, left) == (["/0", "/1"], {"/2": "deeper than 1 links"})


def test_the_time_of_a_crawl_is_limited(serve: Any) -> None:
    endless, now = serve({f"/{n}": links(str(n + 1)) for n in range(50)}), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    read, left = walk(endless, "/0", Limits(delay=2, seconds=5), sleep=sleep, clock=lambda: now[0])
    assert (read, left) == (["/0", "/1"], {"/2": "more than 5 s"})


def test_a_page_that_drips_is_given_up(serve: Any) -> None:
    def drips() -> Iterator[str]:
        for _ in range(200):
            time.sleep(0.05)
            yield "x"

    served = serve({"/": links("slow"), "/slow": (200, {}, drips())})
    begun = time.monotonic()
    assert walk(served, limits=Limits(delay=0, timeout=0.3))[1] == {"/slow": "it took too long"}
    assert time.monotonic() - begun < 8


def test_a_header_that_drips_is_given_up() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        with suppress(OSError):
            asked, _ = listening.accept()
            with asked:
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX: ")
                while True:
                    time.sleep(0.05)
                    asked.sendall(b"x")

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    begun = time.monotonic()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    got = http.fetch(url, Limits(timeout=0.3), agent="a", loopback=True)
    dripping.join(10)
    listening.close()
    assert got.reason and time.monotonic() - begun < 5


def test_a_site_that_asks_for_more_time_than_there_is_is_left(serve: Any) -> None:
    served = serve({"/robots.txt": "User-agent: *\nCrawl-delay: 100000\n", "/": links("a")})
    with pytest.raises(StepFailed, match="more than 20 s"):
        walk(served, sleep=lambda _: pytest.fail("it waits"))


def test_what_comes_compressed_is_told(serve: Any) -> None:
    served = serve(
        {
            "/robots.txt": (404, {"Content-Encoding": "gzip"}, ""),
            "/": links("z"),
            "/z": (200, {"Content-Encoding": "gzip"}, "x"),
        }
    )
    assert walk(served)[1] == {"/z": "it is compressed, which was not asked for"}


ROBOTS = """
User-agent: one
User-agent: Cascade-Crawler/1.0   # both
Allow: /
Disallow: /private/*/x
Disallow: /*.pdf$
Disallow: /%7Ejoe
Allow: /private/a/x/open
Disallow:
User-agent: *
Disallow: /
Crawl-delay: nan

User-agent: cascade-crawler
Disallow: /same
Allow: /same
Crawl-delay: 2.5
"""


@pytest.mark.parametrize(
    ("path", "open_"),
    [("/", True), ("", True), ("/private/a/y", True), ("/private/a/x", False), ("/private/a/x/open/b", True),
     ("/a.pdf", False), ("/a.pdf?x", True), ("/a.pdfs", True), ("/~joe/b", False), ("/same", True)],
)  # fmt: skip
def test_the_longest_rule_that_fits_counts(path: str, open_: bool) -> None:
    robots = read_robots(ROBOTS, "cascade-crawler/0.1")
    assert (robots.allow(f"https://example.org{path}"), robots.delay) == (open_, 2.5)
    assert not read_robots(ROBOTS, "another").allow(f"https://example.org{path}")


def test_a_rule_of_many_stars_takes_no_time() -> None:
    begun = time.monotonic()
    read_robots(f"User-agent: *\nDisallow: /{'*a' * 5000}b\n", "a").allow(f"https://example.org/{'a' * 20_000}")
    assert time.monotonic() - begun < 5


@given(st.text())
def test_any_text_is_read_as_robots_txt(text: str) -> None:
    assert read_robots(f"{text}\nUser-agent: *\nDisallow: /x\n", "a").delay >= 0


def test_pages_may_ask_not_to_be_listed(serve: Any) -> None:
    served = serve({"/": links("a", "b"), "/a": '<meta name="robots" content="NoIndex">' + links("c"), "/c": "c",
                    "/b": '<meta name="robots" content="nofollow">' + links("d") , "/d": "d"})  # fmt: skip
    assert walk(served) == (["/", "/b", "/c"], {"/a": "it asks not to be listed"})


def test_a_site_that_asks_not_to_be_listed_at_all_cannot_be_read(serve: Any) -> None:
    served = serve(
        {"/": '<meta name="robots" content="noindex">' + links("a"), "/a": '<meta name="robots" content="noindex">'}
    )
    with pytest.raises(StepFailed, match="it asks not to be listed"):
        walk(served)


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("10.0.0.8", "10.0.0.8"), ("192.168.1.1", "192.168.1.1"),
     ("169.254.169.254", "169.254.169.254"), ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"), ("0.0.0.0", "0.0.0.0"),
     ("[64:ff9b::a00:8]", "64:ff9b::a00:8"), ("[2002:a00:8::1]", "2002:a00:8::1")],
)  # fmt: skip
def test_addresses_that_are_not_public_are_never_asked(host: str, address: str) -> None:
    with pytest.raises(StepFailed, match=r"is .*, which is no public address"):
        crawl(f"http://{host}/", QUICK)
    if not address.endswith(("127.0.0.1", "::1")):
        with pytest.raises(StepFailed, match="which is no public address"):
            crawl(f"http://{host}/", QUICK, loopback=True)


def test_a_name_that_changes_its_address_is_asked_at_the_one_that_was_looked_at(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, looks = serve({"/": "x"}), list[str]()
    port = served.server.server_address[1]

    def rebinding(host: str, *_: Any, **__: Any) -> list[Any]:
        looks.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(looks) == 1 else "10.0.0.1", port))]

    monkeypatch.setattr(
        http.socket,
        "getaddrinfo",
        lambda *a, **k: (
            rebinding(*a, **k)
            if a[0] == "site.example"
            else [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a[0], port))]
        ),
    )
    got = http.fetch(f"http://site.example:{port}/", QUICK, agent="a", loopback=True)
    assert (got.status, looks) == (200, ["site.example"])


@pytest.mark.parametrize(
    "start", ["", "site.example/a", "file:///etc/passwd", "http://u:p@site.example/", "http://x:99999/"]
)
def test_a_start_that_cannot_be_asked(start: str) -> None:
    with pytest.raises(StepFailed, match="no start that can be asked"):
        crawl(start)


@unhurried
@given(st.text(), st.text())
def test_any_link_is_a_clean_url_or_none(link: str, path: str) -> None:
    found = normalised(link, f"http://site.example/{path}")
    assert found == "" or (found.startswith(("http://", "https://")) and "#" not in found)
    assert normalised(found) == found


@unhurried
@given(st.text())
def test_any_text_is_read_as_html(text: str) -> None:
    read_html(text)
    read_html(f"<body><p>{text}</p><script>x")


def test_what_a_page_says() -> None:
    page = read_html(
        "<html><head><title> A  title </title><style>p{}</style></head><body><nav><a href=m>Menu</a></nav><h1>Head<br>line</h1>"
        "<p>One <b>bold</b> word &amp; more<script>no()</script>.<p>Two<form><p>not this</form><a href='x' rel='nofollow'>y</a>"
    )
    assert page.title == "A title"
    assert page.lines == ("Head", "line", "One bold word & more.", "Two", "y")
    assert page.links == ("m",)


def test_what_stands_on_every_page_is_left_out() -> None:
    pages = {
        str(n): ["Motto", "Menu", f"Page {n}", "a sentence of this page, long enough to count"][: 3 + n % 2]
        for n in range(6)
    }
    left = without_boilerplate(pages, 0.6)
    assert left["1"] == ("Page 1", "a sentence of this page, long enough to count")
    assert opening(left["1"], words=5) == "Page 1. a sentence of"
    assert opening([]) == ""
    assert without_boilerplate({"one": ["a"], "two": ["a"]}) == {"one": ("a",), "two": ("a",)}
