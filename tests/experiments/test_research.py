"""The experiment `research`: its data, its programs on a scripted model, its metric."""

import asyncio
import json
from typing import Any

import dspy
import pytest
from knowing import defined, saying, told_by_labels

from cascade.discover import import_file
from cascade.tools.citations import citation, fault
from cascade.tools.search import index_of

EXPERIMENT, (TRAIN, DEV, TEST) = defined("research")


@pytest.fixture(scope="module")
def file() -> Any:
    """By words, so that no test of programs waits for embeddings."""
    module = import_file(EXPERIMENT.path, "experiments.research_by_words")  # type: ignore[arg-type]
    module.CORPUS["by"] = "words"
    return module


def test_every_finding_stands_in_its_passage_and_holds_the_answer() -> None:
    passages = index_of("research").passages
    for row in (row for split in (TRAIN, DEV, TEST) for row in split.rows):
        (cited,) = map(citation, row["findings"])
        assert fault(cited, passages) == "" and row["answer"] in cited["quote"] and cited["id"] == row["passage"]
        assert len(row["findings"][0]) <= 80, "an embedded model's grammar allows no longer text in a list"


def test_sizes_and_sources() -> None:
    assert [(len(split), len(set(split.groups or ()))) for split in (TRAIN, DEV, TEST)] == [
        (78, 39),
        (60, 30),
        (80, 40),
    ]
    assert {one["source"] for one in index_of("research").passages} == {"handbook", "minutes", "register"}
    assert len(index_of("research").passages) == 141


@pytest.mark.parametrize("name", ["Research", "PlainResearch"])
def test_a_model_that_says_the_labels_is_right_wherever_search_found_the_passage(file: Any, name: str) -> None:
    program = getattr(file, name)()
    split = TEST.where([number < 20 for number in range(len(TEST))])
    for row, said in zip(split.rows, told_by_labels(program, split), strict=True):
        score = EXPERIMENT.metric.score(dspy.Example(**row), said)
        found = row["passage"] in {one["id"] for one in said.passages}
        assert score.parts["answer"] == 1 and score.parts["citation"] == float(found)
        assert said.response == f"{row['answer']} [{row['passage'] if found else 'no source was found to say so'}]"


def test_sources_are_searched_apart_and_what_a_model_makes_up_is_not_cited(file: Any) -> None:
    program = file.Research()

    def made_up(inputs: Any) -> Any:
        return {"findings": json.dumps(["minutes-99: made up", "handbook-01: made up too"]), "answer": "42"}

    with saying(made_up):
        said = program(question="On which day do people living north of the river have their rubbish taken away?")
    assert [one["source"] for one in said.passages] == [name for name in file.SOURCES for _ in range(2)]
    assert said.citations == [] and next(one["fault"] for one in said.refused) == "minutes-99 was not retrieved"
    assert said.response == "42 [no source was found to say so]"


def test_it_can_be_awaited(file: Any) -> None:
    with saying(lambda _: {"findings": json.dumps(["handbook-01: x"]), "answer": "42"}):
        said = asyncio.run(file.Research().acall(question="On which day is the bathing water sampled?"))
    assert said.answer == "42" and len(said.passages) == 6


@pytest.mark.parametrize(
    ("answer", "citations", "refused", "value", "parts", "told"),
    [
        ("Tuesdays", ["handbook-01"], 0, 1.0, (1, 1), "Right and supported."),
        ("tuesdays!", ["handbook-01"], 0, 1.0, (1, 1), "Right and supported."),
        ("on Tuesdays", ["handbook-01"], 0, 5 / 6, (2 / 3, 1), "the answer is 'Tuesdays'"),
        ("Fridays", ["handbook-01"], 0, 0.5, (0, 1), "the answer is 'Tuesdays'"),
        ("Tuesdays", [], 0, 0.5, (1, 0), "it stands in handbook-01"),
        ("Tuesdays", ["minutes-01"], 0, 0.5, (1, 0), "it stands in handbook-01"),
        ("Tuesdays", ["handbook-01", "minutes-01"], 0, 5 / 6, (1, 2 / 3), "Right and supported."),
        ("Tuesdays", ["handbook-01"], 1, 5 / 6, (1, 2 / 3), "f"),
        ("", [], 1, 0.0, (0, 0), "the answer is 'Tuesdays'; f; it stands in handbook-01"),
    ],
)
def test_an_answer_counts_half_and_its_support_half(
    answer: str, citations: list[str], refused: int, value: float, parts: tuple[float, float], told: str
) -> None:
    example = dspy.Example(answer="Tuesdays", findings=["handbook-01: collected on Tuesdays"])
    cited = [{"id": id_, "quote": "collected"} for id_ in citations]
    score = EXPERIMENT.metric.score(
        example, dspy.Prediction(answer=answer, citations=cited, refused=[{"fault": "f"}] * refused)
    )
    assert (score.value, score.feedback) == (pytest.approx(value), told)
    assert (score.parts["answer"], score.parts["citation"]) == pytest.approx(parts)
