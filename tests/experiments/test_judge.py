"""The experiments `judge` and `judged`: labelled answers, the judge on a scripted model, the composite metric."""

from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest
from knowing import PROJECT, defined, saying, told_by_labels

from cascade.development.naming import rival
from cascade.discover import import_file
from cascade.judges import Judge, judges_of
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

JUDGE, (TRAIN, DEV, TEST) = defined("judge")
JUDGED, ANSWERS = defined("judged")


def test_each_passage_has_one_answer_of_each_verdict() -> None:
    sizes = [(len(split), len(set(split.groups or ()))) for split in (TRAIN, DEV, TEST)]
    assert sizes == [(237, 79), (90, 30), (120, 40)]
    for split in (TRAIN, DEV, TEST):
        assert set(Counter((row["passage"], row["verdict"]) for row in split.rows).values()) == {1}


def test_nothing_that_taught_the_judge_is_about_a_passage_that_it_judges_answers_to_on_dev_or_test() -> None:
    train, dev, test = (set(split.ids) for split in ANSWERS)
    taught, chosen, held = (set(split.groups or ()) for split in (TRAIN, DEV, TEST))
    assert train < taught and dev == chosen and not test & (taught | chosen) and not held & (train | dev | test)


def test_a_model_that_says_the_labels_agrees_with_all_of_them() -> None:
    split = DEV.where([number < 10 for number in range(len(DEV))])
    for row, said in zip(split.rows, told_by_labels(JUDGE.program(), split), strict=True):
        assert JUDGE.metric.score(dspy.Example(**row), said).value == 1


@pytest.mark.parametrize(
    ("precision", "recall", "verdict"),
    [("1", "1", "right"), ("1", "0.4", "partly"), ("0.3", "0.3", "wrong"), ("0", "0", "wrong")],
)
def test_semantic_f1_is_a_judge_that_is_compared_and_validated_like_the_rubric(
    precision: str, recall: str, verdict: str, tmp_path: Path
) -> None:
    settings = Settings(PROJECT, tmp_path, "")
    lms = ScriptedLMs(settings, ScriptedEngine(lambda *_: {}))
    program = rival("Semantic", JUDGE, settings, lms).program  # as `cascade compare judge --program Semantic` finds it
    row = {"question": "When?", "reference": "at noon", "response": "noon"}
    with saying(lambda _: {"reasoning": "so", "precision": precision, "recall": recall}):
        said = program(**row)
    assert (said.verdict, JUDGE.metric.score(dspy.Example(verdict=verdict), said).value) == (verdict, 1)
    assert Judge("judge", JUDGE.dataset, program=type(program)).field in said


def test_judged_asks_the_judge_that_judge_trains() -> None:
    (judge,) = judges_of(JUDGED.metric.judge)
    assert (judge.name, judge.labelled.name, judge.at_least) == ("judge", "judge", 0.4)
    assert judge.program().judge.signature.equals(JUDGE.program().judge.signature)


@pytest.mark.parametrize(
    ("verdict", "response", "value", "parts"),
    [
        ("right", "four words say it", 1.0, (1, 1, 1)),
        ("partly", "two words", 0.7, (1, 0, 1)),
        ("wrong", "two words", 0.0, (0, 0, 0)),
        ("right", "word " * 12, 0.9, (1, 1, 0.5)),
        ("right", "word " * 60, 0.8, (1, 1, 0)),
        ("right", " ", 0.0, (0, 0, 0)),  # nobody has to be asked about nothing
    ],
)
def test_an_answer_is_correct_complete_and_concise(
    verdict: str, response: str, value: float, parts: tuple[float, ...]
) -> None:
    module: Any = import_file(JUDGED.path, "experiments.judged_looked_at")  # type: ignore[arg-type]
    module.judge = lambda **_: verdict  # the judge has tests of its own
    example = dspy.Example(question="?", text="", response="one two three four")
    score = module.answer_quality.score(example, dspy.Prediction(response=response))
    assert score.value == pytest.approx(value)
    assert tuple(score.parts.values()) == pytest.approx(parts) and list(score.parts) == list(module.WEIGHTS)


def test_what_copying_the_text_is_worth() -> None:
    """The figure of datasets/judged/README.md: texts are short, so this metric cannot tell a reader from a copier."""
    module: Any = import_file(JUDGED.path, "experiments.judged_copied")  # type: ignore[arg-type]
    module.judge = lambda **_: "right"
    rows = ANSWERS[2].rows
    scores = [
        module.answer_quality.score(dspy.Example(**row), dspy.Prediction(response=row["text"])).value for row in rows
    ]
    assert sum(scores) / len(scores) == pytest.approx(0.99, abs=0.005)
