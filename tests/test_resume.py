"""Stopping a run anywhere and going on: no answered call is made twice, and the end is the same."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted
from dspy.teleprompt.teleprompt import Teleprompter

from cascade.check import prepare
from cascade.errors import Interrupted
from cascade.experiment import Experiment, Plateau, Stage
from cascade.journal import Journal
from cascade.lm.meter import Meter
from cascade.progress import Silent
from cascade.result import Result
from cascade.runner import execute
from cascade.settings import LMSpec
from cascade.testing import ScriptedEngine, ScriptedLMs

FOUR = scripted.experiment(*scripted.FOUR_STAGES, plateau=scripted.PATIENT, train=20, dev=20, test=20)


class Watcher(Silent):
    """Keeps the meter, and whether the run was a resumed one."""

    def __init__(self) -> None:
        self.meter: Meter | None = None
        self.resumed: list[bool] = []

    def begin(self, prepared: Any, journal: Any, meter: Meter, resumed: bool) -> None:
        self.meter = meter
        self.resumed.append(resumed)


class Counted:
    """An engine whose run is interrupted when it has answered for the n-th time."""

    def __init__(self) -> None:
        self.watcher = Watcher()
        self.stop_at: int | None = None
        self.engine = ScriptedEngine(self._answer)
        self._lock = threading.Lock()
        self._count = 0

    def _answer(self, model: str, inputs: Any, demos: int) -> Any:
        with self._lock:
            self._count += 1
            if self._count == self.stop_at and self.watcher.meter:
                self.watcher.meter.interrupt("stopped by the test")
        return scripted.answer(model, inputs, demos)

    def run(self, folder: Path, defined: Experiment = FOUR, **options: Any) -> Result:
        return scripted.run(defined, folder, self.engine, progress=self.watcher, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, int]:
    """The same run, not interrupted, and its calls."""
    counted = Counted()
    result = counted.run(tmp_path_factory.mktemp("whole"))
    return result, len(counted.engine.requests)


def journals(folder: Path) -> list[Journal]:
    return [Journal(path) for path in sorted((folder / ".cascade" / "runs" / "x").iterdir())]


def digest(result: Result) -> str:
    assert result.best.taken
    return result.best.taken.digest


@pytest.mark.parametrize("share", [0.02, 0.4, 0.97])
def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, whole: tuple[Result, int], share: float) -> None:
    uninterrupted, calls = whole
    counted = Counted()
    counted.stop_at = max(1, int(share * calls))
    with pytest.raises(Interrupted, match="stopped by the test"):
        counted.run(tmp_path)
    (journal,) = journals(tmp_path)
    first = journal.run
    assert first.status == "interrupted"
    assert first.ended
    answered = len(counted.engine.requests)
    assert counted.stop_at <= answered <= counted.stop_at + 8
    assert first.spent["lm_calls"] == answered

    counted.stop_at = None
    result = counted.run(tmp_path)
    assert len(journals(tmp_path)) == 1
    assert result.run_id == first.id
    assert counted.watcher.resumed == [False, True]
    assert len(counted.engine.requests) == calls
    assert result.spent.lm_calls == calls
    assert digest(result) == digest(uninterrupted)
    assert [d.reason for d in result.decisions] == [d.reason for d in uninterrupted.decisions]
    run = journal.run
    assert (run.status, run.spent["lm_calls"]) == ("completed", calls)
    assert sum(spent["lm_calls"] for spent in run.spent_by_stage.values()) == calls
    assert result.test is not None
    assert result.test.looks == 1


def test_interrupted_again_and_again_it_still_ends_the_same(tmp_path: Path, whole: tuple[Result, int]) -> None:
    uninterrupted, calls = whole
    counted, result = Counted(), None
    for attempt in range(1, 40):
        counted.stop_at = attempt * 75
        try:
            result = counted.run(tmp_path)
            break
        except Interrupted:
            assert journals(tmp_path)[0].run.status == "interrupted"
    assert result is not None
    assert len(counted.watcher.resumed) >= 4
    assert (len(counted.engine.requests), digest(result)) == (calls, digest(uninterrupted))
    assert len(journals(tmp_path)) == 1


def small(**options: Any) -> Experiment:
    return scripted.experiment(dev=30, test=30, **options)


CONTINUED: list[tuple[str, Callable[[Counted, Path], Result], bool]] = [
    ("as it was", lambda counted, folder: counted.run(folder, small()), True),
    ("with new", lambda counted, folder: counted.run(folder, small(), new=True), False),
    ("with another dataset", lambda counted, folder: counted.run(folder, small(train=31)), False),
    ("with another stage", lambda counted, folder: counted.run(folder, scripted.experiment(scripted.FOUR_STAGES[1], dev=30, test=30)), False),
    ("with another target", lambda counted, folder: counted.run(folder, small(target=0.9)), True),
    ("with another program", lambda counted, folder: counted.run(folder, small(program=Other)), False),
]  # fmt: skip


class Other(scripted.Asks):
    """The same file, another factory."""


class Mine(scripted.Asks):
    """Defined beside `Other`."""


@pytest.mark.filterwarnings("ignore:.*imports 'scripted', a file of the project")
@pytest.mark.parametrize(("_name", "again", "continued"), CONTINUED, ids=[name for name, *_ in CONTINUED])
def test_only_the_same_definition_is_continued(
    tmp_path: Path, _name: str, again: Callable[[Counted, Path], Result], continued: bool
) -> None:
    counted = Counted()
    counted.stop_at = 20
    with pytest.raises(Interrupted):
        counted.run(tmp_path, small())
    first = journals(tmp_path)[0].run.id
    result = again(counted, tmp_path)
    assert (result.run_id == first) is continued
    assert counted.watcher.resumed[-1] is continued
    assert len(journals(tmp_path)) == (1 if continued else 2)


def task(**options: Any) -> dict[str, LMSpec]:
    return {"task": LMSpec("scripted/base", options)}


SETTINGS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"threads": 2}, True),
    ({"ledger_gb": 1.0}, True),
    ({"lm": task(num_retries=3, timeout=9, extra_headers={"Authorization": "x"}, aws_secret_access_key="x")}, True),
    ({"seed": 2}, False),
    ({"force_format": False}, False),
    ({"deterministic": False}, False),
    ({"lm": task(temperature=0.5)}, False),
    ({"lm": task(max_tokens=9)}, False),
    ({"lm": task(api_base="http://localhost:1/v1")}, False),
    ({"lm": {**task(), "teacher": LMSpec("scripted/teacher")}}, False),
]


@pytest.mark.parametrize(("options", "same"), SETTINGS)
def test_settings_that_change_answers_are_part_of_the_definition(
    tmp_path: Path, options: dict[str, Any], same: bool
) -> None:
    engine = ScriptedEngine(scripted.answer)
    before = scripted.prepared(small(), tmp_path, engine, lm=task())
    after = scripted.prepared(small(), tmp_path, engine, **{"lm": task(), **options})
    assert (after.signature == before.signature) is same


def test_under_another_seed_a_new_run_begins_and_under_the_old_one_the_first_goes_on(tmp_path: Path) -> None:
    counted = Counted()
    counted.stop_at = 20
    with pytest.raises(Interrupted):
        counted.run(tmp_path, small())
    (first,) = journals(tmp_path)
    other = execute(scripted.prepared(small(), tmp_path, counted.engine, seed=2))
    assert other.run_id != first.run.id
    assert counted.run(tmp_path, small()).run_id == first.run.id


def test_two_factories_of_one_file_are_two_definitions(tmp_path: Path) -> None:
    engine = ScriptedEngine(scripted.answer)
    one, two = (scripted.prepared(small(program=program), tmp_path, engine) for program in (Mine, Other))
    assert one.parts["source"] != two.parts["source"]


def test_after_it_ended_a_run_is_not_continued(tmp_path: Path) -> None:
    counted = Counted()
    first, second = counted.run(tmp_path, small()), counted.run(tmp_path, small())
    assert first.run_id != second.run_id
    assert counted.watcher.resumed == [False, False]


def test_a_run_that_was_killed_is_continued(tmp_path: Path) -> None:
    """A journal that says `running` although nobody holds the lock is one whose process died."""
    counted = Counted()
    counted.stop_at = 20
    with pytest.raises(Interrupted):
        counted.run(tmp_path, small())
    journals(tmp_path)[0].update(status="running")
    assert counted.run(tmp_path, small()).run_id == journals(tmp_path)[0].run.id
    assert len(counted.engine.requests) == 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_and_its_handler_is_the_user_s_again(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    sent: list[int] = []

    def answer(model: str, inputs: Any, demos: int) -> Any:
        if len(engine.requests) >= 9 and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        time.sleep(0.01)
        return scripted.answer(model, inputs, demos)

    engine = ScriptedEngine(answer)
    with pytest.raises(Interrupted, match="interrupted; run again to go on"):
        scripted.run(small(), tmp_path, engine)
    assert 9 < len(engine.requests) < 40
    assert journals(tmp_path)[0].run.status == "interrupted"
    assert signal.getsignal(number) is before


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import scripted
from cascade.errors import Interrupted
from cascade.testing import ScriptedEngine, ScriptedLMs
from test_resume import FOUR
engine = ScriptedEngine(scripted.answer, latency=0.02)
try:
    scripted.run(FOUR, Path(sys.argv[2]), engine)
except Interrupted as error:
    print(len(engine.requests), error)
    sys.exit(130)
"""


