"""Runs and their ledger: damage never costs more than a call, a full disk keeps what was paid for, fresh pays once."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.clients.cache import Cache
from test_resume import FOUR

from cascade.cli import main
from cascade.errors import Interrupted, LedgerError
from cascade.experiment import Stage
from cascade.journal import Journal, unfinished
from cascade.lm.ledger import Ledger
from cascade.progress import Silent
from cascade.result import Result
from cascade.runner import execute
from cascade.testing import ScriptedEngine

DEMOS = (Stage("demos", dspy.BootstrapFewShot),)


class Told(Silent):
    """Keeps warnings, and the meter of the run."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.meter: Any = None

    def begin(self, prepared: Any, journal: Any, meter: Any, resumed: bool) -> None:
        self.meter = meter

    def warn(self, sentence: str) -> None:
        self.sentences.append(sentence)


def run(
    folder: Path, *, answer: Any = scripted.answer, told: Told | None = None, **options: Any
) -> tuple[Result, ScriptedEngine]:
    engine = ScriptedEngine(answer)
    return scripted.run(scripted.experiment(*DEMOS), folder, engine, progress=told or Told(), **options), engine


def ledger_in(folder: Path) -> Path:
    return folder / ".cascade" / "ledger.db"


def change(folder: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(ledger_in(folder))
    with connection:
        connection.execute(statement, values)
    connection.close()


def another_program_s(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (name TEXT)")
    connection.commit()
    connection.close()


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("my notes " * 500),
    "another program's database": another_program_s,
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("make", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_is_no_ledger_is_told_in_a_line_before_anything_is_spent(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    ledger_in(tmp_path).parent.mkdir()
    make(ledger_in(tmp_path))
    engine = ScriptedEngine(scripted.answer)
    with pytest.raises(LedgerError, match=f"^The ledger {ledger_in(tmp_path)} is .* away to start a new") as caught:
        scripted.run(scripted.experiment(), tmp_path, engine)
    assert "\n" not in str(caught.value)
    assert engine.requests == []
    assert not (tmp_path / ".cascade" / "runs").exists()
    if ledger_in(tmp_path).is_dir():
        ledger_in(tmp_path).rmdir()
    else:
        ledger_in(tmp_path).unlink()
    assert run(tmp_path)[0].status == "completed"


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, int]:
    """A project whose run has ended, its result, and how many calls it took."""
    folder = tmp_path_factory.mktemp("paid")
    result, engine = run(folder)
    return folder, result, len(engine.requests)


DAMAGE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "garbage": ("UPDATE calls SET answer = ?", (b"\xff\x00garbage",)),
    "half a record": ("UPDATE calls SET answer = substr(answer, 1, 100)", ()),
    "foreign JSON": ("UPDATE calls SET answer = ?", (b'{"name": "someone else", "list": [1, 2]}',)),
    "another kind": ("UPDATE calls SET kind = 'litellm'", ()),
    "a record without choices": ("UPDATE calls SET kind = 'litellm', answer = ?", (b'{"usage": {}, "model": "m"}',)),
    "a record without outputs": ("UPDATE calls SET answer = json_remove(CAST(answer AS TEXT), '$.outputs')", ()),
    "an output that is no text": ("UPDATE calls SET answer = json_set(CAST(answer AS TEXT), '$.outputs[0]', 5)", ()),
    "huge nesting": ("UPDATE calls SET answer = ?", (b'{"a":' * 50_000 + b"1" + b"}" * 50_000,)),
    "a pickle": ("UPDATE calls SET kind = 'pickle', answer = ?", (b"cos\nsystem\n(S'touch /tmp/never'\ntR.",)),
    "tokens that are no number": ("UPDATE calls SET input_tokens = 'many'", ()),
    "bytes where text belongs": ("UPDATE calls SET kind = CAST(x'ff00fe' AS TEXT)", ()),
}


@pytest.mark.parametrize(("statement", "values"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_answer_is_asked_for_again(
    tmp_path: Path, paid: tuple[Path, Result, int], statement: str, values: tuple[Any, ...]
) -> None:
    folder, before, calls = paid
    shutil.copytree(folder / ".cascade", tmp_path / ".cascade")
    change(tmp_path, f"{statement} WHERE rowid % 3 = 0", *values)
    damaged = calls // 3
    result, engine = run(tmp_path)
    assert len(engine.requests) == damaged
    assert result.best.taken and before.best.taken
    assert result.best.taken.digest == before.best.taken.digest
    assert [stage.dev.scores for stage in result.stages] == [stage.dev.scores for stage in before.stages]
    assert run(tmp_path)[1].requests == []


def test_a_damaged_file_is_told_in_a_line_and_repaired_by_what_the_line_says(
    tmp_path: Path, paid: tuple[Path, Result, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(paid[0] / ".cascade", tmp_path / ".cascade")
    os.truncate(ledger_in(tmp_path), ledger_in(tmp_path).stat().st_size * 3 // 4)
    with pytest.raises(LedgerError, match=r"is damaged: .* `cascade ledger check --repair` saves what can be read"):
        run(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["ledger", "check", "--repair"]) == 0
    assert "Repaired: saved" in capsys.readouterr().out
    result, engine = run(tmp_path)
    assert result.status == "completed"
    assert 0 < len(engine.requests) < paid[2] * 3 // 4


_LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import scripted
from cascade.errors import LedgerError
from cascade.testing import ScriptedEngine
from test_resume import FOUR
engine = ScriptedEngine(scripted.answer)
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))
try:
    scripted.run(FOUR, Path(sys.argv[2]), engine)
except LedgerError as error:
    print(len(engine.requests))
    print(error)
    sys.exit(error.exit_code)
"""


def test_when_nothing_more_can_be_written_the_run_stops_and_what_was_paid_for_stays(tmp_path: Path) -> None:
    """A limit on file sizes stands in for a full disk: the system refuses the write in the same place."""
    whole = ScriptedEngine(scripted.answer)
    expected = scripted.run(FOUR, tmp_path / "whole", whole)
    command = [sys.executable, "-c", _LIMITED, str(Path(__file__).parent), str(tmp_path / "limited")]
    child = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    calls, *message = child.stdout.splitlines()
    assert (child.returncode, len(message), "Traceback" in child.stderr) == (1, 1, False)
    assert f"The ledger {ledger_in(tmp_path / 'limited')} cannot be written" in message[0]
    assert "Free disk space and run again: what was answered is kept." in message[0]
    (journal,) = (Journal(path) for path in (tmp_path / "limited/.cascade/runs/x").iterdir())
    assert (journal.run.status, journal.run.summary) == ("interrupted", f"interrupted: {message[0]}")
    with Ledger(ledger_in(tmp_path / "limited")) as ledger:
        kept = len(ledger)
    assert int(calls) - 4 <= kept <= int(calls)
    engine = ScriptedEngine(scripted.answer)
    result = scripted.run(FOUR, tmp_path / "limited", engine)
    assert len(engine.requests) == len(whole.requests) - kept
    assert result.run_id == journal.run.id
    assert result.best.taken.digest == expected.best.taken.digest


def stopped_at(number: int, told: Told) -> Any:
    count = [0]

    def answer(model: str, inputs: Any, demos: int) -> Any:
        count[0] += 1
        if count[0] == number:
            told.meter.interrupt("stopped by the test")
        return scripted.answer(model, inputs, demos)

    return answer


@pytest.mark.parametrize("again", [{}, {"fresh": True}])
def test_going_on_with_a_fresh_run_repeats_nothing(
    tmp_path: Path, paid: tuple[Path, Result, int], again: dict[str, bool]
) -> None:
    folder, _, calls = paid
    shutil.copytree(folder / ".cascade", tmp_path / ".cascade")
    told = Told()
    with pytest.raises(Interrupted):
        run(tmp_path, answer=stopped_at(50, told), told=told, fresh=True)
    (name,) = unfinished(tmp_path / ".cascade")
    record = Journal(tmp_path / ".cascade" / "runs" / name.replace(" ", "/")).run
    assert record.fresh
    result, engine = run(tmp_path, **again)
    assert result.run_id == record.id
    assert record.spent["lm_calls"] + len(engine.requests) == calls
    assert result.spent.lm_calls == calls
    assert run(tmp_path)[1].requests == []
    assert len(run(tmp_path, fresh=True)[1].requests) == calls


def test_an_interrupted_run_can_be_made_fresh(tmp_path: Path, paid: tuple[Path, Result, int]) -> None:
    told = Told()
    with pytest.raises(Interrupted):
        run(tmp_path, answer=stopped_at(50, told), told=told)
    result, engine = run(tmp_path, fresh=True)
    assert len(engine.requests) == paid[2]
    assert result.spent.lm_calls >= paid[2] + 50


class Replaces(scripted.Asks):
    """A program that sets up DSPy's cache in the middle of a run."""

    def forward(self, question: str) -> Any:
        if question == "dev 7":
            dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
        return super().forward(question)


def test_a_program_that_replaces_the_cache_is_warned_of_and_the_run_goes_on_in_the_ledger(tmp_path: Path) -> None:
    told, engine, before = Told(), ScriptedEngine(scripted.answer), dspy.cache
    result = scripted.run(scripted.experiment(*DEMOS, program=Replaces), tmp_path, engine, progress=told)
    assert len([each for each in told.sentences if "Something replaced dspy.cache during the run" in each]) >= 1
    assert result.spent.lm_calls == len(engine.requests)
    with Ledger(ledger_in(tmp_path)) as ledger:
        assert len(engine.requests) - 20 <= len(ledger) < len(engine.requests)
    assert dspy.cache is before


class Unseen(scripted.Asks):
    """Replaces the cache and asks nothing afterwards, so that only a look between stages can tell."""

    def forward(self, question: str) -> Any:
        try:
            return super().forward(question)
        finally:
            if question == "dev 39":
                dspy.cache = Cache(False, True, None)


def test_the_seat_is_looked_at_between_stages(tmp_path: Path) -> None:
    told, engine = Told(), ScriptedEngine(scripted.answer)
    defined = scripted.experiment(program=Unseen)
    options = {"threads": 1}
    prepared = scripted.prepared(defined, tmp_path, engine, **options)
    result = execute(prepared, progress=told)
    assert "Something replaced dspy.cache" in told.sentences[-1]
    with Ledger(ledger_in(tmp_path)) as ledger:
        assert len(ledger) == len(engine.requests) == result.spent.lm_calls == 80


def test_the_limit_of_the_settings_holds_and_what_an_interrupted_run_needs_stays(tmp_path: Path) -> None:
    told = Told()
    with pytest.raises(Interrupted):
        run(tmp_path, answer=stopped_at(50, told), told=told)
    engine, told = ScriptedEngine(scripted.answer), Told()
    other = scripted.experiment(name="y", train=30, dev=60, test=60)
    execute(scripted.prepared(other, tmp_path, engine, ledger_gb=1e-5), progress=told)
    assert any("runs that are not over may need what is left: x 2" in sentence for sentence in told.sentences)
    result, engine = run(tmp_path)
    assert len(engine.requests) + 50 <= result.spent.lm_calls + 4
    execute(scripted.prepared(other, tmp_path, ScriptedEngine(scripted.answer), ledger_gb=1e-5, seed=2), progress=told)
    assert any("answers that were used longest ago are dropped" in sentence for sentence in told.sentences)
