"""What a run owes a tracker, and what it survives: a tracker that refuses loses nothing for good."""

import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import scripted

from cascade.errors import TrackingError
from cascade.experiment import Stage
from cascade.journal import Journal
from cascade.progress import Silent
from cascade.testing import ScriptedEngine

STAGES = (Stage("demos", scripted.dspy.BootstrapFewShot),)


class Warned(Silent):
    def __init__(self) -> None:
        self.sentences: list[str] = []

    def warn(self, sentence: str) -> None:
        self.sentences.append(sentence)


class RecordingTracker:
    """Notes what the journal said each time; refuses as long as it is told to."""

    def __init__(
        self, *, refusals: int = 0, reason: str = "MLflow at http://x does not answer.", seconds: float = 0
    ) -> None:
        self.refusals = refusals
        self.reason = reason
        self.seconds = seconds
        self.published: list[tuple[str, str, int]] = []
        self.caught_up: list[str] = []
        self.attempts = 0
        self.at_once = 0
        self._lock = threading.Lock()

    def publish(self, journal: Journal) -> None:
        assert self._lock.acquire(blocking=False), "two publications at once"
        try:
            self.attempts += 1
            time.sleep(self.seconds)
            if self.attempts <= self.refusals:
                raise TrackingError(self.reason)
            self.published.append((journal.run.id, journal.run.status, len(journal.stages())))
        finally:
            self._lock.release()

    def catch_up(self, journals: Iterable[Journal]) -> int:
        if self.refusals > self.attempts:
            raise TrackingError(self.reason)
        self.caught_up += [journal.run.id for journal in journals]
        return len(self.caught_up)


def run(folder: Path, tracker: RecordingTracker, progress: Silent | None = None) -> object:
    defined = scripted.experiment(*STAGES)
    return scripted.run(defined, folder, ScriptedEngine(scripted.answer), tracker=tracker, progress=progress)


def test_a_tracker_sees_the_run_begin_and_end(tmp_path: Path) -> None:
    tracker = RecordingTracker()
    result = run(tmp_path, tracker)
    assert tracker.published[0][1] == "running"
    assert tracker.published[-1] == (result.run_id, "completed", 2)  # type: ignore[attr-defined]


def test_a_tracker_that_refuses_does_not_stop_the_run_and_is_warned_of_once(tmp_path: Path) -> None:
    tracker, progress = RecordingTracker(refusals=10**6), Warned()
    result = run(tmp_path, tracker, progress)
    assert result.status == "completed"  # type: ignore[attr-defined]
    assert result.test is not None  # type: ignore[attr-defined]
    assert tracker.attempts >= 2
    assert tracker.published == []
    assert progress.sentences == ["MLflow at http://x does not answer."]
    assert Journal(Path(result.journal)).run.status == "completed"  # type: ignore[attr-defined]


def test_what_was_refused_is_published_with_the_next(tmp_path: Path) -> None:
    tracker, progress = RecordingTracker(refusals=1), Warned()
    run(tmp_path, tracker, progress)
    assert progress.sentences == ["MLflow at http://x does not answer."]
    assert tracker.published[-1][1:] == ("completed", 2)


def test_what_no_publication_of_a_run_could_send_is_sent_by_the_next_run(tmp_path: Path) -> None:
    lost = run(tmp_path, RecordingTracker(refusals=10**6), Warned())
    tracker = RecordingTracker()
    run(tmp_path, tracker)
    assert tracker.caught_up == [lost.run_id]  # type: ignore[attr-defined]


def test_a_slow_tracker_is_not_waited_for_at_every_stage(tmp_path: Path) -> None:
    tracker = RecordingTracker(seconds=0.5)
    run(tmp_path, tracker)
    assert tracker.published[-1][1:] == ("completed", 2)
    assert tracker.attempts <= 4


def test_a_run_that_fails_is_published_too(tmp_path: Path) -> None:
    def down(model: str, inputs: object, demos: int) -> dict[str, str]:
        raise ConnectionError("down")

    tracker = RecordingTracker()
    with pytest.raises(Exception, match="down"):
        scripted.run(scripted.experiment(), tmp_path, ScriptedEngine(down), tracker=tracker)
    assert tracker.published[-1][1] == "failed"