def test_ctrl_c_to_the_process(tmp_path: Path, whole: tuple[Result, int]) -> None:
    uninterrupted, calls = whole
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stage = "1-instructions"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(f".cascade/runs/x/*/{stage}/optimizer.log")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    answered = int(output.split()[0])
    assert "interrupted; run again to go on" in output
    assert journals(tmp_path)[0].run.status == "interrupted"
    assert journals(tmp_path)[0].run.spent["lm_calls"] == answered
    counted = Counted()
    result = counted.run(tmp_path)
    assert counted.watcher.resumed == [True]
    assert digest(result) == digest(uninterrupted)
    assert len(counted.engine.requests) == calls - answered
    assert result.spent.lm_calls == calls


class Free(ScriptedLMs):
    """A script whose answers cost nothing, as those of embedded models do."""

    def model(self, name: str) -> str:
        return "embedded/script"


class Pays(Teleprompter):
    """Changes the instructions; the first time it pays five dollars, the next time the ledger answers."""

    watcher = Watcher()

    def __init__(self, text: str = "", pays: bool = True) -> None:
        super().__init__()
        self.text, self.pays = text, pays

    def compile(self, student: Any, *, trainset: Any) -> Any:
        meter = self.watcher.meter
        assert meter
        if len(self.watcher.resumed) == 1 and self.pays:
            meter.reserve()
            meter.bill("task", 0, 0, 5.0)
        elif len(self.watcher.resumed) == 1:
            meter.interrupt("stopped by the test")
        student.ask.signature = student.ask.signature.with_instructions(self.text)
        return student


def test_what_a_stage_cost_before_an_interruption_counts_when_it_is_decided_again(tmp_path: Path) -> None:
    stages = (
        Stage("pays", Pays, lever="prompt", text="One."),
        Stage("interrupted", Pays, lever="prompt", text="Two.", pays=False),
        Stage("weights", Pays, lever="weights", text="Three."),
    )
    defined = scripted.experiment(*stages, plateau=Plateau(patience=2, max_cost_per_point=0.01))
    settings = scripted.settings_in(tmp_path)
    ready = prepare(defined, settings, Free(settings, ScriptedEngine(scripted.answer)))
    with pytest.raises(Interrupted):
        execute(ready, progress=Pays.watcher)
    result = execute(ready, progress=Pays.watcher)
    assert Pays.watcher.resumed == [False, True]
    assert result.status == "plateau"
    assert "$5.00 since the anchor" in result.decisions[-1].reason
