"""Predictors that show the rows most like the question: what they show, and that they come back from every kind of save."""

import asyncio
import copy
import datetime
import json
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest
import scripted

from cascade.errors import ExperimentError
from cascade.fields import plain
from cascade.nearest import BM25, Index, NearestPredict, as_shown, embed, give, revive
from cascade.program import Snapshot, prompts, restore, snapshot, thawed
from cascade.testing import AsyncScriptedEngine, ScriptedEngine

ROWS = (
    {"question": "my printer is out of toner", "answer": "printer"},
    {"question": "the vpn drops every hour", "answer": "vpn"},
    {"question": "printer jam on floor two", "answer": "printer"},
    {"question": "i forgot my password", "answer": "password"},
    {"question": "vpn client asks for a password", "answer": "vpn"},
)


def index(**changes: Any) -> Index:
    return Index(**{"rows": ROWS, "inputs": ("question",), "k": 2, **changes})


def shown(found: Index, question: str) -> list[str]:
    return [row["question"].split()[0] for row in found.nearest({"question": question})]


@pytest.mark.parametrize(
    ("order", "wanted"),
    [("first", ["printer", "my"]), ("last", ["my", "printer"]), ("rows", ["my", "printer"])],
)
def test_the_nearest_rows_are_shown_in_the_order_that_was_chosen(order: Any, wanted: list[str]) -> None:
    assert shown(index(order=order), "paper jam in the printer") == wanted


def test_the_order_of_rows_gives_two_questions_one_beginning() -> None:
    one, other = (shown(index(order="rows", k=3), question) for question in ("printer jam", "toner for a printer jam"))
    assert one[:2] == other[:2] == ["my", "printer"] or one[0] == other[0]
    assert [row["question"] for row in index(order="rows", k=5).nearest({"question": "?"})] == [
        row["question"] for row in ROWS
    ]


def test_a_row_never_sees_itself() -> None:
    for row in ROWS:
        assert row not in index(k=5).nearest({"question": row["question"]})
        assert len(index(k=5).nearest({"question": row["question"]})) == 4


class Place(pydantic.BaseModel):
    name: str
    floor: int = 1


TYPED = (
    Place(name="attic"),
    [Place(name="attic")],
    {"at": Place(name="attic")},
    ("attic", 2),
    datetime.date(2026, 1, 2),
)


@pytest.mark.parametrize("value", TYPED, ids=repr)
def test_a_row_of_any_type_never_sees_itself(value: Any) -> None:
    """A label that stands in its own question's prompt is copied, and the score is a lie."""
    rows = [{"place": plain(one), "answer": "x"} for one in (value, Place(name="cellar"), Place(name="roof"))]
    found = index(rows=tuple(json.loads(json.dumps(rows))), inputs=("place",), k=3)
    assert found.nearest({"place": value}) == rows[1:]


def test_values_of_any_type_are_compared_as_rows_are() -> None:
    rows = [{"place": plain(Place(name=name)), "answer": name} for name in ("attic", "cellar", "roof")]
    found = index(rows=tuple(rows), inputs=("place",), k=1)
    (nearest,) = found.nearest({"place": Place(name="cellar", floor=2)})
    assert nearest["answer"] == "cellar"


def test_fewer_rows_than_k_are_all_shown() -> None:
    assert len(index(k=9).nearest({"question": "vpn"})) == 5
    assert index(rows=(), k=3).nearest({"question": "vpn"}) == []


def test_word_endings_and_slips_do_not_matter() -> None:
    assert shown(index(k=1), "pasword forgoten") == ["i"]


@pytest.mark.parametrize("text", ["", "?!", "日本語", "a"])
def test_any_text_is_searched(text: str) -> None:
    assert len(BM25(["", "日本語の質問", "a b"]).scores(text)) == 3
    assert BM25([]).scores(text) == []


def test_rare_pieces_count_for_more_and_scores_are_those_of_the_formula() -> None:
    """One text of one piece held by one of two texts: ln(1 + 1.5/1.5) · 2.2/(1 + 1.2)."""
    assert BM25(["x", "y"]).scores("x") == pytest.approx([0.6931, 0.0], abs=1e-4)
    common, rare = BM25(["one two", "one", "one"]).scores("one"), BM25(["one two", "one", "one"]).scores("two")
    assert max(rare) > max(common) > 0


def letters(texts: list[str]) -> list[list[float]]:
    """An embedder of a package, for tests: how often each of four letters stands in a text."""
    return [[float(text.count(letter)) for letter in "pvtw"] for text in texts]


EMBEDDER = f"{__name__}:letters"


