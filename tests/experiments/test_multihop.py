"""The experiment `multihop`: its data, its programs on a scripted model, its metric."""

from typing import Any

import dspy
import pytest
from knowing import defined, saying, told_by_labels

from cascade.discover import import_file
from cascade.optimizers.labels import labelled
from cascade.tools.search import index_of

EXPERIMENT, (TRAIN, DEV, TEST) = defined("multihop")
ROWS = [row for split in (TRAIN, DEV, TEST) for row in split.rows]


@pytest.fixture(scope="module")
def file() -> Any:
    return import_file(EXPERIMENT.path, "experiments.multihop_looked_at")  # type: ignore[arg-type]


def test_every_answer_takes_both_passages_and_neither_alone_holds_it() -> None:
    text = {one["id"]: one["text"] for one in index_of("multihop").passages}
    for row in ROWS:
        first, second = row["facts"]
        assert row["bridge"] in text[first] and row["answer"] in text[second]
        assert row["bridge"] not in row["question"] and row["answer"] not in row["question"]
        assert row["second"].count("#1") == 1 and row["start"] in row["first"]


def test_sizes() -> None:
    assert [(len(split), len(set(split.groups or ()))) for split in (TRAIN, DEV, TEST)] == [
        (83, 33),
        (62, 28),
        (89, 35),
    ]


def test_one_search_finds_both_passages_almost_never_and_two_searches_mostly() -> None:
    index = index_of("multihop")

    def found(question: str, k: int) -> set[str]:
        return {one["id"] for one in index.search(question, k, "words")}

    once = [set(row["facts"]) <= found(row["question"], 5) for row in ROWS]
    twice = [
        row["facts"][0] in found(row["first"], 2)
        and row["facts"][1] in found(row["second"].replace("#1", row["bridge"]), 3)
        for row in ROWS
    ]
    assert sum(once) / len(ROWS) < 0.05 and sum(twice) / len(ROWS) > 0.8


def test_a_model_that_says_the_labels_has_every_row_right(file: Any) -> None:
    split = TEST.where([number < 20 for number in range(len(TEST))])
    for row, said in zip(split.rows, told_by_labels(file.TwoHops(), split), strict=True):
        assert EXPERIMENT.metric.score(dspy.Example(**row), said).value == 1
        assert said.then == row["second"].replace("#1", row["bridge"]) and row["bridge"] in said.notes[0]


def test_later_steps_learn_from_what_right_earlier_steps_find(file: Any) -> None:
    program = file.TwoHops()
    for example, trace in zip(TRAIN.examples(), labelled(program, TRAIN.examples()), strict=True):
        asked, (one, given, said) = [given for _, given, _ in trace], trace[2]
        assert asked[1]["first"] == example.first and said.answer == example.answer
        assert one is program.synthesize and given["notes"][1] == example.second.replace("#1", example.bridge)


def test_the_second_search_asks_what_the_first_found(file: Any) -> None:
    answers = {
        "question": {
            "first": "Who built the barge Blue Anvil?",
            "second": "Where was #1 born?",
            "facts": "[]",
            "answer": "x",
        },
        "first": {"bridge": "Nobody Known"},
    }
    with saying(lambda inputs: answers["first" if "first" in inputs else "question"]) as engine:
        said = file.TwoHops()(question="Where was the builder of the Blue Anvil born?")
    assert said.then == "Where was Nobody Known born?" and said.answer == "x" and len(engine.requests) == 3
    assert any(line.startswith("blue-anvil:") for line in said.sources)


@pytest.mark.parametrize(
    ("answer", "facts", "parts"),
    [
        ("miller", ["a", "b"], (1, 1)),
        ("Miller.", ["b", "a", "a"], (1, 1)),
        ("miller", ["a"], (1, 2 / 3)),
        ("miller", ["a", "b", "c"], (1, 4 / 5)),
        ("a miller", ["a", "b"], (0, 1)),
        ("", [], (0, 0)),
    ],
)
def test_answer_and_supporting_facts_count_half_each(answer: str, facts: list[str], parts: tuple[float, float]) -> None:
    example = dspy.Example(answer="miller", facts=["a", "b"])
    score = EXPERIMENT.metric.score(example, dspy.Prediction(answer=answer, facts=facts))
    assert (score.parts["answer"], score.parts["facts"]) == pytest.approx(parts)
    assert score.value == pytest.approx(sum(parts) / 2)
