"""Programs that vote: what they say, and that they are saved and loaded like one program."""

import json
from typing import Any

import dspy
import pytest
import scripted

from cascade.ensemble import Vote, built
from cascade.program import Snapshot, restore, snapshot


class Says(dspy.Module):
    def __init__(self, answer: Any, why: str = "") -> None:
        super().__init__()
        self.said = answer, why

    def forward(self, question: str) -> Any:
        answer, why = self.said
        if isinstance(answer, Exception):
            raise answer
        return dspy.Prediction(why=why, answer=answer)


VOTES = [
    (["a", "b", "b"], "b"),
    (["a", "b", "c"], "a"),
    (["b", "a", "a", "b"], "b"),
    (["a", "The B!", "b"], "The B!"),
    ([ValueError("no"), "c", "a", "a"], "a"),
    ([1, 2, 2], 2),
    (["?", "!", "!"], "!"),
]


@pytest.mark.parametrize(("said", "wanted"), VOTES)
def test_what_most_say_counts_and_of_equals_the_first(said: list[Any], wanted: Any) -> None:
    assert Vote([Says(answer) for answer in said])(question="x").answer == wanted


def test_the_whole_prediction_of_the_first_who_said_it_is_returned() -> None:
    found = Vote([Says("a", "one"), Says("b", "two"), Says("b", "three")])(question="x")
    assert (found.why, found.answer) == ("two", "b")


def test_where_all_fail_the_reason_is_told() -> None:
    with pytest.raises(ValueError, match="second"):
        Vote([Says(ValueError("first")), Says(ValueError("second"))])(question="x")


class Members(dspy.Module):
    """A program of the user's own whose parts have the same name."""

    def __init__(self) -> None:
        super().__init__()
        self.members = [dspy.Predict("question -> answer"), dspy.Predict("question -> answer")]


def two() -> Any:
    one, other = scripted.Asks(), scripted.Asks()
    one.ask.signature = one.ask.signature.with_instructions("First.")
    other.ask.demos = [{"question": "q", "answer": "a"}]
    return Vote([one, other])


def test_a_vote_comes_back_from_its_state() -> None:
    taken = snapshot(two())
    assert list(taken.state) == ["members[0].ask", "members[1].ask"]
    again = restore(scripted.Asks, Snapshot(**json.loads(json.dumps(taken.to_json()))), lambda model: None)
    assert snapshot(again).digest == taken.digest
    assert again.members[0].ask.signature.instructions == "First."
    assert again.members[1].ask.demos == [{"question": "q", "answer": "a"}]


def test_a_vote_of_programs_of_one_predictor_comes_back() -> None:
    def factory() -> Any:
        return dspy.Predict("question -> answer")

    one, other = factory(), factory()
    one.signature = one.signature.with_instructions("First.")
    taken = snapshot(Vote([one, Vote([other, factory()])]))
    again = restore(factory, taken, lambda model: None)
    assert snapshot(again).digest == taken.digest
    assert (again.members[0].signature.instructions, type(again.members[1])) == ("First.", Vote)
    assert isinstance(built(factory, snapshot(factory()).state), dspy.Predict)


def test_what_is_no_vote_is_what_the_factory_makes() -> None:
    assert isinstance(built(scripted.Asks, snapshot(scripted.Asks()).state), scripted.Asks)
    assert isinstance(built(Members, snapshot(Members()).state), Members)
    assert isinstance(built(scripted.Asks, {}), scripted.Asks)


def test_votes_of_votes_come_back() -> None:
    taken = snapshot(Vote([two(), two()]))
    again = restore(scripted.Asks, taken, lambda model: None)
    assert snapshot(again).digest == taken.digest
