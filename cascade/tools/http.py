"""One request, to an address that was looked at first, and no more of the answer than is allowed.

Invariant: nothing is followed, nothing is kept, no proxy and no cookie takes part; every failure is a reason in words.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_TYPES = ("text/html", "application/xhtml+xml")
_CHUNK = 16_384


@dataclass(frozen=True)
class Limits:
    """What a crawl may take.

    Args:
        pages: read at most.
        depth: links from the start.
        bytes: of one page; a longer one is left out.
        seconds: of the whole crawl.
        timeout: seconds of one answer.
        delay: seconds between two requests.
        queries: whether links with `?` are followed.
    """

    pages: int = 100
    depth: int = 4
    bytes: int = 1_000_000
    seconds: float = 120.0
    timeout: float = 10.0
    delay: float = 0.5
    queries: bool = False


@dataclass(frozen=True)
class Fetched:
    """An answer, or the reason why there is none; header names are in small letters."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    reason: str = ""


def fetch(
    url: str,
    limits: Limits,
    *,
    agent: str,
    loopback: bool = False,
    seconds: float = float("inf"),
    any_type: bool = False,
) -> Fetched:
    """Ask for one URL.

    Args:
        loopback: whether addresses of this machine may be asked; other addresses that are not public never are.
        seconds: after which nothing more is read, where that is less than the limit for an answer.
        any_type: also what is no HTML.
    """
    parts = urlsplit(url)
    try:
        address = _address(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), loopback)
    except (OSError, ValueError) as error:
        return Fetched(reason=str(error) or type(error).__name__)
    timeout = max(0.01, min(limits.timeout, seconds))
    ends = time.monotonic() + timeout
    connection = _connection(parts.scheme, parts.netloc, address, timeout)
    timer = threading.Timer(timeout, _cut, (connection,))  # each byte of a header may take as long as a time-out
    timer.start()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        headers = {"User-Agent": agent, "Accept": ", ".join(_TYPES), "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        timer.cancel()
        if time.monotonic() > ends:
            return Fetched(reason="it took too long")
        coding = response.getheader("Content-Encoding", "identity").strip().lower()
        if response.status == 200 and coding != "identity":
            return Fetched(reason="it is compressed, which was not asked for")
        return _answer(response, limits, ends, any_type)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Fetched(reason=f"{type(error).__name__}: {error}".removesuffix(": "))
    finally:
        timer.cancel()
        connection.close()


def _answer(response: http.client.HTTPResponse, limits: Limits, ends: float, any_type: bool) -> Fetched:
    headers = {name.lower(): value for name, value in response.getheaders()}
    kind, _, more = headers.get("content-type", "").partition(";")
    if response.status != 200:
        return Fetched(response.status, headers)
    if not any_type and kind.strip().lower() not in _TYPES:
        return Fetched(200, headers, reason=f"its type is {kind.strip() or 'not told'}")
    body = b""
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > limits.bytes:
            return Fetched(200, headers, reason=f"larger than {limits.bytes:,} bytes")
        if time.monotonic() > ends:
            return Fetched(200, headers, reason="it took too long")
    charset = more.partition("charset=")[2].strip(" \"'") or "utf-8"
    try:
        return Fetched(200, headers, body.decode(charset, "replace"))
    except LookupError:
        return Fetched(200, headers, body.decode("utf-8", "replace"))


def _address(host: str, port: int, loopback: bool) -> str:
    """The first address of a host; raises `ValueError` if any of its addresses may not be asked."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for one in found:
        address = ipaddress.ip_address(one.partition("%")[0])
        if not all(_is_public(part) or (loopback and part.is_loopback) for part in _meant(address)):
            raise ValueError(f"{host} is {one}, which is no public address")
    return found[0]


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _meant(address: Address) -> tuple[Address, ...]:
    """The addresses of IPv4 that one of IPv6 leads to; else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address, *(part for part in (address.sixtofour, *(address.teredo or ())) if part))


def _cut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _connection(scheme: str, place: str, address: str, timeout: float) -> http.client.HTTPConnection:
    kind: Any = _Secure if scheme == "https" else _Plain
    made: http.client.HTTPConnection = kind(place, timeout=timeout)
    made.pinned = address  # type: ignore[attr-defined]
    return made


class _Plain(http.client.HTTPConnection):
    """Connects to the address that was looked at, under the name that was asked for."""

    pinned: str

    def connect(self) -> None:
        self.sock = socket.create_connection((self.pinned, self.port), self.timeout)


class _Secure(http.client.HTTPSConnection):
    pinned: str

    def connect(self) -> None:
        plain = socket.create_connection((self.pinned, self.port), self.timeout)
        self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)
