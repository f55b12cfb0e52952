"""The ledger: what was answered stays answered, through damage, forks and two processes."""

import copy
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import LedgerError
from cascade.lm.ledger import Answer, Ledger

ANSWER = Answer("lm15", {"text": "é", "usage": {"prompt_tokens": 3}}, 3, 2, 0.25, 1.5)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    ledger = Ledger(tmp_path / "deep" / "ledger.db")
    yield ledger
    ledger.close()


def add(ledger: Ledger, key: str, answer: Answer = ANSWER) -> None:
    ledger.add(key, answer, model="m", role="task")


@pytest.mark.parametrize(
    "answer", [ANSWER, Answer("json", "text", 0, 0, None, 0.0), Answer("litellm", [1, None], 1, 1, 0.0, 2.0)]
)
def test_an_answer_comes_back_as_it_was(ledger: Ledger, answer: Answer) -> None:
    assert ledger.find("k") is None
    add(ledger, "k", answer)
    assert ledger.find("k") == answer
    assert ledger.find("other") is None
    assert len(ledger) == 1


def test_it_is_still_there_after_closing(ledger: Ledger) -> None:
    add(ledger, "k")
    ledger.close()
    assert ledger.find("k") == ANSWER
    other = Ledger(ledger.path)
    assert other.find("k") == ANSWER
    other.close()


def test_a_ledger_is_never_copied(ledger: Ledger) -> None:
    assert copy.deepcopy([ledger])[0] is ledger


@pytest.mark.parametrize("damage", [b"{", b"", b"\xff\xfe", "{half"])
def test_a_damaged_row_is_a_miss_and_can_be_answered_again(ledger: Ledger, damage: object) -> None:
    add(ledger, "k")
    ledger.close()
    connection = sqlite3.connect(ledger.path)
    with connection:
        connection.execute("UPDATE calls SET answer = ?", (damage,))
    connection.close()
    assert ledger.find("k") is None
    add(ledger, "k")
    assert ledger.find("k") == ANSWER


def test_a_foreign_file_is_named_with_the_fix_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("these are my notes, not a database, and long enough to be looked at as one" * 30)
    ledger = Ledger(path)
    with pytest.raises(LedgerError) as caught:
        ledger.find("k")
    ledger.close()
    assert f"The ledger {path} cannot be used" in str(caught.value)
    assert "move the file away to start a new one" in str(caught.value)
    assert path.read_text().startswith("these are my notes")


def test_another_program_s_database_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE calls (name TEXT)")
    connection.commit()
    connection.close()
    ledger = Ledger(path)
    with pytest.raises(LedgerError, match="no such column"):
        ledger.find("k")
    ledger.close()


def test_a_folder_that_cannot_be_made_is_a_ledger_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"The ledger .*file/ledger\.db cannot be used"):
        Ledger(tmp_path / "file" / "ledger.db").find("k")


def test_many_threads_write_at_once(ledger: Ledger) -> None:
    threads = [
        threading.Thread(target=lambda start=start: [add(ledger, f"{start} {n}") for n in range(50)] and None)
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger) == 400


_WRITER = """
import sys
from pathlib import Path
from cascade.lm.ledger import Answer, Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(150):
    ledger.add(f"{sys.argv[2]} {number}", Answer("json", {"n": number}, 1, 1, None, 0.1), model="m", role="task")
    ledger.add(f"both {number}", Answer("json", {"n": number}, 1, 1, None, 0.1), model="m", role="task")
"""


def test_two_processes_write_at_once(ledger: Ledger) -> None:
    ledger.path.parent.mkdir()
    command = [sys.executable, "-c", _WRITER, str(ledger.path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(ledger) == 450
    assert ledger.find("both 149") == Answer("json", {"n": 149}, 1, 1, None, 0.1)
