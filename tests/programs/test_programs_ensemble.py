"""Ensembles: who wins, how ties are settled, what it costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import ProgramError, StepFailed
from cascade.programs import AskUntilAgreed, Consensus, MostConfident, Step, Vote
from cascade.programs.voting import count
from cascade.testing import ProgramCase


def member(answer: Any, **more: Any) -> Any:
    def say(question: str) -> Mapping[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        return {**more, "answer": answer}

    return Step(say)


NO = ValueError("no")
VOTES = [
    (["a", "b", "b"], None, ("b", {"a": 1.0, "b": 2.0}, [])),
    (["a", "b", "b"], [3, 1, 1], ("a", {"a": 3.0, "b": 2.0}, [])),
    (["b", "a"], None, ("b", {"b": 1.0, "a": 1.0}, ["b", "a"])),
    (["b", "a", "c"], [1, 2, 2], ("a", {"b": 1.0, "a": 2.0, "c": 2.0}, ["a", "c"])),
    (["The B!", "b"], None, ("The B!", {"b": 2.0}, [])),
    ([NO, "c", "a", "a"], None, ("a", {"c": 1.0, "a": 2.0}, [])),
    ([1, 2, 2], None, (2, {"1": 1.0, "2": 2.0}, [])),
]


@pytest.mark.parametrize(("says", "weights", "wanted"), VOTES)
def test_weights_are_counted_and_ties_are_told(says: Any, weights: Any, wanted: Any) -> None:
    found = Vote([member(answer) for answer in says], weights=weights)(question="q")
    assert (found.answer, found.votes, found.tied) == wanted
    assert list(found.keys())[-1] == "answer"
    assert found.failed == ({"members[0]": "ValueError: no"} if NO in says else {})


def test_members_and_weights_by_name() -> None:
    found = Vote({"big": member("a", why=1), "small": member("b", why=2)}, weights={"small": 1, "big": 2}, field="why")(
        question="q"
    )
    assert (found.answer, found.votes) == ("a", {"1": 2.0, "2": 1.0})


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), min_size=1, max_size=8))
def test_nobody_has_more_than_the_winner_and_of_equals_the_first_wins(said: list[tuple[str, int]]) -> None:
    opinions, weights = [one for one, _ in said], [float(weight) for _, weight in said]
    found = count(opinions, weights)
    most = max(found.votes.values())
    winner = opinions[found.winner]
    assert found.votes[winner] == most
    assert sum(found.votes.values()) == sum(weights)
    assert all(found.votes[one] < most for one in opinions[: found.winner])
    assert found.tied == ([] if len(found.tied) == 0 else [one for one, n in found.votes.items() if n == most])


def test_the_surest_member_counts_and_who_is_not_sure_is_told() -> None:
    found = MostConfident([member("a", confidence=0.2), member("b", confidence="0.9"), member("c", confidence="very")])(
        question="q"
    )
    assert (found.answer, found.confidences) == ("b", {"members[0]": 0.2, "members[1]": 0.9})
    assert "'very', which is no number" in found.failed["members[2]"]
    tied = MostConfident({"x": member("a", confidence=1), "y": member("b", confidence=1)})(question="q")
    assert (tied.answer, tied.tied) == ("a", ["x", "y"])
    with pytest.raises(StepFailed, match="No member says how sure it is"):
        MostConfident([member("a")])(question="q")


def test_somebody_else_may_judge_how_sure_one_can_be() -> None:
    found = MostConfident([member("a"), member("abc")], confidence=lambda question, answer: len(answer))(question="q")
    assert (found.answer, found.confidences) == ("abc", {"members[0]": 1.0, "members[1]": 3.0})


def test_consensus_is_a_share_of_all_members() -> None:
    says = [member("a"), member("a"), member(NO), member("b")]
    found = Consensus(says, agree=0.5)(question="q")
    assert (found.answer, found.share, found.agreed) == ("a", 0.5, True)
    with pytest.raises(
        StepFailed, match=r"50% of the members agree, of 60%\. They said: 'a', 'b'\. Say who settles it"
    ):
        Consensus(says, agree=0.6)(question="q")
    settled = Consensus(says, agree=0.6, otherwise=member("c"))(question="q")
    assert (settled.answer, settled.agreed, settled.share) == ("c", False, 0.5)


def asked_of(says: Sequence[Any], **options: Any) -> Any:
    turns = iter(says)

    def say(question: str) -> dict[str, Any]:
        answer = next(turns)
        if isinstance(answer, Exception):
            raise answer
        return {"answer": answer}

    return AskUntilAgreed(say, **options)(question="q")


ASKED = [
    (["a", "a"], {"agree": 2}, ("a", 2, True, [])),
    (["a", "b", "b"], {"agree": 2}, ("b", 3, True, [])),
    (["a", "b", "c", "d", "e"], {"agree": 2, "limit": 5}, ("a", 5, False, ["a", "b", "c", "d", "e"])),
    (["a", "b", "b", "a"], {"agree": 3, "limit": 4}, ("a", 4, False, ["a", "b"])),
    ([NO, "a", "a"], {"agree": 2}, ("a", 3, True, [])),
    (["a"], {"agree": 1}, ("a", 1, True, [])),
]


@pytest.mark.parametrize(("says", "options", "wanted"), ASKED)
def test_it_asks_until_enough_agree_and_no_further(says: Any, options: Any, wanted: Any) -> None:
    found = asked_of(says, **options)
    assert (found.answer, found.asked, found.agreed, found.tied) == wanted


def test_where_every_time_fails_the_reasons_are_told() -> None:
    with pytest.raises(StepFailed, match=r"All of 'member\[0\]', 'member\[1\]'.* failed"):
        asked_of([NO] * 2, agree=1, limit=2)


@given(st.lists(st.sampled_from("abc"), min_size=6, max_size=6), st.integers(1, 3))
def test_asking_at_once_asks_no_more_than_one_after_the_other(says: list[str], agree: int) -> None:
    alone = next((n for n in range(1, 7) if max(says[:n].count(one) for one in says[:n]) >= agree), 6)
    assert asked_of(says, agree=agree, limit=6).asked == alone


class Draws(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


@pytest.mark.parametrize("own", [False, True], ids=["the LM of the context", "an LM of its own"])
def test_each_time_is_a_draw_of_its_own_and_the_trace_has_the_member_itself(own: bool) -> None:
    asked: list[Any] = []

    class LM(dspy.LM):
        def forward_request(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            asked.append((self.kwargs.get("rollout_id"), self.kwargs["temperature"]))
            return [f"[[ ## answer ## ]]\n{'ab'[len(asked) % 2]}\n\n[[ ## completed ## ]]"]

    member = Draws()
    lm = LM("openai/nobody", temperature=0.0)
    if own:
        member.ask.lm = lm
    with dspy.context(lm=lm, trace=[], adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        AskUntilAgreed(member, agree=3, limit=4, temperature=0.5)(question="q")
        assert {who for who, *_ in dspy.settings.trace} == {member.ask}
    assert sorted(asked) == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5)]
    assert member.ask.lm is (lm if own else None)


WRONG = [
    (lambda: Vote([]), "Vote has no members"),
    (lambda: Vote([member("a")], weights=[1, 2]), r"Weights \[1, 2\] do not fit"),
    (lambda: Vote([member("a")], weights=[-1]), "do not fit"),
    (lambda: Vote({"a": member("a")}, weights={"b": 1}), "do not fit the members 'a'"),
    (lambda: Consensus([member("a")], agree=60), "agree=60. It is a share"),
    (lambda: AskUntilAgreed(member("a"), agree=3, limit=2), "1 ≤ agree ≤ limit"),
    (lambda: AskUntilAgreed(member("a"), temperature=0), "temperature=0"),
]


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_does_not_fit_is_said_when_it_is_put_together(make: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        make()


class As(dspy.Module):
    """A member that says what is expected of it."""

    def __init__(self, who: str) -> None:
        super().__init__()
        self.who, self.ask = who, dspy.Predict("question, who -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question, who=self.who)


def test_optimizers_learn_from_those_who_said_what_was_returned() -> None:
    program = Vote([As("a"), As("b"), As("b")])
    case = ProgramCase(lambda: program, says=lambda inputs: {"answer": inputs["who"]})
    with case.lm(), dspy.context(trace=[]):
        assert program(question="q").answer == "b"
        assert [who for who, *_ in dspy.settings.trace] == [member.ask for member in program.members[1:]]
