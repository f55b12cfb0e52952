"""The faults of the state folder: disk, journal, ledger, weights, and the clock that orders it.

In the manner of `fault_cases`.
"""

import hashlib
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

from fault_cases import ONE, WHOLE, Seen
from fault_mlflow_cases import runs
from fault_project import ROWS, Done, Project, Running, until

from cascade.testing import Reply

RUN = ("run", "letters")
LIMIT = 150_000
"""Bytes that a file may have where a disk is full: the ledger reaches it in the middle of a run."""


def disk_full(project: Project) -> Seen:
    """the disk is full: the ledger cannot be written"""
    done = project.run(limit=LIMIT)
    answered, asked = project.answers, len(project.asked)
    assert 0 < answered <= asked < WHOLE
    assert project.journal.run.status == "interrupted"
    _goes_on(project, WHOLE - answered)
    return Seen(
        done.last, done.code, "every answer that came before", "running again goes on; it repeats no recorded answer"
    )


def journal_full(project: Project) -> Seen:
    """the disk is full: the journal cannot be written"""
    running: list[Running] = []

    def fill() -> None:
        folder = project.journal.folder / "0-baseline"
        folder.mkdir()
        (folder / f".program.json.{running[0].process.pid}").symlink_to("/dev/full")

    project.faults.at[ROWS // 2] = fill
    running.append(project.start())
    done = running[0].wait()
    answered = project.answers
    assert (answered, project.journal.run.status) == (ROWS, "interrupted")
    _goes_on(project, WHOLE - answered)
    return Seen(done.last, done.code, "every answer that came", "running again goes on; it repeats no recorded answer")


def no_state(project: Project) -> Seen:
    """the state folder cannot be written from the start"""
    project.write(".cascade", "not a folder")
    done = project.run()
    assert project.asked == []
    project.home.unlink()
    assert project.run().code == 0
    return Seen(done.last, done.code, "nothing was asked", "make it writable and run again")


def clock_in_a_run(project: Project) -> Seen:
    """the clock jumps back a day in the middle"""
    project.faults.at[ROWS // 2] = lambda: _jump(project)
    done = project.run(back=86_400)
    record, stages = project.journal.run, project.journal.stages()
    assert record.ended and record.ended >= record.started
    assert all(stage.ended >= stage.started for stage in stages)
    assert project.answers == len(project.asked) == WHOLE
    return Seen(
        done.line("Best: "),
        done.code,
        "everything; no moment before the run's begin is noted",
        "as ever: time spent is measured on another clock",
    )


def clock_between_runs(project: Project) -> Seen:
    """the clock was put back a day before the next run, which is interrupted"""
    project.options |= {"timeout": 90.0}
    assert project.run().code == 0
    first = project.journal.run
    _jump(project)
    project.faults.reply = lambda question: Reply(hang=True) if question == ONE else None
    running = project.start("run", "letters", "--no-mlflow", "--fresh", back=86_400)
    until(lambda: project.asked.count(ONE) == 2)
    until(lambda: project.answers == WHOLE + ROWS - 1)
    running.signal(signal.SIGKILL)
    running.process.join(30)
    second = project.journal.run
    assert second.id > first.id and second.started > first.started
    project.faults.reply = lambda _question: None
    again = project.run(back=86_400)
    assert again.code == 0
    assert project.journal.run.id == second.id
    assert len(project.asked) == 2 * WHOLE + 1
    return Seen(
        again.err.splitlines()[0],
        again.code,
        "everything; runs stand in the order in which they began",
        "the interrupted run is the newest, and is gone on with",
    )


def damaged_run(project: Project) -> Seen:
    """a journal is damaged: `cascade run`"""
    folder = _interrupted(project)
    answered = project.answers
    (folder / "run.json").write_text('{"id": "x", "experi')
    asked = len(project.asked)
    done = project.run()
    assert len(project.asked) - asked == WHOLE - answered
    return Seen(
        done.line("warning: "),
        done.code,
        "all other runs, and every answer",
        "a new run begins; no recorded answer is paid for again",
    )


def damaged_kinds(project: Project) -> Seen:
    """a journal holds the wrong kinds of values: `cascade list`"""
    folder = _interrupted(project)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "started": "yesterday", "spent": [1]}))
    done = project.run("list")
    assert "last run  never" in done.out
    assert project.run().code == 0
    return Seen(
        done.line("warning: "),
        done.code,
        "all other runs, and every answer",
        "`cascade run` warns and begins a new run",
    )


