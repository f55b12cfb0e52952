"""Fusion: two steps as one call, refused where they do not fit, adopted only where examples show it is as good."""

from typing import Any, Literal

import dspy
import pytest
from step_asking import asking

from cascade.adopting import adopt, equivalent
from cascade.errors import ProgramError, Refused, StepFailed
from cascade.programs import Each, Filtered, Pipeline, Step, fuse, fuse_filter, fuse_retrieval

Predict, ChainOfThought = dspy.Predict, dspy.ChainOfThought


class Sort(dspy.Signature):
    """Say what a ticket is about."""

    ticket: str = dspy.InputField(desc="as it came in")
    topic: Literal["bill", "broken"] = dspy.OutputField()


class Reply(dspy.Signature):
    """Write a reply."""

    ticket: str = dspy.InputField()
    topic: Literal["bill", "broken"] = dspy.InputField()
    tone: str = dspy.InputField()
    reply: str = dspy.OutputField(desc="two sentences")


@pytest.mark.parametrize(
    ("first", "second", "keep", "fields"),
    [
        (Predict(Sort), Predict(Reply), True, "ticket, tone -> topic, reply"),
        (Predict(Sort), Predict(Reply), False, "ticket, tone -> reply"),
        (ChainOfThought(Sort), Predict(Reply), True, "ticket, tone -> reasoning, topic, reply"),
        (ChainOfThought(Sort), ChainOfThought(Reply), True, "ticket, tone -> reasoning, topic, reply"),
        (Predict("text -> a, b"), Predict("a -> c"), False, "text -> b, c"),
    ],
)
def test_it_takes_and_gives_what_both_did(first: Any, second: Any, keep: bool, fields: str) -> None:
    fused = fuse(first, second, keep=keep)
    predictor = fused.predictors()[0]
    assert predictor.signature.signature == fields
    for part in (first, second):
        assert part.predictors()[0].signature.instructions in predictor.signature.instructions


def test_types_and_descriptions_come_along() -> None:
    signature = fuse(Predict(Sort), Predict(Reply)).signature
    assert signature.output_fields["topic"].annotation == Literal["bill", "broken"]
    assert signature.input_fields["ticket"].json_schema_extra["desc"] == "as it came in"
    assert signature.output_fields["reply"].json_schema_extra["desc"] == "two sentences"


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (Predict("x -> y"), Predict("z -> w"), "the second takes 'z', nothing of which the first gives ('y')"),
        (Predict("x -> y: int"), Predict("y: str -> z"), "'y' is int in the first and str in the second"),
        (Predict("x -> y"), Predict("x: int, y -> z"), "'x' is str in the first and int in the second"),
        (Predict("x -> y"), Predict("y -> x"), "'x' is both what they take and what they give"),
        (Predict("x -> y, z"), Predict("y -> z"), "both give 'z'"),
        (Predict("x -> y", max_tokens=5), Predict("y -> z", max_tokens=6), "their option 'max_tokens' is 5 and 6"),
        (dspy.ReAct("x -> y", tools=[]), Predict("y -> z"), "ReAct is no dspy.Predict and no dspy.ChainOfThought"),
    ],
)
def test_what_does_not_fit_is_a_clear_error(first: Any, second: Any, says: str) -> None:
    with pytest.raises(ProgramError) as raised:
        fuse(first, second)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_models_are_not_fused() -> None:
    first, second = Predict("x -> y"), Predict("y -> z")
    with asking() as engine:
        first.set_lm(dspy.settings.lm)
        with pytest.raises(ProgramError, match="two different models"):
            fuse(first, second)
        second.set_lm(first.lm)
        assert fuse(first, second).lm is first.lm
    assert engine.requests == []


def test_calls_are_halved() -> None:
    first, second = Predict("question -> notes"), ChainOfThought("question, notes -> answer")
    plain, fused = Pipeline(a=first, b=second), fuse(first, second)
    with asking() as engine:
        for _ in range(10):
            two = plain(question="hi")
        calls = len(engine.requests)
        for _ in range(10):
            one = fused(question="hi")
    assert (calls, len(engine.requests) - calls) == (20, 10)
    assert {**one} == {**two}


def test_a_filter_and_a_change_are_one_call() -> None:
    keep, change = Predict("text -> fits: bool"), Predict("text -> short")
    plain, fused = Filtered(keep, change, passes="fits"), fuse_filter(keep, change)

    def says(inputs: Any) -> dict[str, str]:
        fits = "good" in inputs["text"]
        return {"fits": str(fits), "short": inputs["text"][:4] if fits else "null"}

    with asking(says) as engine:
        two = [plain(text=text) for text in ("good one", "bad one")]
        calls = len(engine.requests)
        one = [fused(text=text) for text in ("good one", "bad one")]
    assert (calls, len(engine.requests) - calls) == (3, 2)
    assert [dict(said) for said in one] == [dict(said) for said in two] == [
        {"fits": True, "short": "good"}, {"fits": False, "short": None}]  # fmt: skip


def test_a_filter_takes_and_gives_what_both_do() -> None:
    plain = Filtered(Predict("text -> fits: bool"), lambda text, length: {"short": text[:length]}, passes="fits")
    assert list(plain.takes or ()) == ["text", "length"]
    assert not hasattr(plain, "replace")  # a pipeline of its parts would not filter


