"""Ctrl-C while weights are trained, and twice while a model does not answer."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import prepare
from cascade.errors import Interrupted, ModelError
from cascade.experiment import Stage
from cascade.journal import Journal
from cascade.runner import execute
from cascade.testing import ScriptedEngine, ScriptedLMs, ScriptedProvider

DEFINED = scripted.experiment(Stage("weights", dspy.BootstrapFinetune))


class Trains(ScriptedProvider):
    """Trains as the embedded provider does: step by step, until it is done or told to stop."""

    def __init__(self, folder: Path, signalled: int) -> None:
        super().__init__(folder)
        self.signalled = signalled
        self.should_stop: Any = lambda: False
        self.stopped = 0

    def finetune(self, job: Any, *args: Any, **options: Any) -> str:
        if self.signalled and not self.stopped:
            os.kill(os.getpid(), self.signalled)
            deadline = time.monotonic() + 60
            while not self.should_stop() and time.monotonic() < deadline:
                time.sleep(0.01)
            self.stopped += 1
            raise ModelError("the training was told to stop")
        return super().finetune(job, *args, **options)


class TrainingLMs(ScriptedLMs):
    """Scripted LMs with a trainer that heeds the meter."""

    def __init__(self, settings: Any, engine: ScriptedEngine, trainer: Trains) -> None:
        super().__init__(settings, engine)
        self._trainer = trainer

    def watch(self, meter: Any, on_step: Any) -> None:
        self._trainer.should_stop = lambda: meter.stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_is_stopped_and_gone_on_with(tmp_path: Path, number: signal.Signals) -> None:
    settings, engine = scripted.settings_in(tmp_path), ScriptedEngine(scripted.answer)
    trainer = Trains(tmp_path / "trained", number)
    ready = prepare(DEFINED, settings, TrainingLMs(settings, engine, trainer))
    with pytest.raises(Interrupted, match="interrupted; run again to go on"):
        execute(ready)
    (folder,) = (settings.home / "runs" / "x").iterdir()
    assert (trainer.stopped, Journal(folder).run.status) == (1, "interrupted")
    asked = set(engine.requests)
    result = execute(prepare(DEFINED, settings, TrainingLMs(settings, engine, trainer)))
    assert (result.status, result.run_id, trainer.trainings) == ("completed", folder.name, 1)
    assert len(engine.requests) == len(set(engine.requests)) > len(asked), "no answer was asked for twice"


def test_a_second_signal_waits_for_no_answer(tmp_path: Path) -> None:
    asked, released = threading.Event(), threading.Event()

    def answer(model: str, inputs: Any, demos: int) -> Any:
        if inputs["question"] == "dev 7":
            asked.set()
            released.wait(60)
        return scripted.answer(model, inputs, demos)

    def twice() -> None:
        asked.wait(60)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)  # a handler runs in the main thread, between two of its steps
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=twice, daemon=True).start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            scripted.run(DEFINED, tmp_path, ScriptedEngine(answer))
        assert time.monotonic() - began < 25, "not as long as what is in flight is waited for"
    finally:
        released.set()
    (folder,) = (tmp_path / ".cascade" / "runs" / "x").iterdir()
    record = Journal(folder).run
    assert (record.status, record.summary) == ("interrupted", "interrupted: stopped at once")
