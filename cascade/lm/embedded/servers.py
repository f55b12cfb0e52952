"""llama.cpp servers in this process, a small pool for each model.

It exists because batches of changing composition change a model's arithmetic: a server with one slot answers a
request the same whatever else runs. What it answered before changes it too, because a prompt's start is taken from
memory and the length of the rest decides how it is read: `Server.read` sees to that. Invariant: a server is used by
as many calls at once as it has slots.
"""

import ctypes
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import ModelError

CONTEXT = 4096
"""Tokens of prompt and answer together, in one slot."""

_END = "<|endoftext|>"
"""A token that no message begins with."""
_STARTS = 256
"""Beginnings of prompts that a server remembers to have read."""
_CACHE_MIB = 256
"""Memory for prompts that alternate, such as two predictors' instructions; the library's own limit is 8 GiB."""


@dataclass(frozen=True)
class Shape:
    """How many servers a model gets.

    Args:
        servers: at most this many, started when needed.
        slots: calls that one server answers at once.
        threads: CPU threads of one server.
    """

    servers: int
    slots: int
    threads: int

    @classmethod
    def of(cls, *, deterministic: bool, threads: int) -> "Shape":
        """Single-slot servers on one thread each, or one server with eight slots on all threads.

        >>> Shape.of(deterministic=True, threads=4)
        Shape(servers=4, slots=1, threads=1)
        """
        # Two threads of one server wait for each other several hundred times a token: beside another busy
        # process on two cores that took 2.2 s a request, where one thread took 0.4 s.
        if deterministic:
            return cls(servers=threads, slots=1, threads=1)
        return cls(servers=1, slots=8, threads=threads)


class Server:
    """One server, and what it has read.

    Args:
        server: an `xllamacpp.Server`.
        single: whether it has one slot; with several, nothing is promised of what is in memory.
    """

    def __init__(self, server: Any, *, single: bool) -> None:
        self._server = server
        self._single = single
        self._tokens: dict[str, int] = {}
        self.start = ""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """llama.cpp's answer to a completion request."""
        return dict(self._server.handle_completions(body))

    def read(self, start: str) -> None:
        """Have exactly `start` in memory, read as a whole, so that an answer does not depend on those before it.

        Costs one token where it is there already: the token at the end puts away whatever followed it last time.
        """
        if not self._single:
            return
        body = {"prompt": start + _END, "max_tokens": 1, "temperature": 0.0}
        known = self._tokens.get(start) if self._likely_kept(start) else None
        if known is None or self.complete(body | {"cache_prompt": True})["timings"]["cache_n"] != known:
            read = self.complete(body | {"cache_prompt": False})["timings"]["prompt_n"]
            if len(self._tokens) >= _STARTS:
                self._tokens.clear()
            self._tokens[start] = read - 1
        self.start = start

    def _likely_kept(self, start: str) -> bool:
        """llama.cpp brings a prompt back that it put away, but not in place of one that begins like it."""
        half = len(start) // 2
        return start == self.start or start[:half] != self.start[:half]


class Pool:
    """Servers of one model; `lease` waits for a free slot."""

    def __init__(self, gguf: Path, shape: Shape) -> None:
        self._gguf, self._shape = gguf, shape
        self._free = threading.Condition()
        self._started = 0
        self._idle: list[Server] = []
        self._add_server()

    @contextmanager
    def lease(self, start: str = "") -> Iterator[Server]:
        """A server with a free slot: one that has read `start` last, else the one that served last."""
        server = self._take(start)
        try:
            yield server
        finally:
            with self._free:
                self._idle.append(server)
                self._free.notify()

    def _take(self, start: str) -> Server:
        with self._free:
            if not self._idle and self._started < self._shape.servers:
                self._add_server()
            while not self._idle:
                self._free.wait()
            fits = (n for n, server in enumerate(self._idle) if server.start == start)
            return self._idle.pop(next(fits, -1))

    def _add_server(self) -> None:
        server = Server(start_server(self._gguf, self._shape), single=self._shape.slots == 1)
        self._started += 1
        self._idle.extend([server] * self._shape.slots)


def start_server(gguf: Path, shape: Shape) -> Any:
    """An `xllamacpp.Server` for the file; raises `ModelError` if the library is missing or cannot load it."""
    try:
        import xllamacpp
    except ImportError:
        raise ModelError("xllamacpp is not installed. Run `pip install 'dspy-cascade[embedded]'`.") from None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_parallel, parameters.n_ctx = shape.slots, CONTEXT * shape.slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = shape.threads
    parameters.cache_ram_mib = _CACHE_MIB
    parameters.warmup, parameters.verbosity = True, -1
    # The library opens a loopback port that any local process could call; nobody is told this key.
    parameters.api_keys = [secrets.token_hex(32)]
    try:
        with _own_signals():
            return xllamacpp.Server(parameters)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"llama.cpp cannot load {gguf} ({error}). Delete the file and prepare it again.") from None


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handlers of SIGINT and SIGTERM, which versions of the server replace by their own.

    Through libc, since Python sets handlers from the main thread only and servers start in any.
    """
    libc = ctypes.CDLL(None)
    kept = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        kept[number] = ctypes.create_string_buffer(512)
        libc.sigaction(int(number), None, kept[number])
    try:
        yield
    finally:
        for number, action in kept.items():
            libc.sigaction(int(number), action, None)