def test_a_filter_must_say_what_passes() -> None:
    with pytest.raises(ProgramError, match="no single output of type bool"):
        fuse_filter(Predict("text -> a: bool, b: bool"), Predict("text -> short"))
    with pytest.raises(ProgramError, match="no single output of type bool"):
        fuse_filter(Predict("text -> fits"), Predict("text -> short"), passes="fits")
    fused = fuse_filter(Predict("text -> a: bool, b: bool"), Predict("text -> short"), passes="b")
    assert "only if `b` is true" in fused.module.signature.instructions


def found(question: str) -> list[str]:
    return [f"{question} {number}" for number in range(5)]


def test_retrieval_and_processing_are_one_call_for_all_passages() -> None:
    process = Predict("question, passage -> fact: str, year: int")
    how: dict[str, Any] = {"passages": "passages", "passage": "passage"}

    def says(inputs: Any) -> dict[str, str]:
        if "passages" in inputs:
            return {"fact": '["A", "B", "C", "D", "E"]', "year": "[0, 1, 2, 3, 4]"}
        return {"fact": "ABCDE"[int(inputs["passage"][-1])], "year": inputs["passage"][-1]}

    with asking(says) as engine:
        many = Pipeline(search=Step(found, gives="passages"), process=Each(process, over="passages", each="passage"))(
            question="q"
        )
        calls = len(engine.requests)
        one = fuse_retrieval(found, process, **how)(question="q")
    assert (calls, len(engine.requests) - calls) == (5, 1)
    assert (one.fact, one.year) == (many.fact, many.year) == (list("ABCDE"), [0, 1, 2, 3, 4])


def test_lists_of_another_length_fail_the_step() -> None:
    fused = fuse_retrieval(found, Predict("passage -> fact"), passages="passages", passage="passage")
    with asking(lambda _: {"fact": '["one"]'}), pytest.raises(StepFailed, match="1 entries of 'fact' for 5 passages"):
        fused(question="q")
    with pytest.raises(ProgramError, match="not 'page'"):
        fuse_retrieval(found, Predict("passage -> fact"), passages="passages", passage="page")


ROWS = [dspy.Example(question=f"q{n}", answer=f"Q{n}").with_inputs("question") for n in range(60)]


def right(example: Any, prediction: Any) -> bool:
    return bool(prediction.answer == example.answer)


def verdict(wrong: int, rows: Any = ROWS, margin: float = 0.1) -> Any:
    """Of a fused step that is wrong on so many of the questions."""
    first, second = Predict("question -> notes"), Predict("question, notes -> answer")
    with asking(lambda inputs: _says(inputs, wrong)):
        return equivalent(Pipeline(a=first, b=second), fuse(first, second), rows, right, margin=margin)


def _says(inputs: Any, wrong: int) -> dict[str, str]:
    fused = "notes" not in inputs
    number = int(inputs["question"][1:])
    return {"answer": "wrong" if fused and number < wrong else f"Q{number}", "notes": ""}


@pytest.mark.parametrize(
    ("wrong", "rows", "said", "adopted"),
    [(0, ROWS, "equivalent", True), (30, ROWS, "worse", False), (0, ROWS[:20], "inconclusive", False)],
)
def test_the_verdict_is_the_cascades(wrong: int, rows: Any, said: str, adopted: bool) -> None:
    found = verdict(wrong, rows)
    assert (found.comparison.verdict.value, found.adopted) == (said, adopted)
    assert (found.calls_before, found.calls) == (2 * len(rows), len(rows))
    assert found.says.startswith(f"{said}: ")
    assert f"{len(rows)} LM calls instead of {2 * len(rows)}" in found.says
    assert ("could not have been seen" in found.says) == (said == "inconclusive")


def test_only_what_was_shown_to_be_as_good_is_adopted() -> None:
    first, second = Predict("question -> notes"), Predict("question, notes -> answer")
    plain, fused = Pipeline(a=first, b=second), fuse(first, second)
    with asking(lambda inputs: _says(inputs, 0)):
        assert adopt(plain, fused, ROWS, right, margin=0.1) is fused
    with asking(lambda inputs: _says(inputs, 30)), pytest.raises(Refused, match=r"not adopted: worse: -50\.0 points"):
        adopt(plain, fused, ROWS, right, margin=0.1)


def test_filters_and_retrievals_are_adopted_by_the_same_rule() -> None:
    def says(inputs: Any) -> dict[str, str]:
        facts = '["Q0", "Q1", "Q2", "Q3", "Q4"]' if "passages" in inputs else f"Q{inputs.get('passage', ' ')[-1]}"
        return {"fits": str(inputs["question"].endswith("1")), "answer": f"Q{inputs['question'][1:]}", "fact": facts}

    keep, change = Predict("question -> fits: bool"), Predict("question -> answer")
    process = Predict("question, passage -> fact")
    how: dict[str, Any] = {"passages": "passages", "passage": "passage"}
    each = Pipeline(search=Step(found, gives="passages"), process=Each(process, over="passages", each="passage"))
    for plain, fused, good, calls in (
        (Filtered(keep, change, passes="fits"), fuse_filter(keep, change), lambda row, said: said.answer == (row.answer if said.fits else None), (66, 60)),
        (each, fuse_retrieval(found, process, **how), lambda _, said: said.fact == ["Q0", "Q1", "Q2", "Q3", "Q4"], (300, 60)),
    ):  # fmt: skip
        with asking(says):
            judged = equivalent(plain, fused, ROWS, good, margin=0.1)
        assert (judged.comparison.verdict.value, judged.adopted) == ("equivalent", True)
        assert (judged.score_before, judged.score) == (1.0, 1.0)
        assert (judged.calls_before, judged.calls) == calls
