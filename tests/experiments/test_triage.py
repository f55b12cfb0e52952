"""`triage`: the data, the metric, and the program over scripted and embedded models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest

from cascade.check import prepare
from cascade.checks import examine
from cascade.dataset import Dataset, load
from cascade.discover import discover, import_file
from cascade.program import restore, snapshot
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

PROJECT = Path(__file__).parents[2]
RIGHT = {"department": "delivery", "issue": "late", "urgency": "normal", "detail": "K-4471"}


FILE = import_file(PROJECT / "experiments" / "triage.py", "experiments.triage")


def asked(program: Any, answer: Any, message: str = "Where is K-4471?") -> tuple[Any, list[str]]:
    """What a program said to a message, and the fields that its LM was asked for, call by call."""
    calls: list[str] = []

    def script(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        assert inputs["message"] == message
        calls.append("call")
        return answer

    with dspy.context(lm=dspy.LM("scripted/base", engine=ScriptedEngine(script), cache=False)):
        return program(message=message), calls


@pytest.mark.parametrize(
    ("said", "value", "parts"),
    [
        ({}, 1.0, (1, 1, 1, 1)),
        ({"urgency": "high"}, 0.9, (1, 1, 0.5, 1)),
        ({"detail": "order K-4471"}, 0.933333, (1, 1, 1, 2 / 3)),
        ({"detail": "A-118"}, 0.8, (1, 1, 1, 0)),
        ({"issue": "damaged"}, 0.7, (1, 0, 1, 1)),
        ({"department": "billing", "issue": "refund", "detail": "$3"}, 0.2, (0, 0, 1, 0)),
        ({"department": "billing"}, 0.2, (0, 0, 1, 0)),  # what the wrong department found out is of no use
        ({"department": "technical", "issue": "crash", "urgency": "high", "detail": ""}, 0.1, (0, 0, 0.5, 0)),
    ],
)
def test_what_an_answer_is_worth(said: dict[str, str], value: float, parts: tuple[float, ...]) -> None:
    score = FILE.experiment.metric.score(dspy.Example(**RIGHT), dspy.Prediction(**{**RIGHT, **said}))
    assert score.value == pytest.approx(value, abs=1e-6)
    assert tuple(score.parts.values()) == pytest.approx(parts)
    assert (score.feedback == "All of it is right.") == (value == 1)


def test_opposite_urgencies_are_worth_nothing() -> None:
    score = FILE.experiment.metric.score(
        dspy.Example(**{**RIGHT, "urgency": "low"}), dspy.Prediction(**{**RIGHT, "urgency": "high"})
    )
    assert (score.value, score.parts["urgency"]) == (0.8, 0.0)
    assert score.feedback == "It is urgency 'low', not 'high'."


@pytest.mark.parametrize(
    ("department", "issue"), [("billing", "invoice"), ("delivery", "wrong"), ("technical", "login")]
)
def test_the_specialist_of_the_department_is_asked(department: str, issue: str) -> None:
    said, calls = asked(
        FILE.experiment.program(), {"department": department, "issue": issue, "urgency": "low", "detail": "x"}
    )
    assert (said.route, said.department, said.issue, said.urgency, said.detail) == (
        department,
        department,
        issue,
        "low",
        "x",
    )
    assert len(calls) == 2


def test_a_specialist_cannot_name_what_is_not_its_business() -> None:
    with pytest.raises(Exception, match=r"(?s)Expected to find output fields .*In step .billing."):
        asked(FILE.experiment.program(), {"department": "billing", "issue": "late", "urgency": "low", "detail": "x"})


def test_the_plain_program_asks_once() -> None:
    said, calls = asked(FILE.PlainTriage(), RIGHT)
    assert ({name: said[name] for name in RIGHT}, len(calls)) == (RIGHT, 1)


def test_every_row_is_a_message_whose_detail_stands_in_it_once() -> None:
    data = load(Dataset("triage"), PROJECT)
    kinds = {
        "billing": "refund overcharge invoice",
        "delivery": "late damaged wrong",
        "technical": "login crash offline",
    }
    for split in data:
        for row in split.rows:
            assert row["message"].count(row["detail"]) == 1, row["id"]
            assert row["issue"] in kinds[row["department"]].split(), row["id"]
    assert [len(split) for split in data] == [81, 63, 72]


def test_the_check_has_nothing_to_ask_about_and_the_state_survives(tmp_path: Path) -> None:
    settings = Settings(PROJECT, tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    lms = ScriptedLMs(settings, ScriptedEngine(lambda model, inputs, demos: RIGHT))
    prepared = prepare(discover("triage", PROJECT), settings, lms)
    assert [str(finding) for finding in examine(prepared) if finding.severity != "note"] == []
    program = FILE.experiment.program()
    assert len(program.predictors()) == 4
    assert (
        snapshot(restore(FILE.experiment.program, snapshot(program), lms.by_model)).digest == snapshot(program).digest
    )
