"""The faults of processes: signals, two runs at once, sudden death.

In the manner of `fault_cases`.
"""

import signal
import threading
from collections.abc import Callable

from fault_cases import ONE, WHOLE, Seen
from fault_project import ROWS, Project, Running, until

from cascade.testing import Reply


def ctrl_c(project: Project) -> Seen:
    """Ctrl-C"""
    return _stopped_by(project, signal.SIGINT)


def sigterm(project: Project) -> Seen:
    """SIGTERM"""
    return _stopped_by(project, signal.SIGTERM)


def ctrl_c_twice(project: Project) -> Seen:
    """Ctrl-C twice, while an LM does not answer"""
    project.options |= {"timeout": 90.0}
    project.faults.reply = lambda question: Reply(hang=True) if question == ONE else None
    running = project.start()
    until(lambda: ONE in project.asked)
    running.signal(signal.SIGINT)
    running.process.join(0.5)
    assert running.process.is_alive(), "once waits for what is in flight"
    running.signal(signal.SIGINT)
    done = running.wait(30)
    assert project.journal.run.status == "interrupted"
    _goes_on(project)
    return Seen(
        done.last,
        done.code,
        "every answer that came; the journal: `interrupted`",
        "running again goes on; it repeats no recorded answer",
    )


def at_once(project: Project) -> Seen:
    """a second run of the same experiment at once"""
    gate = threading.Event()
    project.faults.at[8] = lambda: gate.wait(60) and None
    first = project.start()
    until(lambda: project.faults.reached >= 8)
    refused = project.run()
    gate.set()
    assert first.wait().code == 0
    assert len(list((project.home / "runs" / "letters").iterdir())) == 1
    return Seen(
        refused.last, refused.code, "everything; the first run is not disturbed", "run it when the first has ended"
    )


def killed(project: Project) -> Seen:
    """kill -9, while the run holds its lock and claims"""
    project.options |= {"timeout": 90.0}
    project.faults.reply = lambda question: Reply(hang=True) if question == ONE else None
    running = project.start()
    until(lambda: ONE in project.asked and len(project.asked) == ROWS)
    until(lambda: project.answers == ROWS - 1)
    running.signal(signal.SIGKILL)
    running.process.join(30)
    project.faults.reply = lambda _question: None
    again = project.run()
    assert again.code == 0
    assert len(project.asked) == WHOLE + 1, "only what was in flight is asked again"
    return Seen(
        again.err.splitlines()[0],
        again.code,
        "every answer that came",
        "running again goes on; only what was in flight is asked again",
    )


def _stopped_by(project: Project, number: int) -> Seen:
    gate = threading.Event()
    running: list[Running] = []

    def stop() -> None:
        running[0].signal(number)
        gate.wait(60)

    project.faults.at[8] = stop
    running.append(project.start())
    until(lambda: "Stopping: " in running[0].said)
    gate.set()
    done = running[0].wait()
    record = project.journal.run
    assert record.status == "interrupted"
    assert 8 <= record.spent["lm_calls"] == project.answers == len(project.asked) < ROWS, "what was in flight is kept"
    _goes_on(project)
    return Seen(
        f"{done.line('Stopping: ')} {done.last}",
        done.code,
        "every answer, also those that were in flight; the journal: `interrupted`",
        "running again goes on; it repeats no recorded answer",
    )


def _goes_on(project: Project) -> None:
    project.faults.reply = lambda _question: None
    run, answered, before = project.journal.run.id, project.answers, len(project.asked)
    again = project.run()
    assert (again.code, project.journal.run.id) == (0, run)
    assert f"Going on with run {run}" in again.err
    assert len(project.asked) - before == WHOLE - answered


CASES: tuple[Callable[[Project], Seen], ...] = (ctrl_c, sigterm, ctrl_c_twice, at_once, killed)
