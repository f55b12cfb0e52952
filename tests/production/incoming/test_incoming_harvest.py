"""Rows out of reviewed requests: what makes one and what does not."""

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import experiment, prepared

from cascade.check import Prepared
from cascade.mlflow_store.served import Reviewed
from cascade.production.incoming.harvest import gather, store, waiting_rows
from cascade.testing import ScriptedEngine


@pytest.fixture
def ready(tmp_path: Path) -> Prepared:
    return prepared(experiment(), tmp_path, ScriptedEngine(lambda *_: {"answer": "a"}))


def one(question: str = "how do I print in colour", id_: str = "tr-1", **more: Any) -> Reviewed:
    values: dict[str, Any] = dict(outcomes=(), corrections={}, outputs={"answer": "a"}, version="1", at=0)
    return Reviewed(id=id_, inputs={"question": question}, **{**values, **more})


CASES = [
    # reviewed, expected answer or why not
    (dict(outcomes=(1.0,)), "a"),
    (dict(outcomes=(1.0, 0.0)), "nobody said what 'answer' should be"),
    (dict(outcomes=(0.0,)), "nobody said what 'answer' should be"),
    (dict(outcomes=(0.0,), corrections={"answer": "b"}), "b"),
    (dict(outcomes=(1.0,), corrections={"answer": "b"}), "b"),
    (dict(corrections={"answer": "c"}), "c"),
    (dict(corrections={"answer": 3}), "answer = 3 is no str, as in train"),
    (dict(corrections={"other": "c"}), "nobody said what 'answer' should be"),
    (dict(question="train 3", outcomes=(1.0,)), "stands in train already"),
    (dict(question="  Test 7. ", outcomes=(1.0,)), "stands in test already"),
]


@pytest.mark.parametrize(("reviewed", "expected"), CASES)
def test_cases(ready: Prepared, reviewed: dict[str, Any], expected: str) -> None:
    done = gather([one(**reviewed)], ready)
    if done.rows:
        assert done.rows[0]["answer"] == expected
        assert done.rows[0]["question"] == "how do I print in colour"
    else:
        assert done.left_out == (("tr-1", expected),)


def test_twice_asked_is_one_row_and_a_contradiction_is_left_to_somebody(ready: Prepared) -> None:
    found = [
        one(id_="tr-1", corrections={"answer": "a"}),
        one(id_="tr-2", corrections={"answer": "a"}, question="How do I print in colour?"),
        one(id_="tr-3", corrections={"answer": "b"}),
        one(id_="tr-4", corrections={"answer": "a"}, question="how do I print in colours"),
    ]
    done = gather(found, ready)
    assert [row["id"] for row in done.rows] == ["served-1"]
    assert [why for _, why in done.left_out] == [
        "asked before, and answered otherwise: somebody should decide",
        "asked before, and answered otherwise: somebody should decide",
        "stands in this harvest in nearly the same words",
    ]


def test_personal_data_stay_only_when_asked(ready: Prepared) -> None:
    asked = one(question="mail to ann@example.org bounces", corrections={"answer": "a"})
    assert gather([asked], ready).rows[0]["question"] == "mail to <email> bounces"
    assert gather([asked], ready, personal=True).rows[0]["question"] == "mail to ann@example.org bounces"


def test_what_waits_is_not_harvested_again(ready: Prepared, tmp_path: Path) -> None:
    done = gather([one(outcomes=(1.0,))], ready)
    path = store(done, tmp_path, test=False, stamp="1")
    assert path == tmp_path / "incoming" / "harvest-1.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(done.rows)
    again = gather([one(outcomes=(1.0,))], ready, waiting=waiting_rows(tmp_path))
    assert again.rows == () and again.left_out[0][1] == "stands in incoming already"
    assert store(again, tmp_path, test=True, stamp="2") is None


def test_for_test_only_when_asked(ready: Prepared, tmp_path: Path) -> None:
    path = store(gather([one(outcomes=(1.0,))], ready), tmp_path, test=True, stamp="1")
    assert path == tmp_path / "incoming" / "test" / "harvest-1.jsonl"
