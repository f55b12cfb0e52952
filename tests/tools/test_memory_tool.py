"""Memory: over processes, users apart whatever they are called, forgotten for good, bounded, and whole after a kill."""

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import StepFailed
from cascade.tools.memory import LONGEST, Memories
from cascade.tools.memory_store import SQLiteStore

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def by_letters(texts: Sequence[str]) -> Any:
    """Texts as counts of their letters, which is near enough to meaning for tests."""
    counts = np.array([[1e-3 + text.lower().count(letter) for letter in LETTERS] for text in texts])
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def memories(folder: Path | None = None, **options: Any) -> Memories:
    return Memories(folder, embed=by_letters, **options)


def texts(found: Any) -> list[str]:
    return [one.text for one in found]


def test_the_nearest_memories_are_recalled_first() -> None:
    known = memories()
    for text in ("I live in Lisbon.", "My dog is called Rex.", "zzz zzz"):
        known.remember("ana", text)
    assert texts(known.recall("ana", "dog called?", k=1)) == ["My dog is called Rex."]
    assert texts(known.recall("ana", "zzz", k=3, least=0.9)) == ["zzz zzz"]
    assert known.recall("ana", "  ") == ()
    assert [round(one.score or 0, 3) for one in known.recall("ana", "zzz zzz", k=1)] == [1.0]


def test_a_text_is_kept_once_and_has_one_id() -> None:
    known = memories()
    assert known.remember("ana", "I live in Lisbon.") == known.remember("ana", "I live  in\nLisbon.")
    assert known.remember("ben", "I live in Lisbon.") != known.remember("ana", "I live in Lisbon.")
    assert texts(known.all("ana")) == ["I live in Lisbon."]


@pytest.mark.parametrize("text", ["", "  \n", "x" * (LONGEST + 1)])
def test_what_cannot_be_kept_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(StepFailed, match=r"cannot be kept\. Give 1 to 1,000\."):
        memories().remember("ana", text)


def test_users_forget_their_own_memories_only() -> None:
    known = memories()
    one, _ = known.remember("ana", "first"), known.remember("ana", "second")
    known.remember("ben", "first")
    assert not known.forget("ben", one)
    assert not known.forget("ana", "no such id")
    assert known.forget("ana", one)
    assert (texts(known.all("ana")), texts(known.all("ben"))) == (["second"], ["first"])
    assert (known.forget_all("ana"), known.forget_all("ana"), texts(known.all("ben"))) == (1, 0, ["first"])


NAMES = st.one_of(
    st.text(max_size=5), st.sampled_from(["*", " ana", "ana", "ana ", "ANA", "%", "' or 1=1 --", "\udc80"])
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from(["alpha", "beta", "gamma"])), min_size=1, max_size=8), NAMES)
def test_no_user_sees_or_deletes_what_another_said(said: list[tuple[str, str]], asking: str) -> None:
    known = memories()
    for user, text in said:
        known.remember(user, f"{text} of {user!a}")
    own = {f"{text} of {user!a}" for user, text in said if user == asking}
    assert set(texts(known.all(asking))) == own
    assert set(texts(known.recall(asking, "alpha beta gamma", k=50, least=0.0))) == own
    others = [(user, one.id) for user, _ in said if user != asking for one in known.all(user)]
    assert not any(known.forget(asking, id_) for _, id_ in others)
    known.forget_all(asking)
    assert known.all(asking) == ()
    assert all(known.all(user) for user, _ in others)


