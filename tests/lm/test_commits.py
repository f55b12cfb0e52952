"""Group commit: every row is written once, together where threads come together, and a failure reaches all it concerns."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from cascade.lm.commits import LARGEST, GroupCommit


def together(work: Callable[[int], object], count: int) -> list[object]:
    """What `work` returned or raised in each of `count` threads."""
    ends: list[object] = [None] * count

    def one(number: int) -> None:
        try:
            ends[number] = work(number)
        except BaseException as error:
            ends[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return ends


def test_every_row_is_written_once_and_before_add_returns() -> None:
    written: list[int] = []
    batches: list[int] = []

    def write(rows: Sequence[int]) -> None:
        time.sleep(0.002)
        batches.append(len(rows))
        written.extend(rows)

    commits = GroupCommit(write)

    def work(number: int) -> bool:
        for step in range(20):
            row = 1000 * number + step
            commits.add(row)
            if row not in written:
                return False
        return True

    assert together(work, 32) == [True] * 32
    assert sorted(written) == sorted(1000 * number + step for number in range(32) for step in range(20))
    assert max(batches) > 8
    assert len(batches) < 200


def test_alone_a_row_is_written_by_who_adds_it() -> None:
    by: list[int] = []
    commits: GroupCommit[int] = GroupCommit(lambda rows: by.append(threading.get_ident()))
    commits.add(1)
    commits.add(2)
    assert by == [threading.get_ident()] * 2


@pytest.mark.parametrize("failure", [ValueError("full"), KeyboardInterrupt("now")])
def test_a_failure_reaches_all_whose_rows_were_lost_and_nobody_else(failure: BaseException) -> None:
    written: list[int] = []

    def write(rows: Sequence[int]) -> None:
        time.sleep(0.01)
        if 3 in rows:
            raise failure
        written.extend(rows)

    commits = GroupCommit(write)
    ends = together(commits.add, 16)
    assert [number for number, end in enumerate(ends) if end is None] == sorted(written)
    assert ends[3] is failure
    assert all(end is None or end is failure for end in ends)
    commits.add(99)
    assert written[-1] == 99


def test_one_transaction_is_not_endless() -> None:
    batches: list[int] = []
    go_on = threading.Event()

    def write(rows: Sequence[int]) -> None:
        go_on.wait(10)
        batches.append(len(rows))

    commits = GroupCommit(write)
    threads = [threading.Thread(target=commits.add, args=(number,)) for number in range(LARGEST + 200)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert sum(batches) == LARGEST + 200
    assert max(batches) <= LARGEST
