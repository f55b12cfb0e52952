"""Whether a night has anything to do: the table of cases."""

from dataclasses import replace

import pytest

from cascade.production.night.due import Counted, Seen, Waiting, Work, changes, due

SEEN = Seen(
    parts={"data": "d", "metric": "m", "metric_code": "c", "source": "s", "stages": "t", "lms": "l", "settings": "e"},
    splits={"train": Counted(30, "a"), "dev": Counted(30, "b"), "test": Counted(30, "c")},
    champion="3",
)


def part(name: str) -> Seen:
    return replace(SEEN, parts={**SEEN.parts, name: "other"})


def split(name: str, rows: int) -> Seen:
    return replace(part("data"), splits={**SEEN.splits, name: Counted(rows, "other")})


CASES = [
    # what there is, then what the last night saw; → what changed
    ("more rows", split("train", 42), ["train (30 → 42 rows)"]),
    ("other rows, as many", split("dev", 30), ["dev"]),
    ("fresh rows of test", split("test", 50), ["test (30 → 50 rows)"]),
    ("grouping", part("data"), ["which rows belong together"]),
    ("metric", part("metric"), ["the metric"]),
    ("metric's code", part("metric_code"), ["the metric's code"]),
    ("program", part("source"), ["the program"]),
    ("stages", part("stages"), ["the stages"]),
    ("LMs", part("lms"), ["the LMs"]),
    ("seed", part("settings"), ["seed or format of answers"]),
    ("a part that is new to us", part("weather"), ["weather"]),
    ("champion", replace(SEEN, champion="5"), ["the champion (version 3 → version 5)"]),
    ("nothing serves any more", replace(SEEN, champion=""), ["the champion (version 3 → none)"]),
    ("nothing", SEEN, []),
]


@pytest.mark.parametrize(("now", "changed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_changed(now: Seen, changed: list[str]) -> None:
    assert changes(now, SEEN) == changed
    told = due(now, SEEN, since="2026-11-20")
    assert told.work is (Work.RUN if changed else Work.NOTHING)
    assert all(words in told.reason for words in (*changed, "since the night of 2026-11-20"))


UNCHANGED = [
    # what else there is; → what is done, and words of the reason
    ({}, Work.NOTHING, "nothing is due"),
    ({"anyway": True}, Work.RUN, "asked for anyway"),
    ({"unfinished": "the budget ended the search from scratch"}, Work.RUN, "can go on: the budget ended"),
    ({"waiting": Waiting("4")}, Work.GATE, "Version 4 is proposed"),
    ({"waiting": Waiting("4"), "promote": True}, Work.GATE, "Version 4 is proposed"),
    ({"waiting": Waiting("4", True)}, Work.NOTHING, "Version 4 passed the gate and waits"),
    ({"waiting": Waiting("4", True), "promote": True}, Work.GATE, "waits to be promoted"),
    ({"waiting": Waiting("4", False), "promote": True}, Work.NOTHING, "nothing is due."),
    ({"waiting": Waiting("4"), "anyway": True}, Work.RUN, "anyway"),
]


@pytest.mark.parametrize(("options", "work", "words"), UNCHANGED)
def test_where_nothing_changed(options: dict[str, object], work: Work, words: str) -> None:
    told = due(SEEN, SEEN, since="2026-11-20", **options)  # type: ignore[arg-type]
    assert told.work is work and words in told.reason


def test_the_first_night_is_due() -> None:
    assert due(SEEN, None).work is Work.RUN


def test_a_change_comes_before_a_challenger_that_waits() -> None:
    assert due(split("train", 31), SEEN, since="x", waiting=Waiting("4")).work is Work.RUN
