"""Which rows are labels of which predictor."""

from typing import Any, Literal

import dspy
import pytest
from pydantic import BaseModel

from cascade.optimizers.labels import held, labels_of


class Claim(BaseModel):
    number: int


@pytest.mark.parametrize(
    ("kind", "values", "kept"),
    [
        (str, ["x", "", None], ["x", ""]),
        (Literal["a", "b"], ["a", "c", "b", None], ["a", "b"]),
        (int, [3, "4", "four"], [3, "4"]),
        (str | None, ["x", None], ["x", None]),
        (list[str], [["x"], [], "x"], [["x"], []]),
        (Claim, [{"number": 3}, {"number": "three"}, Claim(number=4)], [{"number": 3}, Claim(number=4)]),
        (bool, [True, "maybe"], [True]),
    ],
)
def test_a_label_is_what_the_predictor_could_answer(kind: Any, values: list[Any], kept: list[Any]) -> None:
    signature = dspy.Signature({"text": (str, dspy.InputField()), "said": (kind, dspy.OutputField())})
    rows = [dspy.Example(text="t", said=value, more=1) for value in values]
    assert [row.said for row in labels_of(dspy.Predict(signature), rows)] == kept


def test_a_row_without_a_field_is_no_label() -> None:
    asks = dspy.Predict("text, hint -> said")
    assert not held(asks, {"text", "said"})
    assert held(asks, {"text", "said", "hint", "more"})
    assert labels_of(asks, [dspy.Example(text="t", said="s"), dspy.Example(text="t", said="s", hint="h")]) == [
        dspy.Example(text="t", said="s", hint="h")
    ]
