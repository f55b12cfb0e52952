"""Programs as people write them pass; `tests/cli/test_cli_check.py` has those that do not."""

from pathlib import Path
from typing import Any, Literal

import dspy
import pydantic
import pytest
import scripted

from cascade.checks.programs import program, returned
from cascade.testing import ScriptedEngine


class Fact(pydantic.BaseModel):
    subject: str
    sure: bool = True


class Typed(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    facts: list[Fact] = dspy.OutputField()
    answer: Literal["a", "b"] = dspy.OutputField()


class Steps(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [dspy.Predict("question -> hint"), dspy.ChainOfThought("question, hint -> answer")]
        self.by_name = {"last": dspy.Predict("question -> answer")}
        self.again = self.by_name["last"]

    def forward(self, question: str) -> Any:
        return self.again(question=question)


class Frozen(scripted.Asks):
    def __init__(self) -> None:
        super().__init__()
        self.part = dspy.ChainOfThought("question -> hint")
        self.part._compiled = True


class OwnLM(scripted.Asks):
    def __init__(self) -> None:
        super().__init__()
        self.ask.lm = dspy.LM("openai/gpt-5-mini", api_key="none")


class Parts(scripted.Asks):
    """Holds what is no module: a function, an LM, and something that refers back to the program."""

    def __init__(self) -> None:
        super().__init__()
        self.clean, self.writer, self.index = str.strip, dspy.LM("openai/gpt-5-mini", api_key="none"), {"me": [self]}


def search(query: str) -> str:
    """Look it up."""
    return query


def react() -> Any:
    return dspy.ReAct("question -> answer", tools=[search])


def best_of() -> Any:
    return dspy.BestOfN(module=dspy.ChainOfThought("question -> answer"), N=2, reward_fn=lambda *_: 1.0, threshold=1.0)


def refine() -> Any:
    return dspy.Refine(module=dspy.Predict("question -> answer"), N=2, reward_fn=lambda *_: 1.0, threshold=1.0)


def lone() -> Any:
    return dspy.Predict(Typed)


def demonstrated() -> Any:
    made = dspy.Predict(Typed)
    made.demos = [dspy.Example(question="x", facts=[Fact(subject="y")], answer="a")]
    return made


@pytest.mark.parametrize(
    "factory",
    [scripted.Asks, Steps, Frozen, OwnLM, Parts, react, best_of, refine, demonstrated, lone],
)
def test_what_is_right_passes(tmp_path: Path, factory: Any) -> None:
    made = scripted.prepared(scripted.experiment(program=factory), tmp_path, ScriptedEngine(scripted.answer))
    assert list(program(made)) == []
    assert list(program(made)) == [], "looking at a program changes nothing"


class Inherits(scripted.Asks):
    """Its forward stands elsewhere."""


NOWHERE = "".join(("no", "where"))
RETURNED = [(scripted.Asks, "chance", True), (scripted.Asks, NOWHERE, False), (react, NOWHERE, False), (Inherits, NOWHERE, True)]  # fmt: skip


@pytest.mark.parametrize(("factory", "name", "may"), RETURNED)
def test_what_a_program_may_return_is_looked_for_in_its_files(
    tmp_path: Path, factory: Any, name: str, may: bool
) -> None:
    made = scripted.prepared(scripted.experiment(program=factory), tmp_path, ScriptedEngine(scripted.answer))
    assert returned(made)(name) is may
