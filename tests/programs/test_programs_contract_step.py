"""Contracts of steps: pydantic models that are held to, and versions."""

import asyncio
import json
from datetime import date
from typing import Any, Literal

import dspy
import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator
from step_asking import asking

from cascade.dataset import Split
from cascade.errors import ProgramError, StepFailed
from cascade.evaluation import evaluate
from cascade.metrics import Metric
from cascade.programs import Contract, ContractBroken, Pipeline, Step


class Claim(BaseModel):
    number: str = Field(pattern=r"[A-Z]-\d+")
    filed: date


class Judged(BaseModel):
    confidence: float = Field(ge=0, le=1)
    label: Literal["yes", "no"] = "no"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str


class Ordered(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def _in_order(self) -> "Ordered":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def judge(**said: Any) -> Contract:
    return Contract(Step(lambda number, filed: {**said, "seen": filed}), takes=Claim, gives=Judged, version="3")


def test_values_arrive_as_the_models_make_them() -> None:
    said = judge(confidence="0.5")(number="A-1", filed="2026-03-01")
    assert (said.seen, said.confidence, said.label) == (date(2026, 3, 1), 0.5, "no")


@pytest.mark.parametrize(
    ("given", "says", "field", "value"),
    [
        ({"number": "7", "filed": "2026-03-01"}, "was given number = '7'", "number", "'7'"),
        ({"number": "A-1"}, "was given filed: Field required", "filed", ""),
        ({"number": "A-1", "filed": "soon"}, "was given filed = 'soon'", "filed", "soon"),
    ],
)
def test_an_error_names_step_and_field_and_quotes_the_value(given: Any, says: str, field: str, value: str) -> None:
    step = judge(confidence=1)
    with pytest.raises(ContractBroken) as raised:
        step(**given)
    assert says in str(raised.value)
    assert (raised.value.field, value in str(raised.value)) == (field, True)
    if len(given) == 2:  # else the pipeline says what is missing
        with pytest.raises(ContractBroken, match="Step 'check' was given"):
            Pipeline(check=step, more=Step(lambda seen: {}))(**given)


def test_what_it_gives_is_held_to_also_when_awaited() -> None:
    with pytest.raises(ContractBroken, match=r"gave confidence = 1.7: .*less than or equal to 1"):
        judge(confidence=1.7)(number="A-1", filed="2026-03-01")
    with pytest.raises(ContractBroken, match="gave confidence"):
        asyncio.run(judge(confidence="very").acall(number="A-1", filed="2026-03-01"))


def test_a_rule_over_all_fields_and_a_long_value_are_one_line() -> None:
    step = Contract(Step(lambda text: {"low": 3, "high": 1}), gives=Ordered)
    with pytest.raises(ContractBroken, match=r"all fields together = .*low is above high"):
        step(text="hi")
    with pytest.raises(ContractBroken) as raised:
        judge(confidence=1)(number="x\n" * 5000, filed="2026-01-01")
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


def test_a_model_may_forbid_more() -> None:
    with pytest.raises(ContractBroken, match="more = 1"):
        Contract(Step(lambda text, more=0: {"n": 1}), takes=Strict)(text="hi", more=1)


def test_fields_that_the_step_has_not_are_an_error_when_it_is_built() -> None:
    with pytest.raises(ProgramError, match=r"names 'confidence', which the step does not give. It has: 'answer'"):
        Contract(dspy.Predict("question -> answer"), gives=Judged)
    with pytest.raises(ProgramError, match="a pydantic model class is needed"):
        Contract(dspy.Predict("question -> answer"), takes=dict)  # type: ignore[arg-type]
    with pytest.raises(ProgramError, match="step_versions"):
        Contract(dspy.Predict("question -> step_versions"))


def test_versions_are_in_predictions_and_in_the_state() -> None:
    def build(version: str) -> Pipeline:
        return Pipeline(
            draft=Contract(dspy.Predict("question -> draft"), version="1"),
            answer=Contract(dspy.Predict("draft -> answer"), version=version),
        )

    program = build("2")
    with asking():
        assert program(question="hi").step_versions == {"draft": "1", "answer": "2"}
    state = json.loads(json.dumps(program.dump_state()))
    assert state["answer.version"] == {"version": "2"}
    build("2").load_state(state)
    with pytest.raises(ProgramError, match="step version '2' does not fit step version '3'"):
        build("3").load_state(state)


def test_a_broken_contract_is_a_failing_example_and_ends_no_evaluation() -> None:
    split = Split("dev", tuple({"text": "ab" * n} for n in range(1, 5)), tuple("1234"), None, ("text",))
    step = Contract(Step(lambda text: {"confidence": len(text) / 4}), gives=Judged)
    found = evaluate(step, split, Metric(lambda _example, said: said.confidence))
    assert found.failures == 2
    assert "gave confidence = 1.5" in found.outcomes[2].error


def test_a_module_that_gives_no_fields_is_told() -> None:
    class Says(dspy.Module):
        def forward(self, text: str) -> Any:
            return {"n": 1} if text == "a table" else text

    with pytest.raises(StepFailed, match="Step 'rate' returned str, which has no named fields"):
        Pipeline(rate=Contract(Says()))(text="x")
    assert Pipeline(rate=Contract(Says()))(text="a table").n == 1
