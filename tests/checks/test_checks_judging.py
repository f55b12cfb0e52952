"""Metrics that are tried on expected answers."""

import dataclasses
import socket
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.checks.answers import Expected
from cascade.checks.judging import judging
from cascade.checks.refusing import refusing
from cascade.dataset import Data
from cascade.metrics import Metric, Score

WANTED = Expected(
    ("question",),
    ("answer",),
    {"answer": "answer"},
    {"answer": str},
    (),
    lambda row: dspy.Example(**row).with_inputs("question"),
)


def data(rows: int = 30) -> Data:
    return Data("x", *(scripted.split(name, rows) for name in ("train", "dev", "test")))


def said(metric: Any, wanted: Expected = WANTED, **options: Any) -> list[tuple[str, str]]:
    return [(one.severity, one.sentence) for one in judging(Metric(metric), data(), wanted, None, **options)]


def equal(example: Any, prediction: Any) -> bool:
    return bool(example.answer == prediction.answer)


def test_a_metric_that_is_right(tmp_path: Path) -> None:
    assert said(equal) == [
        ("note", "all 90 expected answers that were tried get full credit."),
        ("note", "answers that other rows expect get 0%, the row's own 100%."),
    ]


def test_a_metric_that_fails_on_some_rows_is_warned_of() -> None:
    def fails(example: Any, prediction: Any) -> bool:
        if example.question == "dev 3":
            raise ValueError("no\nsuch thing")
        return equal(example, prediction)

    ((severity, sentence), *_) = said(fails)
    assert (severity, "1 of 90 rows" in sentence) == ("warning", True)
    assert "of row 'dev-0003': it raises ValueError: no such thing." in sentence


def test_a_metric_that_fails_on_wrong_answers_is_warned_of() -> None:
    def fails(example: Any, prediction: Any) -> bool:
        if not equal(example, prediction):
            raise LookupError("what is this")
        return True

    ((severity, sentence), *_) = said(fails)
    assert severity == "warning"
    assert "it gives what another row expects no score on 90 of 90 rows; on " in sentence
    assert "it raises LookupError: what is this." in sentence


def test_an_answer_that_the_output_cannot_be_is_judged_as_it_is() -> None:
    wanted = dataclasses.replace(WANTED, annotation={"answer": int})
    assert said(equal, wanted) == said(equal)
    assert said(lambda *_: 0.5, wanted)[0][0] == "warning"


def by_attribute(example: Any, prediction: Any) -> bool:
    return bool(prediction.evidence)


def by_key(example: Any, prediction: Any) -> bool:
    return bool(prediction["evidence"])


def if_there(example: Any, prediction: Any) -> bool:
    return "evidence" in prediction and equal(example, prediction)


def or_else(example: Any, prediction: Any) -> bool:
    return bool(prediction.get("evidence")) and equal(example, prediction)


@pytest.mark.parametrize("metric", [by_attribute, by_key, if_there, or_else])
def test_what_the_program_adds_to_its_outputs_cannot_be_checked(metric: Any) -> None:
    """As programs do that return what they have found beside the answer."""
    assert said(metric, returned={"evidence"}.__contains__) == [
        (
            "note",
            "not checked: it reads 'evidence' of the prediction, which cannot be made from the rows of the dataset.",
        )
    ]
    ((severity, sentence),) = said(metric)
    assert (severity, "which the program does not return. Found: answer. Rename one." in sentence) == ("error", True)


def test_what_a_metric_can_do_without_is_no_fault() -> None:
    def bonus(example: Any, prediction: Any) -> bool:
        return equal(example, prediction) or bool(prediction.get("evidence"))

    assert [severity for severity, _ in said(bonus)] == ["note", "note"]


def test_no_row_is_changed() -> None:
    rows = data()
    before = rows.fingerprint

    def spoils(example: Any, prediction: Any) -> bool:
        right = equal(example, prediction)
        example.answer, prediction.answer = "spoilt", "spoilt"
        return right

    found = judging(Metric(spoils), rows, WANTED, None)
    assert [one.severity for one in found] == ["note", "note"]
    assert rows.fingerprint == before


def test_a_slow_metric_is_tried_on_fewer_rows() -> None:
    (severity, sentence), *_ = said(equal, seconds=0.0)
    assert (severity, sentence) == ("note", "all 1 expected answers that were tried get full credit.")


def test_feedback_is_quoted_where_credit_is_lost() -> None:
    def strict(example: Any, prediction: Any) -> Score:
        return Score(0.5 * equal(example, prediction), "too short")

    assert "gets 0.5 ('too short')" in said(strict)[0][1]


def test_one_answer_alone_cannot_be_told_apart_from_another() -> None:
    rows = data()
    alike = [dataclasses.replace(split, rows=tuple({**row, "answer": "a"} for row in split.rows)) for split in rows]
    found = judging(Metric(equal), Data("x", *alike), WANTED, None)
    assert [one.sentence for one in found] == ["all 90 expected answers that were tried get full credit."]


def test_other_threads_are_not_refused() -> None:
    reached = []

    def elsewhere() -> None:
        with socket.create_connection(server.getsockname()):
            reached.append(True)

    with socket.create_server(("127.0.0.1", 0)) as server:
        with refusing(None) as refusal:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert refusal.asked == ""
            socket.create_connection(server.getsockname())
        assert refusal.asked == "another machine"
        with socket.create_connection(server.getsockname()):
            reached.append(True)
    assert reached == [True, True]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_else_is_raised_inside_passes(error: type[BaseException]) -> None:
    with pytest.raises(error), refusing(None):
        raise error
