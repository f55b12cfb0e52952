"""Which fields of a row say what is expected."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import Prepared
from cascade.checks import answers, examine
from cascade.testing import ScriptedEngine


def prepared(folder: Path, program: Any, **fields: Any) -> Prepared:
    """A project whose rows hold these fields beside the question; a value may depend on the row's number."""
    data = scripted.experiment().dataset
    splits = {
        name: [
            {
                "question": row["question"],
                **{key: value(n) if callable(value) else value for key, value in fields.items()},
            }
            for n, row in enumerate(data.source(name))
        ]
        for name in ("train", "dev", "test")
    }
    defined = scripted.experiment(program=program, dataset=dataclasses.replace(data, **splits))
    return scripted.prepared(defined, folder, ScriptedEngine(scripted.answer))


def asks(signature: str, kind: Any = dspy.Predict) -> Any:
    def program() -> Any:
        return kind(signature)

    program.__qualname__ = program.__name__  # as if it stood in the file: a factory inside a function is refused
    return program


class TwoSteps(scripted.Asks):
    def __init__(self) -> None:
        self.think = dspy.Predict("question -> thought")
        super().__init__()


class LastIsNone(scripted.Asks):
    """Its last predictor gives no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.doubt = dspy.Predict("answer -> doubt")


MATCHED: list[tuple[Any, dict[str, Any], dict[str, str], tuple[str, ...], bool]] = [
    (asks("question -> answer"), {"answer": "a"}, {"answer": "answer"}, (), True),
    (asks("question -> answer"), {"answer": "a", "topic": "b", "id": str}, {"answer": "answer"}, (), True),
    (asks("question -> answer", dspy.ChainOfThought), {"answer": "a"}, {"answer": "answer"}, (), True),
    (asks("question -> reply"), {"answer": "a"}, {"reply": "answer"}, (), False),
    (asks("question -> reply"), {"answer": "a", "topic": "b"}, {}, ("reply",), False),
    (asks("question -> answer, sure: bool"), {"answer": "a"}, {"answer": "answer"}, ("sure",), False),
    (asks("question -> answer"), {}, {}, ("answer",), False),
    (TwoSteps, {"answer": "a"}, {"answer": "answer"}, (), True),
    (LastIsNone, {"answer": "a", "hint": "b"}, {"answer": "answer"}, ("doubt",), False),
    (LastIsNone, {"reply": "a"}, {}, ("doubt",), False),
]


@pytest.mark.parametrize(("program", "fields", "field_of", "missing", "complete"), MATCHED)
def test_outputs_are_matched_with_fields(
    tmp_path: Path,
    program: Any,
    fields: dict[str, Any],
    field_of: dict[str, str],
    missing: tuple[str, ...],
    complete: bool,
) -> None:
    wanted = answers.expected(prepared(tmp_path, program, **fields))
    assert (dict(wanted.field_of), wanted.missing, wanted.complete) == (field_of, missing, complete)
    assert wanted.fields == tuple(name for name in fields if name != "id")


TYPED = [
    ("answer: int", "7", 7),
    ("answer", 7, "7"),
    ("answer: bool", "True", True),
    ("answer: list[str]", ["a"], ["a"]),
]


@pytest.mark.parametrize(("output", "held", "given"), TYPED)
def test_an_expected_answer_has_the_type_that_the_program_gives(
    tmp_path: Path, output: str, held: Any, given: Any
) -> None:
    wanted = answers.expected(prepared(tmp_path, asks(f"question -> {output}"), answer=held))
    assert wanted.outputs({"question": "x", "answer": held})["answer"] == given


def test_free_text_is_no_label(tmp_path: Path) -> None:
    count = itertools.count()
    made = prepared(tmp_path, asks("question -> answer"), answer=lambda _: f"an answer of its own {next(count)}")
    assert list(answers.balance(made.data, answers.expected(made))) == []


def test_rows_of_inputs_alone_are_told_of_and_nothing_is_wrong(tmp_path: Path) -> None:
    found = examine(prepared(tmp_path, scripted.Asks))
    assert [(one.severity, one.place) for one in found] == [("note", "Metric 'right'")]
    assert "hold nothing but inputs" in found[0].sentence
