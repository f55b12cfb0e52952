"""Pipelines: state by field name, faults when they are put together, edits that leave the old one as it was."""

from typing import Any

import dspy
import pytest

from cascade.errors import ProgramError, StepFailed
from cascade.programs import Pipeline, Renamed, Step, gives_of, takes_of

Predict = dspy.Predict


def count(text: str) -> int:
    return len(text)


COUNTS = Step(count, gives="n")
DOUBLES = Step(lambda n: 2 * n, gives="double")


def test_state_flows_by_name_and_the_later_field_counts() -> None:
    program = Pipeline(a=COUNTS, b=Step(lambda n: n + 1, gives="n"), c=Step(lambda text, n: text * n, gives="out"))
    assert dict(program(text="ab")) == {"n": 3, "out": "ababab"}


def test_the_last_step_s_fields_come_last_and_those_of_the_signature_at_the_end() -> None:
    steps = {"a": COUNTS, "b": Step(lambda n: {"x": n, "y": n}, gives=("x", "y")), "c": Step(lambda x: x, gives="n")}
    assert list(Pipeline(**steps)(text="a").keys()) == ["x", "y", "n"]
    assert list(Pipeline("text -> x: int", **steps)(text="a").keys()) == ["y", "n", "x"]


WRONG = [
    (Pipeline, "A pipeline has no steps"),
    (lambda: Pipeline("text -> n: int", a=DOUBLES, b=COUNTS), r"Step 'a' needs 'n', which is neither an input nor given by a step before it\. There is: 'text'\."),
    (lambda: Pipeline("question -> answer", a=Predict("question -> notes"), b=Predict("note, question -> answer")), "Step 'b' needs 'note', .* There is: 'question', 'notes'"),
    (lambda: Pipeline("text -> answer", a=COUNTS), "No step of the pipeline gives 'answer' of its signature. They give: 'text', 'n'"),
    (lambda: Pipeline(forward=COUNTS), "Step 'forward' of Pipeline has a name that DSPy"),
    (lambda: Pipeline(score=COUNTS), "Step 'score' of Pipeline"),
    (lambda: Pipeline(_a=COUNTS), "Step '_a' of Pipeline"),
    (lambda: Pipeline(**{"a b": COUNTS}), "Step 'a b' of Pipeline"),
    (lambda: Pipeline(a="text -> n"), "'text -> n' is no function and no module"),
    (lambda: Pipeline(a=COUNTS).add(a=DOUBLES), r"has a step 'a' already. Use replace\(a=…\)"),
    (lambda: Pipeline(a=COUNTS).insert(b=DOUBLES), "names no place"),
    (lambda: Pipeline(a=COUNTS).insert(before="a", after="a", b=DOUBLES), "names no place"),
    (lambda: Pipeline(a=COUNTS).insert(after="x", b=DOUBLES), "has no step 'x'. It has: 'a'"),
    (lambda: Pipeline(a=COUNTS).replace(b=DOUBLES), "has no step 'b'"),
    (lambda: Pipeline("text -> double: int", a=COUNTS, b=DOUBLES).without("a"), "Step 'b' needs 'n'"),
    (lambda: Renamed(COUNTS, takes={"words": "question"}), "Renamed names 'words', which its step does not have. It has: 'text'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_does_not_fit_is_said_when_it_is_put_together(make: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        make()


def test_what_is_not_known_is_refused_for_nothing_until_it_is_not_there() -> None:
    some = Step(lambda text: {"n": 1} if text else {"m": 1})
    program = Pipeline("text -> double", a=some, b=DOUBLES)
    assert program(text="a").double == 2
    with pytest.raises(StepFailed, match=r"Step 'b' needs 'n', which is not there\. There is: 'text', 'm'"):
        program(text="")
    with pytest.raises(StepFailed, match=r"gave 'answer'\. They gave: 'n'"):
        Pipeline("text -> answer", a=some)(text="a")


def test_edits_are_new_pipelines() -> None:
    one = Pipeline(a=COUNTS)
    two = one.add(c=DOUBLES)
    three = two.insert(before="c", b=Step(lambda n: n + 1, gives="n")).insert(
        after="c", d=Step(lambda double: {"e": double})
    )
    four = three.replace(a=Step(lambda text: 10, gives="n"))
    said = [program(text="abc") for program in (one, two, three, four)]
    assert [dict(found) for found in said] == [{"n": 3}, {"n": 3, "double": 6}, {"n": 4, "double": 8, "e": 8},
                                               {"n": 11, "double": 22, "e": 22}]  # fmt: skip
    assert list(three.without("d").named_steps()) == ["a", "b", "c"]
    assert three.a is one.a


def test_without_a_signature_its_fields_are_those_of_its_steps() -> None:
    program = Pipeline(a=Predict("question -> notes"), b=Predict("question, notes, style -> answer"))
    assert list(takes_of(program) or ()) == ["question", "style"]
    assert list(gives_of(program) or ()) == ["notes", "answer"]
    assert takes_of(Pipeline(a=Step(lambda **any: any), b=COUNTS)) is None


def test_a_step_under_other_names() -> None:
    search = Step(lambda query: {"found": [query]}, gives=("found",))
    program = Pipeline(
        "question -> passages: list[str]", look=Renamed(search, {"query": "question"}, {"found": "passages"})
    )
    assert dict(program(question="q")) == {"passages": ["q"]}


def test_a_part_of_a_name_in_prompts_is_the_step() -> None:
    program = Pipeline(read=dspy.ChainOfThought("question -> notes"), answer=Predict("notes -> answer"))
    assert [name for name, _ in program.named_predictors()] == ["read.predict", "answer"]