def test_the_oldest_make_way_and_other_users_keep_theirs() -> None:
    known = memories(most=3)
    known.remember("ben", "mine")
    for number in range(5):
        known.remember("ana", f"number {number}")
    assert texts(known.all("ana")) == ["number 2", "number 3", "number 4"]
    assert texts(known.all("ben")) == ["mine"]
    with pytest.raises(StepFailed, match="most=0"):
        memories(most=0)


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_memory_tool import memories
known = memories(Path(sys.argv[1]))
{work}
"""


def child(folder: Path, work: str) -> subprocess.Popen[str]:
    code = CHILD.format(tests=str(Path(__file__).parent), work=work)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def test_what_one_process_is_told_another_knows_and_what_it_forgets_is_gone_from_the_disk(tmp_path: Path) -> None:
    told = child(tmp_path, "print(known.remember('ana', 'I live in Lisbon.'), known.remember('ana', 'Rex is my dog.'))")
    ids = (told.communicate(timeout=120)[0]).split()
    known = memories(tmp_path)
    assert texts(known.recall("ana", "Lisbon", k=1)) == ["I live in Lisbon."]
    assert b"Lisbon" in (tmp_path / "memories.db").read_bytes()
    assert known.forget("ana", ids[0])
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"Lisbon" not in kept
    assert b"Rex" in kept
    assert b"ana" not in kept.replace(b"created_at", b"")


@pytest.mark.slow
def test_several_processes_write_at_once(tmp_path: Path) -> None:
    works = [f"for n in range(15): known.remember('ana', f'{name} {{n}}')" for name in "ab"]
    children = [child(tmp_path, work) for work in works]
    for one in children:
        one.communicate(timeout=120)
    assert [one.returncode for one in children] == [0, 0]
    assert len(memories(tmp_path).all("ana")) == 30


def test_threads_share_one_memory(tmp_path: Path) -> None:
    for known in (memories(tmp_path), memories()):
        work = [threading.Thread(target=known.remember, args=("ana", f"text {number}")) for number in range(20)]
        for one in work:
            one.start()
        for one in work:
            one.join()
        assert len(known.all("ana")) == 20


@pytest.mark.slow
def test_a_kill_loses_nothing_that_was_remembered(tmp_path: Path) -> None:
    work = "for n in range(100000): known.remember('ana', f'text {n}'); print(n, flush=True)"
    for _ in range(3):
        running = child(tmp_path, work)
        assert running.stdout is not None
        last = [int(running.stdout.readline()) for _ in range(5)][-1]
        time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        kept = texts(memories(tmp_path).all("ana"))
        assert kept[: last + 1] == [f"text {number}" for number in range(last + 1)]


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "memories.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StepFailed, match="cannot be read or written: file is not a database"):
        memories(tmp_path).all("ana")


def test_memories_are_looked_for_by_user_alone() -> None:
    store = SQLiteStore(None)
    for filters in (None, {}, {"user_id": "a", "run_id": "b"}, {"user_id": {"in": ["a"]}}):
        with pytest.raises(StepFailed, match="by user alone"):
            store.list(filters)


def test_a_copy_of_a_program_has_the_same_memories() -> None:
    known = memories()
    assert copy.deepcopy({"memories": known})["memories"] is known


def test_mem0_asks_dspys_lm_what_to_keep() -> None:
    import dspy

    from cascade.testing import ScriptedEngine

    said = '{"memory": [{"id": "0", "text": "Lives in Lisbon", "attributed_to": "user"}]}'
    lm = dspy.LM("scripted/base", engine=ScriptedEngine(lambda *_: said), cache=False)
    known = memories()
    with dspy.context(lm=lm):
        assert known.extract("ana", "Hi! I live in Lisbon, you know.") == ("Lives in Lisbon",)
    assert texts(known.all("ana")) == ["Lives in Lisbon"]
    with pytest.raises(StepFailed, match=r"mem0 could not find out what to keep .*none is set"), dspy.context(lm=None):
        known.extract("ana", "Hi!")


@pytest.mark.slow
def test_nothing_is_sent_nothing_unpickled_and_no_filter_of_warnings_changed(tmp_path: Path) -> None:
    """In a process of its own, with Python's audit hook as witness."""
    code = f"""
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event in ("socket.connect", "socket.getaddrinfo",
                 "pickle.find_class") else None)
sys.path.insert(0, {str(Path(__file__).parent)!r})
import os
import warnings
from pathlib import Path
os.chdir(sys.argv[1])
from test_memory_tool import memories
filters = list(warnings.filters)
del seen[:]
known = memories(Path("kept"))
known.remember("ana", "I live in Lisbon.")
memories(Path("kept")).recall("ana", "Where?")
known.forget_all("ana")
from mem0.memory import telemetry
print(seen, telemetry.MEM0_TELEMETRY, os.path.exists(os.path.expanduser("~/.mem0")), warnings.filters == filters)
"""
    environ = {**os.environ, "HOME": str(tmp_path)}
    environ.pop("MEM0_DIR", None)
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environ, check=False
    )
    assert ran.stdout == "[] False False True\n", ran.stderr
