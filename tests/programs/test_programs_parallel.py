"""Branches at once: what becomes of their fields, and of those that fail."""

import asyncio
import threading
from typing import Any

import dspy
import pytest

from cascade.errors import ProgramError, StepFailed
from cascade.programs import Each, Parallel, Pipeline, Step, Vote, concatenate, gives_of, takes_of


def fails(text: str) -> None:
    raise ValueError("no net")


def length(text: str) -> int:
    return len(text)


WEB, WIKI, BROKEN = (Step(lambda text: [f"web {text}", "both"], gives="found"), Step(lambda text: ["both", f"wiki {text}"], gives="found"),
                     Step(fails, gives="found"))  # fmt: skip
LENGTH = Step(length, gives="n")

MERGES = [
    ("by_name", {"a": WEB, "b": LENGTH}, {"failed": {}, "found": ["web x", "both"], "n": 1}),
    ("by_name", {"a": BROKEN, "b": LENGTH}, {"failed": {"a": "ValueError: no net"}, "n": 1}),
    ("first", {"a": BROKEN, "b": WIKI, "c": WEB}, {"failed": {"a": "ValueError: no net"}, "found": ["both", "wiki x"]}),
    (concatenate("found"), {"a": WEB, "b": WIKI}, {"failed": {}, "found": ["web x", "both", "wiki x"]}),
    (concatenate("n"), {"a": LENGTH, "b": LENGTH}, {"failed": {}, "n": "1\n\n1"}),
    (lambda a, b, text: {"all": [a and a.found[0], b, text]}, {"a": WEB, "b": BROKEN},
     {"failed": {"b": "ValueError: no net"}, "all": ["web x", None, "x"]}),
]  # fmt: skip


@pytest.mark.parametrize(("merge", "branches", "wanted"), MERGES)
def test_fields_are_merged(merge: Any, branches: Any, wanted: Any) -> None:
    assert dict(Parallel(merge=merge, **branches)(text="x")) == wanted


def test_the_reasoning_of_each_branch_is_kept_under_its_name() -> None:
    program = Parallel(a=dspy.ChainOfThought("question -> yes"), b=dspy.ChainOfThought("question -> no"))
    assert list(gives_of(program) or ()) == ["failed", "a_reasoning", "yes", "b_reasoning", "no"]


def test_a_required_branch_that_fails_is_raised() -> None:
    for required in (True, ["a"]):
        with pytest.raises(ValueError, match="no net"):
            Parallel(a=BROKEN, b=LENGTH, required=required)(text="x")
    assert Parallel(a=BROKEN, b=LENGTH, required=["b"])(text="x").n == 1


def test_where_all_fail_all_reasons_are_told() -> None:
    with pytest.raises(StepFailed, match=r"All of 'a', 'b' failed\. a: ValueError: no net; b: ValueError: no net"):
        Parallel(a=BROKEN, b=BROKEN, merge="first")(text="x")


def test_a_branch_has_a_time_of_its_own() -> None:
    go_on = threading.Event()
    program = Parallel(slow=Step(lambda text: go_on.wait(20), gives="x"), fast=LENGTH, timeout={"slow": 0.05})
    try:
        assert dict(program(text="x")) == {"failed": {"slow": "TimeoutError: Step 'slow' took over 0.05 s."}, "n": 1}
    finally:
        go_on.set()


def test_failures_of_several_branches_and_levels_add_up() -> None:
    inner = Parallel(c=BROKEN, d=Step(lambda text: 1, gives="d"))
    program = Pipeline(one=Parallel(a=BROKEN, b=LENGTH), two=Parallel(inner=inner, e=Step(lambda text: 1, gives="e")))
    reason = "ValueError: no net"
    assert program(text="x").failed == {"one.a": reason, "two.inner.c": reason}


def collide(text: str) -> dict[str, Any]:
    return {"n": 1}


WRONG = [
    (Parallel, "Parallel has no branches"),
    (lambda: Parallel(a=WEB, b=WIKI), r"Branches 'a' and 'b' both give 'found'. Rename one, or .*merge=concatenate\('found'\)"),
    (lambda: Parallel(a=WEB, b=LENGTH, merge=concatenate("found")), "Branch 'b' gives no 'found'. It gives: n"),
    (lambda: Parallel(a=WEB, merge="best"), "There is no merge 'best'. Known: 'by_name', 'first'"),
    (lambda: Parallel(a=WEB, timeout={"b": 1}), "There is no branch 'b'. Branches: 'a'"),
    (lambda: Parallel(a=WEB, required=["b"]), "There is no branch 'b'"),
    (lambda: Parallel(forward=WEB), "Branch 'forward' of Parallel"),
    (lambda: Each(LENGTH, over="texts", each="text", at_once=0), "at_once=0"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_does_not_fit_is_said_when_it_is_put_together(make: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        make()


def test_what_collides_and_was_not_known_is_told_when_it_runs() -> None:
    with pytest.raises(StepFailed, match="both give 'n'"):
        Parallel(a=collide, b=LENGTH)(text="x")
    with pytest.raises(StepFailed, match="Not every branch gave 'n'"):
        Parallel(a=lambda text: {"m": 1}, b=LENGTH, merge=concatenate("n"))(text="x")


def test_it_takes_what_its_branches_take() -> None:
    program = Parallel(
        a=dspy.Predict("question -> x"), b=dspy.Predict("question, style -> y"), merge=lambda a, b, tone: {"z": 1}
    )
    assert list(takes_of(program) or ()) == ["question", "style", "tone"]


def test_each_item_is_asked_and_failures_are_left_out() -> None:
    def half(n: int, by: int) -> float:
        return n / by

    program = Each(Step(half, gives="half"), over="ns", each="n", at_once=2)
    assert dict(program(ns=[2, 4, 6], by=2)) == {"failed": {}, "half": [1.0, 2.0, 3.0]}
    assert dict(asyncio.run(program.acall(ns=[], by=2))) == {"failed": {}, "half": []}
    some = Each(Step(lambda n: 1 // n, gives="x"), over="ns", each="n")
    assert dict(some(ns=[1, 0])) == {
        "failed": {"body[1]": "ZeroDivisionError: integer division or modulo by zero"},
        "x": [1],
    }
    with pytest.raises(StepFailed, match="failed"):
        some(ns=[0])
    with pytest.raises(StepFailed, match="'ns' is 'ab', which is no list"):
        some(ns="ab")
    with pytest.raises(StepFailed, match=r"Each needs 'ns', which is not there\. There is: 'n'"):
        some(n=1)


def test_never_more_than_a_portion_at_once() -> None:
    now, most, lock = [0], [0], threading.Lock()

    def busy(n: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
        return n

    assert Each(Step(busy, gives="n"), over="ns", each="n", at_once=3)(ns=list(range(9))).n == list(range(9))
    assert most[0] <= 3


def test_groups_and_single_steps_mix() -> None:
    program = Pipeline(
        "text -> end: str",
        one=LENGTH,
        fan=Parallel(a=Step(lambda n: n + 1, gives="more"), b=Vote([lambda n: {"less": n - 1}] * 3)),
        end=Step(lambda more, less: f"{less}..{more}", gives="end"),
    )
    assert program(text="abc").end == "2..4"
