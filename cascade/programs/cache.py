"""Answers that are kept: at most so many, so large and so old.

Invariant: what goes first is what was asked for longest ago; nothing older than `age` is given out.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dspy
from pydantic import BaseModel

from cascade.errors import ProgramError
from cascade.programs.once import Once


@dataclass(frozen=True)
class CacheStats:
    """What a cache did since it was made.

    Args:
        hits: answers that were there.
        misses: answers that had to be computed.
        waited: calls that waited for an equal one that was being computed, and got its answer or its error.
        evicted: answers dropped for want of room.
        expired: answers dropped for their age.
        unkeyed: calls whose inputs cannot be compared, which were computed and not kept.
        size, size_bytes: what is held now.
    """

    hits: int = 0
    misses: int = 0
    waited: int = 0
    evicted: int = 0
    expired: int = 0
    unkeyed: int = 0
    size: int = 0
    size_bytes: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Share of the calls that cost nothing, those that waited included; None before the first."""
        calls = self.hits + self.misses + self.waited + self.unkeyed
        return (self.hits + self.waited) / calls if calls else None

    def to_json(self) -> dict[str, int]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """How much is kept.

    Args:
        size: entries.
        age: seconds since an answer was computed; None for no limit.
        size_bytes: of the texts in the answers; None for no limit. What is larger alone is not kept.
        clock: seconds that never go back.
    """

    size: int = 1000
    age: float | None = None
    size_bytes: int | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        for name in ("size", "age", "size_bytes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ProgramError(f"Cached(…, {name}={value!r}) keeps nothing. Give {name} a value above 0.")


@dataclass(frozen=True)
class _Entry:
    value: Any
    weight: int
    until: float


class Cache:
    """A least-recently-used cache that computes an answer once for all who ask for it at the same time.

    A copy is empty: it belongs to a program that an optimizer may change. So is what a pickle brings back.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._flights: dict[Hashable, Once] = {}
        self._counts = dict.fromkeys(("hits", "misses", "waited", "evicted", "expired", "unkeyed"), 0)
        self._bytes = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "Cache":
        return Cache(self.limits)

    def __reduce__(self) -> Any:
        return Cache, (self.limits,)

    @property
    def stats(self) -> CacheStats:
        """What it did so far."""
        with self._lock:
            return CacheStats(**self._counts, size=len(self._kept), size_bytes=self._bytes)

    def count(self, what: str) -> None:
        """Count a call of a kind of `CacheStats`."""
        with self._lock:
            self._counts[what] += 1

    def clear(self) -> None:
        """Forget all answers; what is being computed now is kept when it is there."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def look(self, key: Hashable) -> tuple[Any, Once | None]:
        """A kept answer and None, or what computes it."""
        with self._lock:
            entry = self._kept.get(key)
            if entry and self.limits.clock() >= entry.until:
                self._drop(key, "expired")
                entry = None
            if entry:
                self._kept.move_to_end(key)
                self._counts["hits"] += 1
                return entry.value, None
            return None, self._flights.setdefault(key, Once())

    def land(self, key: Hashable, flight: Once, value: Any = None) -> None:
        """Who computed has an answer to keep, or None because it failed."""
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if value is None:
                return
            entry = _Entry(value, weight(value), self.limits.clock() + (self.limits.age or float("inf")))
            if self.limits.size_bytes is not None and entry.weight > self.limits.size_bytes:
                return
            if key in self._kept:
                self._drop(key)
            self._kept[key] = entry
            self._bytes += entry.weight
            self._make_room()

    def _make_room(self) -> None:
        most = self.limits.size_bytes
        while len(self._kept) > self.limits.size or (most is not None and self._bytes > most):
            self._drop(next(iter(self._kept)), "evicted")

    def _drop(self, key: Hashable, why: str = "") -> None:
        self._bytes -= self._kept.pop(key).weight
        if why:
            self._counts[why] += 1


def weight(value: Any) -> int:
    """Bytes of the texts and numbers in a value, roughly: 8 for what is no text."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(weight(name) + weight(inner) for name, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(map(weight, value))
    if isinstance(value, dspy.Example):
        return weight(dict(value.items()))
    return weight(value.__dict__) if isinstance(value, BaseModel) else 8
