"""Requests to a server's application on a loop of its own, without sockets."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from io import StringIO
from typing import Any

import httpx
from by_hand_versions import Shop

from cascade.production.live import Live
from cascade.production.serving.app import application
from cascade.production.serving.edge import Log
from cascade.production.serving.meters import Meters
from cascade.production.serving.service import Limits, Service


class Asking:
    """An application and a client of it."""

    def __init__(self, shop: Shop, limits: Limits | None = None, token: str = "") -> None:
        self.written = StringIO()
        log = Log(self.written)
        self.warned: list[str] = []
        self.live = Live(shop.target("champion"), self.warned.append, lambda said: None, 0).start()
        self.service = Service(self.live, limits or Limits(), Meters(), log)
        self.app = application(self.service, name="qa", token=token)
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

    def predict(self, question: str = "hi", **options: Any) -> httpx.Response:
        return self.ask("POST", "/predict", json={"question": question}, **options)

    def metrics(self) -> dict[str, float]:
        lines = [line for line in self.ask("GET", "/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def log(self) -> list[dict[str, Any]]:
        """Lines so far."""
        self.service.log.drain.close(10)
        return [json.loads(line) for line in self.written.getvalue().splitlines()]

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.client.aclose(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.service.crew.close()
        self.service.log.drain.close(5)
        self.live.close()


Asked = Callable[..., Asking]
