"""From callers that await to what cannot be awaited, and back.

Invariant: what may block runs in a thread of its own, with the caller's context. `asyncio.to_thread` has few threads,
and `asyncio.run` does not end before all of them are done: one that hangs would hold up the others, and whoever gave
it up. No pool either: calls nest, and a pool could fill with those who wait for it.
"""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any


def started(function: Callable[[], Any], name: str | None = None) -> "Future[Any]":
    """Run it in a thread; the future holds what it returns or raises, and cannot be cancelled."""
    context, told = contextvars.copy_context(), Future[Any]()
    told.set_running_or_notify_cancel()

    def work() -> None:
        try:
            told.set_result(context.run(function))
        except BaseException as error:
            told.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return told


async def in_thread(function: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    """What a function says that may block."""
    return await asyncio.wrap_future(started(partial(function, **fields)))


async def awaited(module: Any, fields: Mapping[str, Any]) -> Any:
    """What a module says, awaited where it can be."""
    return await (module.acall(**fields) if hasattr(type(module), "aforward") else in_thread(module, fields))


def finished(awaitable: Awaitable[Any]) -> Any:
    """What an awaitable gives; where this thread has a loop already, another one runs it."""

    async def result() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(result())
    return started(lambda: asyncio.run(result())).result()
