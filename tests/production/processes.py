"""A server in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from by_hand_versions import Shop

import cascade

HERE = Path(__file__).parent


@dataclass
class Process:
    """A server that answers."""

    url: str
    child: subprocess.Popen[str]
    log: Path

    def predict(self, question: str = "hi", **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/predict", json={"question": question}, timeout=120, **options)

    def feedback(self, request: str, **said: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/feedback", json={"request_id": request, **said}, timeout=120)

    def end(self, seconds: float = 120, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.child.send_signal(number)
        return self.child.wait(seconds)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextlib.contextmanager
def started(child: subprocess.Popen[str], log: Path) -> Iterator[Process]:
    """Wait until it listens, and end it whatever happens."""
    with child:
        try:
            lines = ""
            while not lines.endswith("}\n"):
                line = child.stdout.readline() if child.stdout else ""
                assert line, log.read_text()
                lines += line
            yield Process(json.loads(lines)["url"], child, log)
        finally:
            child.kill()


@contextlib.contextmanager
def serving(shop: Shop, *options: str, latency: float = 0.0, token: str = "") -> Iterator[Process]:
    """`cascade serve` on the shop's script."""
    paths = [str(Path(cascade.__file__).parents[1]), str(HERE), str(HERE.parent)]
    environ = {**os.environ, "PYTHONPATH": ":".join(paths), "MLFLOW_TRACKING_URI": shop.uri, "CASCADE_TOKEN": token}
    command = [sys.executable, str(HERE / "serving_child.py"), str(shop.folder), str(latency), *options]
    log = shop.folder / f"serve-{len(list(shop.folder.glob('serve-*.log')))}.log"
    with log.open("w") as written:
        child = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=written, text=True)
        with started(child, log) as process:
            yield process
