"""Chromium without a screen, driven over a pipe: what a person would see on a page, as text and as a picture."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MISSING = "The tests of MLflow's pages need Chromium. Install it: apt-get install chromium"
PATIENCE = 120.0
"""Seconds in which a page must show what is looked for."""
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
_LAUNCH = "import os, sys; a, b, *rest = sys.argv[1:]; os.dup2(int(a), 3); os.dup2(int(b), 4); os.execv(rest[0], rest)"
"""The protocol's pipe is at the descriptors 3 (commands) and 4 (answers)."""
_ASSISTANT_CLOSED = "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"


class Page:
    """One page of a browser that speaks the DevTools protocol.

    Args:
        write, read: file descriptors of its pipe.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write = write
        self._read = read
        self._pending = b""
        self._number = 0
        self._session = ""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=_ASSISTANT_CLOSED)

    def open(self, url: str, *texts: str) -> str:
        """What a page reads once it shows all `texts`; fails with what it shows if it never does."""
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while missing := [text for text in texts if text not in self.text()]:
            if time.monotonic() > deadline:
                pytest.fail(f"{url} does not show {missing} but:\n{self.text()}", pytrace=False)
            time.sleep(0.2)
        return self.text()

    def text(self) -> str:
        """What the page reads now."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def find(self, text: str, script: str) -> None:
        """Wait until the value of a JavaScript expression holds `text`."""
        deadline = time.monotonic() + PATIENCE
        while text not in str(value := self.run(script)):
            if time.monotonic() > deadline:
                pytest.fail(f"{script} is {value!r} and never holds {text!r}", pytrace=False)
            time.sleep(0.2)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression on the page, or of what it promises."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)["result"].get(
            "value"
        )

    def size(self, width: int, height: int) -> None:
        """Make the window so large, in pixels."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def picture(self, path: Path) -> Path:
        """Write a PNG of what the window shows."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
        return path

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        if "error" in answer:
            raise AssertionError(f"Chromium refused {method}: {answer['error']}")
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            read = os.read(self._read, 1 << 16)
            if not read:
                raise AssertionError("Chromium has ended.")
            self._pending += read
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page in a browser of its own that ends with this block; fails in one line where there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.fail(MISSING, pytrace=False)
    ours, theirs = os.pipe(), os.pipe()
    command = [sys.executable, "-c", _LAUNCH, str(ours[0]), str(theirs[1]), program]
    process = subprocess.Popen(
        [*command, *_OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(ours[0], theirs[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(ours[0])
    os.close(theirs[1])
    try:
        yield Page(ours[1], theirs[0])
    finally:
        os.close(ours[1])
        os.close(theirs[0])
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