def embedded(**changes: Any) -> Index:
    vectors = tuple(embed(EMBEDDER, [row["question"] for row in ROWS]))
    return index(embedder=EMBEDDER, vectors=vectors, **changes)


def test_an_embedder_takes_the_place_of_bm25() -> None:
    assert shown(embedded(k=1), "vvvv") == ["the"]
    assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-4) for vector in embedded().vectors)


@pytest.mark.parametrize("name", ["nowhere:letters", f"{__name__}:nothing"])
def test_an_embedder_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ExperimentError, match=f"Embedder '{name}' cannot be imported"):
        index(embedder=name).nearest({"question": "x"})


def program(found: Index) -> Any:
    made = scripted.Asks()
    give(made.ask, found)
    made.ask.demos = [{"question": "fixed", "answer": "fixed"}]
    return made


def prompt(asked: Any, question: str = "printer jam") -> str:
    """What reaches the LM."""
    sent: list[Any] = []

    class Keeps(ScriptedEngine):
        def complete(self, request: Any) -> Any:
            sent.append([message.text for message in request.messages])
            return super().complete(request)

    engine = Keeps(lambda model, inputs, demos: {"answer": f"{demos} demos"})
    with dspy.context(lm=dspy.LM("scripted/x", engine=engine, cache=False), adapter=dspy.ChatAdapter()):
        assert asked(question=question).answer
    return json.dumps(sent)


def by_state(made: Any, folder: Path) -> Any:
    again = scripted.Asks()
    again.load_state(json.loads(json.dumps(made.dump_state())))
    return revive(again)


def by_file(made: Any, folder: Path) -> Any:
    made.save(folder / "program.json")
    again = scripted.Asks()
    again.load(folder / "program.json")
    return revive(again)


def by_its_own_kind(made: Any, folder: Path) -> Any:
    again = thawed(made)
    give(again.ask, index(rows=()))
    again.load_state(json.loads(json.dumps(made.dump_state())))
    return again


def by_snapshot(made: Any, folder: Path) -> Any:
    taken = Snapshot(**json.loads(json.dumps(snapshot(made).to_json())))
    return restore(scripted.Asks, taken, lambda model: None)


@pytest.mark.parametrize("found", [index(), embedded(order="last")], ids=["BM25", "embedder"])
@pytest.mark.parametrize(
    "way", [by_state, by_file, by_its_own_kind, by_snapshot, lambda made, _: copy.deepcopy(made), lambda made, _: thawed(made)]
)  # fmt: skip
def test_it_comes_back_and_asks_the_same(way: Any, found: Index, tmp_path: Path) -> None:
    made = program(found)
    again = way(made, tmp_path)
    assert isinstance(again.ask, NearestPredict)
    assert snapshot(again).digest == snapshot(made).digest
    assert prompt(again) == prompt(made) != prompt(scripted.Asks())
    assert "fixed" in prompt(again)


def test_a_plain_state_makes_it_plain() -> None:
    made = program(index())
    made.load_state(scripted.Asks().dump_state())
    assert made.ask.nearest is None
    assert prompt(made) == prompt(scripted.Asks())


def test_a_program_that_is_one_predictor_keeps_its_index_too() -> None:
    made = dspy.Predict("question -> answer")
    give(made, index())
    again = restore(lambda: dspy.Predict("question -> answer"), snapshot(made), lambda model: None)
    assert prompt(again) == prompt(made)


def test_it_is_found_reset_and_shared_like_any_predictor() -> None:
    made = program(index())
    assert [name for name, _ in made.named_predictors()] == ["ask"]
    fresh = made.reset_copy()
    assert (fresh.ask.demos, fresh.ask.nearest) == ([], made.ask.nearest)


def test_it_is_awaited_with_the_same_demos() -> None:
    engine = ScriptedEngine(lambda model, inputs, demos: {"answer": f"{demos}"})
    lm = dspy.LM("scripted/x", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        assert asyncio.run(program(index()).ask.acall(question="vpn")).answer == "3"


def test_what_is_trained_on_is_what_was_shown() -> None:
    made = program(index())
    plain = as_shown(made.ask, {"question": "printer jam"})
    assert type(plain) is dspy.Predict
    assert [demo["question"] for demo in plain.demos] == [
        "fixed",
        "my printer is out of toner",
        "printer jam on floor two",
    ]
    assert (len(made.ask.demos), as_shown(plain, {})) == (1, plain)


def test_its_rows_are_read_in_the_prompts() -> None:
    text = prompts(snapshot(program(index(order="last"))))
    assert "With each question the 2 nearest of 5 rows by BM25, the nearest last:" in text
    assert "**question**: i forgot my password" in text
