"""Traces and feedback on their way to MLflow.

Invariant: nothing waits for MLflow. Sampled traces that it does not take are dropped and counted; what people said
stands on the disk and is sent later, once, whichever process sends it.
"""

import contextlib
import fcntl
import json
import threading
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from cascade.lm.embedded.models import write_json
from cascade.mlflow_store.names import Names
from cascade.mlflow_store.served_traces import Answered, Assessed, assess, send
from cascade.mlflow_store.store import connect, experiment_id, reaching
from cascade.production.ab.outcomes import Books, Said
from cascade.production.serving.queues import Drain
from cascade.production.serving.recent import ROOM, text_of
from cascade.redaction import redacted
from cascade.settings import Settings

WAITING = 1_000
LONGEST = 60.0
"""Seconds between two attempts at the most."""
_BATCH = 50
_ANSWERED: TypeAdapter[Answered] = TypeAdapter(Answered)


class Mirror:
    """Sends served requests, and what was said of them.

    Args:
        warn: told once that MLflow cannot be reached, until it can be again.
        tick: called every `pause` seconds, too.
        pause: seconds between two looks at what was said.
    """

    def __init__(
        self,
        settings: Settings,
        books: Books,
        *,
        warn: Callable[[str], None],
        tick: Callable[[], None] = lambda: None,
        pause: float = 1.0,
    ) -> None:
        self.dropped = 0
        self._settings, self._books, self._warn, self._tick, self._pause = settings, books, warn, tick, pause
        self._troubled = False
        self._ended = threading.Event()
        self.drain: Drain[Answered] = Drain(self._send, most=WAITING, room=ROOM, pause=0.5)
        self._thread = threading.Thread(target=self._go_on, name="cascade-mirror", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Send what waits, for at most so many seconds."""
        self._ended.set()
        self.drain.close(seconds)
        self._thread.join(seconds)

    def _send(self, answered: list[Answered]) -> None:
        try:
            with self._store() as (uri, place):
                send(uri, place, map(_keyless, answered))
        except Exception:
            self.dropped += len(answered)
            raise

    def _go_on(self) -> None:
        wait = self._pause
        over = False
        while not over:
            over = self._ended.wait(wait)
            try:
                self._tick()
                while self._send_said():
                    pass
                wait = self._pause
            except Exception:
                wait = min(2 * wait, LONGEST)

    def _send_said(self) -> bool:
        """Send a piece of what was said and not sent; whether there was any."""
        marker = self._books.folder / "mirrored.json"
        try:
            if self._books.outcomes.stat().st_size == _offset(marker):
                return False
        except FileNotFoundError:
            return False
        with self._alone() as mine:
            if not mine:
                return False
            start = _offset(marker)
            said, end = self._books.said(start)
            for first in range(0, len(said), _BATCH):
                with self._store() as (uri, place):
                    assess(uri, place, filter(None, map(_assessed, said[first : first + _BATCH])))
            if end != start:
                write_json(marker, {"offset": end})
            return end != start and not self._ended.is_set()

    @contextlib.contextmanager
    def _alone(self) -> Any:
        with (self._books.folder / "mirror.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True

    @contextlib.contextmanager
    def _store(self) -> Any:
        """The store's address and the experiment's id; what goes wrong is told once."""
        uri = self._settings.tracking_uri
        name = Names(self._settings.experiment_prefix, self._settings.model_prefix).experiment(self._books.experiment)
        try:
            with reaching(uri, "does not take traces", "What people said is sent later; sampled traces are dropped."):
                yield uri, experiment_id(connect(uri), uri, name)
        except Exception as error:
            if not self._troubled:
                self._troubled = True
                self._warn(str(error))
            raise
        self._troubled = False


def _keyless(answered: Answered) -> Answered:
    return _ANSWERED.validate_json(redacted(text_of(answered)))


def _offset(marker: Any) -> int:
    try:
        return int(json.loads(marker.read_text("utf-8"))["offset"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _assessed(said: Said) -> Assessed | None:
    """None of what is not about an answer that can be read: nothing may keep back what comes after it."""
    try:
        whole = json.loads(text_of(said))
        answered = _ANSWERED.validate_python(whole["answered"])
    except (TypeError, ValueError):
        return None
    return Assessed(said.id, said.at, said.value, whole["corrections"], whole["comment"], answered)
