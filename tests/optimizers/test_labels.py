"""Labels of the steps of a program: whose they are, what later steps are given, and what is learned."""

from typing import Any, Literal

import dspy
import pytest
from pydantic import BaseModel

from cascade.errors import StageFailed
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.optimizers.labels import has_labels, held, labelled
from cascade.programs import Cached, Pipeline
from cascade.testing import ScriptedEngine


class Two(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("question -> hint")
        self.ask = dspy.Predict("question, more -> answer")

    def forward(self, question: str) -> Any:
        if question == "fails":
            raise ValueError(question)
        return self.ask(question=question, more=self.think(question=question).hint + "!")

    async def aforward(self, question: str) -> Any:
        raise NotImplementedError


def example(question: str, **labels: str) -> Any:
    return dspy.Example(question=question, **labels).with_inputs("question")


ROWS = [
    example("one", hint="h1", answer="a1"),
    example("fails", hint="h2", answer="a2"),
    example("two", hint="h3", answer="a3"),
]


def test_every_predictor_says_its_label_and_the_next_is_given_it() -> None:
    program = Two()
    first, second, third = labelled(program, ROWS)
    assert [(one is program.think, given, dict(said)) for one, given, said in first[:1]] == [
        (True, {"question": "one"}, {"hint": "h1"})
    ]
    one, given, said = third[1]
    assert (one, given, dict(said)) == (program.ask, {"question": "two", "more": "h3!"}, {"answer": "a3"})
    assert [one for one, _, _ in second] == [program.think] and type(program.ask) is dspy.Predict


@pytest.mark.parametrize(
    ("fields", "has"), [("question hint answer", True), ("question answer", False), ("hint answer x", True)]
)
def test_a_program_has_labels_if_each_output_is_a_field(fields: str, has: bool) -> None:
    assert has_labels(Two().predictors(), fields.split()) is has


def test_nearest_demos_show_labels_with_what_right_steps_before_give() -> None:
    made = NearestDemos(lambda *_: 0, k=1, order="rows", num_threads=2).compile(Two(), trainset=ROWS)
    assert made.think.nearest.rows == tuple({"question": r.question, "hint": r.hint} for r in ROWS)
    assert made.ask.nearest.rows == (
        {"question": "one", "more": "h1!", "answer": "a1"},
        {"question": "two", "more": "h3!", "answer": "a3"},
    )


def test_where_no_step_has_labels_it_is_said() -> None:
    with pytest.raises(StageFailed, match=r"outputs of a predictor \(hint, answer\)"):
        BootstrapFinetune(lambda *_: 0, max_labeled_rows=5)._labels(Two(), [example("one")])


def test_a_step_behind_one_without_labels_has_none() -> None:
    assert labelled(Two(), [example("one", answer="a1")]) == [[]]


def test_equal_questions_with_other_labels_are_not_answered_from_a_cache() -> None:
    program = Pipeline(think=Cached(dspy.Predict("question -> hint")), ask=dspy.Predict("hint, question -> answer"))
    rows = [example("same", hint=hint, answer=hint * 2) for hint in ("a", "b")] + [example("same", answer="c")]
    assert [[dict(said) for *_, said in trace] for trace in labelled(program, rows, num_threads=1)] == [
        [{"hint": "a"}, {"answer": "aa"}],
        [{"hint": "b"}, {"answer": "bb"}],
        [],
    ]


def test_a_predictor_that_is_none_of_the_program_s_asks_nobody() -> None:
    class Makes(Two):
        def forward(self, question: str) -> Any:
            self.think(question=question)
            return dspy.Predict("question -> answer")(question=question)

    def never(*_: Any) -> Any:
        raise AssertionError("asked")

    with dspy.context(lm=dspy.LM("scripted/base", engine=ScriptedEngine(never), cache=False)):
        (trace,) = labelled(Makes(), [example("one", hint="h1", answer="a1")])
    assert [dict(said) for *_, said in trace] == [{"hint": "h1"}]


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
    program = dspy.Predict(dspy.Signature({"text": (str, dspy.InputField()), "said": (kind, dspy.OutputField())}))
    traces = labelled(program, [dspy.Example(text="t", said=value, more=1).with_inputs("text") for value in values])
    assert [said.said for trace in traces for _, _, said in trace] == kept


def test_of_two_ways_each_has_its_own_rows() -> None:
    class Ways(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.short, self.long = dspy.Predict("text -> brief"), dspy.Predict("text, more -> full")

        def forward(self, text: str) -> Any:
            return self.short(text=text) if len(text) < 3 else self.long(text=text, more="m")

    program = Ways()
    rows = [
        dspy.Example(text=t, brief=b, full=f).with_inputs("text") for t, b, f in [("a", "A", None), ("abcd", None, "F")]
    ]
    (brief,), (full,) = labelled(program, rows)
    assert (brief[0], brief[2].brief) == (program.short, "A")
    assert (full[0], full[1]["more"], full[2].full) == (program.long, "m", "F")


def test_a_predictor_is_held_where_all_its_fields_are() -> None:
    asks = dspy.Predict("text, hint -> said")
    assert not held(asks, {"text", "said"})
    assert held(asks, {"text", "said", "hint", "more"})
