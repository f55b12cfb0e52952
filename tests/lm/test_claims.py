"""Claims: one holder in all threads and processes, nobody waits for the dead, and no clock is asked."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.lm.claims import POOLED, Claims

KEY, OTHER = "0123456789abcdef" * 4, "0123456789abcdff" * 4


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    claims = Claims.of(tmp_path / "ledger.db")
    claims.open()
    yield claims
    claims.close()


@pytest.fixture
def second(claims: Claims) -> Iterator[Claims]:
    """The same claims, opened by somebody else; the kernel sees no difference to another process."""
    second = Claims(claims.path)
    second.open()
    yield second
    second.close()


def test_a_claim_is_held_once_in_a_process(claims: Claims) -> None:
    assert claims.take(KEY)
    assert not claims.take(KEY)
    assert claims.take(OTHER)
    claims.free(KEY)
    assert claims.take(KEY)


def test_a_claim_is_held_once_in_all_processes(claims: Claims, second: Claims) -> None:
    assert claims.take(KEY)
    assert not second.take(KEY)
    assert second.take(OTHER)
    claims.free(KEY)
    assert second.take(KEY)
    assert not claims.take(KEY)


def test_closing_gives_every_claim_back(claims: Claims, second: Claims) -> None:
    assert claims.take(KEY)
    claims.close()
    assert second.take(KEY)
    claims.free(KEY)
    assert not Claims.take(second, KEY)


def test_who_waits_is_woken(claims: Claims) -> None:
    claims.take(KEY)
    threading.Timer(0.1, claims.free, (KEY,)).start()
    started = time.monotonic()
    assert claims.wait(KEY, 30)
    assert 0.05 < time.monotonic() - started < 5
    assert claims.take(KEY)


def test_who_has_waited_long_enough_is_told(claims: Claims) -> None:
    claims.take(KEY)
    assert claims.wait(KEY, 0.05)
    assert not claims.wait(KEY, -0.1)


def test_so_many_of_a_pool_wait_and_no_more(claims: Claims) -> None:
    claims.take(KEY)
    waited: list[bool] = []
    threads = [threading.Thread(target=lambda: waited.append(claims.wait(KEY, 30, pooled=True))) for _ in range(POOLED)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert not claims.wait(KEY, 30, pooled=True)
    claims.free(KEY)
    for thread in threads:
        thread.join()
    assert waited == [True] * POOLED
    claims.take(KEY)
    assert claims.wait(KEY, 0.01, pooled=True)


def test_many_threads_never_hold_the_same_claim(claims: Claims, second: Claims) -> None:
    holders, worst, taken = [0], [0], [0]
    lock = threading.Lock()

    def work(mine: Claims) -> None:
        for _ in range(200):
            if mine.take(KEY):
                with lock:
                    holders[0] += 1
                    taken[0] += 1
                    worst[0] = max(worst[0], holders[0])
                with lock:
                    holders[0] -= 1
                mine.free(KEY)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in (claims, second) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [1]
    assert taken[0] > 100


_HOLDER = """
import sys, time
from pathlib import Path
from cascade.lm.claims import Claims
claims = Claims(Path(sys.argv[1]))
claims.open()
print(claims.take(sys.argv[2]), flush=True)
time.sleep(60)
"""


def test_a_killed_holder_blocks_nobody(claims: Claims) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(claims.path), KEY], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    try:
        assert holder.stdout.readline() == "True\n"
        assert not claims.take(KEY)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert claims.take(KEY)


def test_one_makes_the_file_at_a_time(claims: Claims, second: Claims) -> None:
    order: list[str] = []

    def other() -> None:
        with second.alone():
            order.append("second")

    with claims.alone():
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_whether_others_have_the_ledger_open_is_known(claims: Claims, second: Claims) -> None:
    assert not claims.only_user()
    second.close()
    assert claims.only_user()
