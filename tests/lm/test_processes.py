"""Several processes with one ledger: a question that they ask at once is paid for once, and nobody waits for the dead."""

import contextvars
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.errors import Interrupted
from cascade.experiment import Budget
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.testing import ScriptedEngine, ScriptedLMs

_ASKER = """
import json, sys, time
from pathlib import Path
folder, tests, latency, count = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
name, together = int(sys.argv[5]), int(sys.argv[6])
sys.path.insert(0, tests)
import dspy, scripted
from test_processes import asking
with asking(folder, latency, together) as (gateway, engine):
    order = [(number + name * count // together) % count for number in range(count)]
    examples = [dspy.Example(question=f"question {number}").with_inputs("question") for number in order]
    answers = dspy.Parallel(num_threads=8, disable_progress_bar=True)([(scripted.Asks(), each) for each in examples])
spent = gateway.meter.spent
print(json.dumps([spent.lm_calls, spent.lm_calls_cached, {number: each.answer for number, each in zip(order, answers)}]))
"""


@contextmanager
def asking(folder: Path, latency: float, together: int = 1) -> Iterator[tuple[Gateway, ScriptedEngine]]:
    """A gateway on the ledger in `folder`, and an engine that notes there what it was asked.

    Args:
        together: processes that must be in the middle of a call before any of them answers.
    """

    def answer(model: str, inputs: Any, demos: int) -> Any:
        with (folder / "asked").open("a") as file:
            file.write(inputs["question"] + "\n")
        (folder / f"at work {os.getpid()}").touch()
        wait_for(lambda: len(list(folder.glob("at work *"))) >= together)
        time.sleep(latency)
        return scripted.answer(model, inputs, demos)

    engine = ScriptedEngine(answer)
    lms = ScriptedLMs(scripted.settings_in(folder), engine)
    task = dspy.context(lm=lms["task"], adapter=lms.adapter)
    with Ledger(folder / "ledger.db") as ledger, installed(Gateway(ledger, Meter(Budget()))) as gateway, task:
        yield gateway, engine


def asked(folder: Path) -> list[str]:
    path = folder / "asked"
    return path.read_text().splitlines() if path.exists() else []


def started(folder: Path, latency: float, count: int, name: int = 0, together: int = 1) -> "subprocess.Popen[str]":
    arguments = (folder, Path(__file__).parents[1], latency, count, name, together)
    return subprocess.Popen(
        [sys.executable, "-c", _ASKER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )


def wait_for(what: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert what()


def test_what_three_processes_ask_at_once_is_paid_for_once(tmp_path: Path) -> None:
    count = 60
    children = [started(tmp_path, 0.02, count, number, together=3) for number in range(3)]
    ends = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert Counter(asked(tmp_path)) == Counter(f"question {number}" for number in range(count))
    assert sum(calls for calls, _, _ in ends) == count
    assert sum(hits for _, hits, _ in ends) == 2 * count
    assert ends[0][2] == ends[1][2] == ends[2][2]
    assert all(calls for calls, _, _ in ends)


def ask(question: str) -> "tuple[threading.Thread, list[Any]]":
    """Ask in a thread; what came out is in the list once it has ended."""
    ends: list[Any] = []

    def work() -> None:
        try:
            ends.append(scripted.Asks()(question=question).answer)
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    thread.start()
    return thread, ends


@pytest.fixture
def elsewhere(tmp_path: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process in the middle of a call that takes a minute."""
    child = started(tmp_path, 60, 1)
    wait_for(lambda: asked(tmp_path))
    yield child
    child.kill()
    child.communicate()


def test_a_killed_process_is_not_waited_for(tmp_path: Path, elsewhere: "subprocess.Popen[str]") -> None:
    with asking(tmp_path, 0) as (gateway, engine):
        thread, ends = ask("question 0")
        time.sleep(0.3)
        assert (engine.requests, ends) == ([], [])
        elsewhere.send_signal(signal.SIGKILL)
        thread.join(5)
        assert ends == [scripted.answer("scripted/base", {"question": "question 0"}, 0)["answer"]]
        assert gateway.meter.spent.lm_calls == 1


def test_a_process_that_stands_still_is_waited_for_only_so_long(
    tmp_path: Path, elsewhere: "subprocess.Popen[str]"
) -> None:
    elsewhere.send_signal(signal.SIGSTOP)
    with asking(tmp_path, 0) as (gateway, engine):
        gateway.patience = 0.5
        begun = time.monotonic()
        thread, ends = ask("question 0")
        thread.join(20)
        assert 0.4 < time.monotonic() - begun < 10
        assert len(engine.requests) == len(ends) == 1
        assert gateway.meter.in_flight == 0
        assert not gateway.ledger.claims.take(claimed_elsewhere(gateway))
    elsewhere.send_signal(signal.SIGCONT)


def claimed_elsewhere(gateway: Gateway) -> str:
    """The key of the one question in the ledger."""
    with gateway.ledger.connection() as connection:
        return str(connection.execute("SELECT key FROM calls").fetchone()[0])


def test_who_waits_for_another_process_can_be_interrupted(tmp_path: Path, elsewhere: "subprocess.Popen[str]") -> None:
    with asking(tmp_path, 0) as (gateway, engine):
        thread, ends = ask("question 0")
        time.sleep(0.2)
        gateway.meter.interrupt("by hand")
        thread.join(5)
        assert [type(end) for end in ends] == [Interrupted]
        assert engine.requests == []
        assert elsewhere.poll() is None


def test_other_questions_do_not_wait(tmp_path: Path, elsewhere: "subprocess.Popen[str]") -> None:
    with asking(tmp_path, 0) as (_, engine):
        thread, ends = ask("another question")
        thread.join(10)
        assert len(engine.requests) == len(ends) == 1
        assert elsewhere.poll() is None
