"""Versions of a model, published from journals written by hand, and a script that tells which of them answered."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow_journals as by_hand

from cascade.lm.lms import LMs
from cascade.mlflow_store import MlflowTracker
from cascade.mlflow_store.store import connect, reaching
from cascade.mlflow_store.versions import Versions
from cascade.production.live import Target
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs


def answer(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Version N shows N demos."""
    return {"answer": f"{inputs['question']}, says {demos}"}


class Shop:
    """A project whose experiment `qa` has versions."""

    def __init__(self, folder: Path, uri: str, engine: ScriptedEngine | None = None) -> None:
        self.folder, self.uri = folder, uri
        self.engine = engine or ScriptedEngine(answer)
        self.made = 0

    @property
    def settings(self) -> Settings:
        return Settings(self.folder, self.folder / ".cascade", self.uri)

    @property
    def versions(self) -> Versions:
        with reaching(self.uri, "could not be used", ""):
            return Versions(connect(self.uri), "qa")

    def lms(self, settings: Settings) -> LMs:
        return ScriptedLMs(settings, self.engine)

    def target(self, *aliases: str, lms: Callable[[Settings], LMs] | None = None) -> Target:
        return Target("qa", self.settings, aliases or ("champion",), lms or self.lms)

    def publish(self, *aliases: str, own: Mapping[str, str] | None = None, weights: Any = None, **changes: Any) -> str:
        """Make the next version, whose program shows as many demos as its number says."""
        self.made += 1
        id_ = f"2026112{self.made // 10}-{self.made:06}"
        journal = by_hand.unfinished(self.folder, "completed", id=id_, **changes)
        state = by_hand.state(f"Answer as {self.made}.")
        state["answer"]["demos"] *= self.made
        by_hand.write_stage(journal, by_hand.stage_record(1, "instructions", lms=own or {}), state)
        MlflowTracker(self.uri, weights=weights).publish(journal)
        for alias in aliases:
            self.point(alias, str(self.made))
        return str(self.made)

    def point(self, alias: str, number: str) -> None:
        with reaching(self.uri, "could not be used", ""):
            self.versions.point(alias, number)


def eventually(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
