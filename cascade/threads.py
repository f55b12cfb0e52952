"""The same work on many things at once, where what DSPy was set to holds.

LM, adapter, trace and meter are in context variables, which a bare pool of threads does not carry. Invariant: each call
runs in a copy of the caller's context, and results stand in the order of what they are of.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import dspy

T = TypeVar("T")
R = TypeVar("R")


def at_once(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> list[R]:
    """What `function` returns of each item.

    >>> at_once(len, ["a", "", "ccc"])
    [1, 0, 3]

    Args:
        threads: how many at the same time; default: DSPy's `num_threads`.

    Raises:
        What the first item's call that failed has raised, once all have ended.
    """
    with ThreadPoolExecutor(threads or dspy.settings.num_threads or 1) as pool:
        futures = [pool.submit(copy_context().run, function, item) for item in items]
    return [future.result() for future in futures]
