"""Requests to a server's application on a loop of its own, without sockets."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from io import StringIO
from typing import Any

import httpx
from by_hand_versions import Shop

from cascade.production.serving.app import application
from cascade.production.serving.assembly import Plan, assembled
from cascade.production.serving.edge import Log
from cascade.production.serving.service import Service


class Asking:
    """An application and a client of it; options are those of `Plan`."""

    def __init__(self, shop: Shop, **options: Any) -> None:
        self.written = StringIO()
        self.plan = Plan(shop.target(), refresh=0, **options)
        self._last = contextlib.ExitStack()
        self.parts = self._last.enter_context(assembled(self.plan, Log(self.written)))
        self.live = self.parts.live
        self.service = Service(self.parts, self.plan.limits)
        self.app = application(self.service, name="qa", token=self.plan.token)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app, raise_app_exceptions=False), base_url="http://here", timeout=60
        )

    def begin(self, method: str, path: str, **options: Any) -> "Future[httpx.Response]":
        """Send a request."""
        return asyncio.run_coroutine_threadsafe(self.client.request(method, path, **options), self.loop)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and wait."""
        return self.begin(method, path, **options).result(60)

    def predict(self, question: str = "hi", user: str = "", **options: Any) -> httpx.Response:
        body = {"question": question, **({"user": user} if user else {})}
        return self.ask("POST", "/predict", json=body, **options)

    def feedback(self, request: str, **said: Any) -> httpx.Response:
        return self.ask("POST", "/feedback", json={"request_id": request, **said})

    def metrics(self) -> dict[str, float]:
        lines = [line for line in self.ask("GET", "/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def log(self) -> list[dict[str, Any]]:
        """Lines so far."""
        self.service.log.drain.close(10)
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    def close_parts(self) -> None:
        """As when the server ends."""
        self._last.close()

    def close(self) -> None:
        async def end() -> None:
            await self.client.aclose()
            await self.loop.shutdown_default_executor()

        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.service.crew.close()
        self.close_parts()
        self.service.log.drain.close(5)


Asked = Callable[..., Asking]
