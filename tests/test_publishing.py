"""What a tracker refuses is said once, and sent later."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from cascade.errors import CascadeError, TrackingError
from cascade.journal import Journal
from cascade.publishing import Publisher


class Store:
    """A tracker that fails for some journals."""

    def __init__(self, fails: Callable[[str], Exception | None] = lambda _: None) -> None:
        self.fails = fails
        self.sent: list[str] = []

    def publish(self, journal: Journal) -> None:
        if error := self.fails(journal.folder.name):
            raise error
        self.sent.append(journal.folder.name)

    def catch_up(self, journals: Iterable[Journal]) -> int:
        for journal in journals:
            self.publish(journal)
        return 0


def close(store: Store, *behind: str) -> list[str]:
    """Publish one run's end, with others behind, newest first; returns the warnings."""
    warned: list[str] = []
    Publisher(store, Journal(Path("now")), warned.append, behind=[Journal(Path(name)) for name in behind]).close()
    return warned


def test_runs_that_were_not_sent_are_sent_after_this_one_oldest_first() -> None:
    store = Store()
    assert close(store, "c", "b", "a") == []
    assert store.sent == ["now", "a", "b", "c"]


def test_a_damaged_run_keeps_back_no_other() -> None:
    store = Store(lambda name: CascadeError("b is damaged") if name == "b" else None)
    assert close(store, "c", "b", "a") == ["b is damaged"]
    assert store.sent == ["now", "a", "c"]


def test_a_run_that_the_store_refuses_keeps_back_no_other_and_is_tried_again() -> None:
    store = Store(lambda name: TrackingError(f"{name}: value too long") if name == "a" else None)
    assert close(store, "c", "b", "a") == ["a: value too long"]
    assert store.sent == ["now", "b", "c"]


def test_a_store_that_goes_down_is_not_asked_for_every_earlier_run() -> None:
    asked: list[str] = []
    store = Store(lambda name: None if name == "now" else asked.append(name) or TrackingError("down"))
    assert close(store, *"fedcba") == ["down"]
    assert asked == ["a", "b", "c"]


def test_a_store_that_is_down_is_asked_once() -> None:
    asked: list[str] = []
    store = Store(lambda name: asked.append(name) or TrackingError("down"))
    assert close(store, "c", "b", "a") == ["down"]
    assert asked == ["now"]


def test_the_same_reason_is_said_once_and_what_came_back_is_sent() -> None:
    down, warned = [True], list[str]()
    store = Store(lambda _name: TrackingError("down") if down else None)
    publisher = Publisher(store, Journal(Path("now")), warned.append, behind=[Journal(Path("a"))])
    for _ in range(3):
        publisher.publish()
        while publisher._latest and not publisher._latest.done():
            publisher._latest.result()
    down.clear()
    publisher.close()
    assert (warned, store.sent) == (["down"], ["now", "a"])


@pytest.mark.parametrize("wait", [True, False])
def test_closing_at_once_leaves_the_end_to_the_next_run(wait: bool) -> None:
    entered, released = threading.Event(), threading.Event()

    class Slow(Store):
        def publish(self, journal: Journal) -> None:
            entered.set()
            released.wait(30)
            super().publish(journal)

    store = Slow()
    publisher = Publisher(store, Journal(Path("now")), lambda _: None)
    publisher.publish()
    entered.wait(30)
    if wait:
        released.set()
    publisher.close(wait=wait)
    assert store.sent == (["now", "now"] if wait else [])
    released.set()
