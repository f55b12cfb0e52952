"""Nights on disk, by date, and what is said of them: the table of cases."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.errors import CascadeError
from cascade.production.incoming.taking import Taken
from cascade.production.night.due import Counted, Due, Seen, Work
from cascade.production.night.nights import Night, Nights, Ruled, Search
from cascade.production.night.telling import document, headline
from cascade.report.page import nights_page
from cascade.spending import Spent

NOON = 1_795_780_800.0
"""27 November 2026, 12:00 UTC."""


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("name", "date"), [
    ("UTC", "2026-11-27"), ("Pacific/Auckland", "2026-11-28"), ("Pacific/Honolulu", "2026-11-27"),
])  # fmt: skip
def test_a_night_is_known_by_the_date_of_the_machines_zone(
    tmp_path: Path, zone: pytest.MonkeyPatch, name: str, date: str
) -> None:
    zone.setenv("TZ", name)
    time.tzset()
    nights = Nights(tmp_path, "qa", lambda: NOON)
    assert nights.begin(1.0).id == date
    assert nights.tonight() is not None


def test_nights_are_numbered_and_ordered_also_where_the_clock_was_put_back(tmp_path: Path) -> None:
    now = NOON
    nights = Nights(tmp_path, "qa", lambda: now)
    first, second = nights.begin(NOON), nights.begin(NOON - 3_600)
    now += 86_400
    third = nights.begin(NOON - 7_200)
    assert [second.id, third.id] == [f"{first.id}-2", nights.today]
    assert nights.all() == [third, second, first]
    assert nights.tonight() == third


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    nights = Nights(tmp_path, "qa", lambda: NOON)
    night = nights.write(replace(WHOLE, id=nights.today))
    assert nights.read(night.id) == night


def test_a_damaged_night_is_named(tmp_path: Path) -> None:
    nights = Nights(tmp_path, "qa", lambda: NOON)
    night = nights.begin(NOON)
    nights.journal(night.id).write("night.json", {"id": night.id})
    with pytest.raises(
        CascadeError, match=r"night\.json is damaged \(experiment: Field required\)\. Remove the folder"
    ):
        nights.all()


def test_what_was_spent_is_summed(tmp_path: Path) -> None:
    searches = tuple(Search("from scratch", spent=Spent(lm_calls=n, cost_usd=0.5).to_json()) for n in (1, 2))
    night = replace(NIGHT, searches=searches, spent_beside=Spent(lm_calls=4, cost_usd=0.0).to_json())
    assert (night.spent.lm_calls, night.spent.cost_usd) == (7, 1.0)
    assert replace(NIGHT, searches=(Search("from scratch"),)).spent == Spent()


RULED = Ruled("5", "3", True, "Test 50.0% → 70.0%.", 2, 0.0083)
NIGHT = Night(
    "2026-11-27",
    "qa",
    NOON,
    "done",
    NOON + 90,
    Due(Work.RUN, "Changed since the night of 2026-11-20: train."),
    champion="3",
)
WHOLE = replace(
    NIGHT,
    seen=Seen({"metric": "m"}, {"train": Counted(30, "a")}, "3"),
    since="2026-11-27",
    taken=Taken({"train": 12}, ("a.jsonl, line 3: no",), 2, ("note",), ("p",)),
    champion_scores={"dev": 0.5, "test": 0.6},
    noted=("The <champion> scores less: `see`.",),
    searches=(
        Search("from the champion", "20261127-000000-0000", "completed", False, "1-start", 0.5, Spent(lm_calls=7).to_json()),
        Search("from scratch", "20261120-000000-0000", "completed", True, "2-demos", 0.7),
        Search("from scratch", status="failed", unfinished="it failed (no)"),
    ),
    choice="The program from scratch goes to the gate.",
    ruled=RULED,
)  # fmt: skip
CASES: list[tuple[dict[str, Any], str]] = [
    ({"promoted": "5", "ruled": RULED}, "Version 5 of qa serves now."),
    ({"ruled": RULED}, "Version 5 of qa passed the gate and waits: `cascade promote qa --version 5` takes it into service."),
    ({"ruled": replace(RULED, granted=False)}, "Version 5 of qa was refused; version 3 goes on serving."),
    ({"ruled": replace(RULED, granted=False), "champion": ""}, "Version 5 of qa was refused; nothing serves yet."),
    ({}, "No challenger: version 3 is not beaten on dev."),
    ({"champion": ""}, "No challenger: the baseline is not beaten on dev."),
    ({"state": "failed", "error": "MLflow is down."}, "The night of 2026-11-27 failed: MLflow is down."),
    ({"state": "running"}, "The night of 2026-11-27 is not over; `cascade nightly qa` goes on with it."),
    ({"state": "nothing due", "due": Due(Work.NOTHING, "Nothing is due.")}, "Nothing is due."),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), CASES)
def test_what_came_of_it(changes: dict[str, Any], said: str) -> None:
    assert headline(replace(NIGHT, **changes)) == said


def test_the_whole_story() -> None:
    told = document(WHOLE)
    assert told["summary"][1:] == [
        "12 new rows joined train, 2 of them nearly stood there already, 1 were set aside.",
        "Changed since the night of 2026-11-20: train.",
        "Version 3, the champion, scores 50.0% on dev and 60.0% on test as they are.",
        "From the champion: run 20261127-000000-0000, completed, best 1-start, dev 50.0%.",
        "From scratch: run 20261120-000000-0000, found again, best 2-demos, dev 70.0%.",
        "The program from scratch goes to the gate.",
        "Test 50.0% → 70.0%.",
        "7 LM calls, $0, 0s.",
    ]
    assert json.loads(json.dumps(told))["spent"]["lm_calls"] == 7
    assert told["warnings"] == [
        "The <champion> scores less: `see`.",
        "The search from scratch found nothing: it failed (no).",
    ]


def test_the_page_escapes_what_it_is_given() -> None:
    page = nights_page([document(WHOLE)])
    assert "The &lt;champion&gt; scores less: <code>see</code>." in page and "<champion>" not in page
    assert "<td>of an earlier night</td>" in page and "a.jsonl, line 3: no" in page
    both = nights_page([document(WHOLE), document(replace(NIGHT, experiment="orders", state="failed", error="no"))])
    assert both.count("<h1") == 3 and 'class="free failed-word"' in both