def damaged_stage(project: Project) -> Seen:
    """a stage of a journal is damaged: `cascade show`"""
    assert project.run().code == 0
    (project.journal.folder / "0-baseline" / "record.json").write_bytes(b"\xff\x00")
    done = project.run("show", "letters")
    assert done.err.count("\n") == 2
    assert project.run().code == 0
    assert project.run("show", "letters").code == 0
    return Seen(
        done.line("is passed over"),
        done.code,
        "all other runs, and every answer",
        "`cascade show` shows the newest run that can be read",
    )


def damaged_behind(project: Project) -> Seen:
    """a journal is damaged that MLflow has not got yet"""
    assert project.run().code == 0
    (project.journal.folder / "1-demos" / "record.json").write_text("[]")
    assert project.run().code == 0
    uri = project.environ["MLFLOW_TRACKING_URI"] = project.mlflow()
    done = project.run(*RUN)
    assert runs(uri) == 2, "this run, and the one behind that is whole"
    return Seen(done.line("warning: "), done.code, "all other runs, and every answer", "all others are sent")


def damaged_ledger(project: Project) -> Seen:
    """the ledger is damaged"""
    assert project.run().code == 0
    file = project.home / "ledger.db"
    _checkpoint(file)
    os.truncate(file, file.stat().st_size * 3 // 4)
    done = project.run()
    asked = len(project.asked)
    assert project.run("ledger", "check", "--repair").code == 0
    assert project.run().code == 0
    assert 0 < len(project.asked) - asked < WHOLE
    return Seen(
        done.last,
        done.code,
        "the journal, and what can be read of the ledger",
        "after the repair, only what was lost is asked again",
    )


def damaged_answer(project: Project) -> Seen:
    """an answer in the ledger is damaged"""
    assert project.run().code == 0
    connection = sqlite3.connect(project.home / "ledger.db")
    with connection:
        connection.execute("UPDATE calls SET answer = ? WHERE rowid <= 3", (b"\xff\x00cos\nsystem",))
    connection.close()
    done = project.run()
    assert len(project.asked) == WHOLE + 3
    return Seen(done.line("0-baseline: dev"), done.code, "all other answers", "it is asked again")


def damaged_weights(project: Project) -> Seen:
    """the embedded model's weights are damaged"""
    models = project.home / "models"
    models.mkdir(parents=True)
    (models / "smollm2-135m.gguf").write_bytes(b"GGUF damaged")
    facts = {"sha256": hashlib.sha256(b"GGUF").hexdigest(), "chat_template": "x", "quantisation": "Q8_0"}
    (models / "smollm2-135m.json").write_text(json.dumps(facts))
    project.environ["CASCADE_LM"] = "embedded/smollm2-135m"
    done = project.run()
    assert "cascade models prepare" in done.last
    return Seen(_short(done.last), done.code, "all else", "delete the file, as the line says, and prepare it again")


def _jump(project: Project) -> None:
    project.write("jump", "")


def _interrupted(project: Project) -> Path:
    project.options |= {"timeout": 90.0}
    project.faults.reply = lambda question: Reply(hang=True) if question == ONE else None
    running = project.start()
    until(lambda: ONE in project.asked and len(project.asked) == ROWS)
    until(lambda: project.answers == ROWS - 1)
    running.signal(signal.SIGKILL)
    running.process.join(30)
    project.faults.reply = lambda _question: None
    return project.journal.folder


def _goes_on(project: Project, questions: int) -> Done:
    run, before = project.journal.run.id, len(project.asked)
    again = project.run()
    assert (again.code, project.journal.run.id) == (0, run)
    assert len(project.asked) - before == questions
    return again


def _checkpoint(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _short(line: str) -> str:
    """With less of each hash."""
    return " ".join(word if len(word.strip(".,")) != 64 else f"{word[:12]}…" for word in line.split())


CASES: tuple[Callable[[Project], Seen], ...] = (
    disk_full, journal_full, no_state, clock_in_a_run, clock_between_runs, damaged_run, damaged_kinds, damaged_stage,
    damaged_behind, damaged_ledger, damaged_answer, damaged_weights,
)  # fmt: skip
