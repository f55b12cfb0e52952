"""Work on many things at once, under what DSPy was set to."""

import threading

import dspy
import pytest

from cascade.threads import at_once


def test_each_call_sees_the_callers_settings_and_keeps_its_own_to_itself() -> None:
    here = threading.Barrier(4)

    def seen(number: int) -> tuple[str, int, int]:
        here.wait(5)  # all four at once, in threads of their own
        with dspy.context(mark=f"{dspy.settings.mark}{number}"):
            here.wait(5)
            return dspy.settings.mark, number, threading.get_ident()

    with dspy.context(mark="m"):
        marks, numbers, threads = zip(*at_once(seen, range(4), threads=4), strict=True)
    assert (marks, numbers) == (("m0", "m1", "m2", "m3"), (0, 1, 2, 3))
    assert len({*threads, threading.get_ident()}) == 5


def test_what_the_first_failing_call_raised_comes_after_all_have_ended() -> None:
    ended = []

    def half(number: int) -> int:
        ended.append(number)
        if number % 2:
            raise KeyboardInterrupt(str(number))  # as orders to stop, which are no `Exception`
        return number

    with pytest.raises(KeyboardInterrupt, match="1"):
        at_once(half, range(6), threads=2)
    assert sorted(ended) == list(range(6))


def test_it_is_as_many_at_a_time_as_dspy_is_set_to() -> None:
    pair = threading.Barrier(2)

    def thread(_: int) -> int:
        pair.wait(5)
        return threading.get_ident()

    with dspy.context(num_threads=2):
        assert len(set(at_once(thread, range(6)))) == 2
