"""An agent: its tools are parts of it, what fails is an observation, and it ends."""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import ContextWindowExceededError

from cascade.errors import BudgetSpent, ProgramError
from cascade.program import Snapshot, restore, snapshot
from cascade.programs import Agent
from cascade.testing import AsyncScriptedEngine, ScriptedEngine


class Weigh(dspy.Module):
    """Tells how much a thing weighs.

    This is for people and not for the model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.judge = dspy.Predict("thing -> grams")

    def forward(self, thing: str) -> Any:
        return self.judge(thing=thing)


def shelf(number: int) -> str:
    """Tells what stands on a shelf."""
    return ("anvil", "feather")[number]


def burning() -> str:
    """Always fails."""
    raise OSError("the shelf is\non fire")


def sleeping() -> str:
    time.sleep(1)
    return "late"


def make(**options: Any) -> Agent:
    return Agent(
        "question -> answer", {"weigh": Weigh(), "shelf": shelf, "burning": burning, "sleeping": sleeping}, **options
    )


def scripted(*turns: tuple[str, str], grams: str = "5") -> tuple[ScriptedEngine, AbstractContextManager[Any]]:
    """An LM that makes these turns and then finishes; the answer is what it found."""

    def answer(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        if "thing" in inputs:
            return {"grams": f"{grams}, {demos} demos"}
        done = inputs.get("trajectory", "").count("Thought: ")
        tool, argument = turns[done] if done < len(turns) else ("finish", "")
        return {
            "thought": "hm",
            "tool": tool,
            "argument": argument,
            "arguments": argument,
            "answer": inputs.get("findings", ""),
        }

    engine = ScriptedEngine(answer)
    lm = dspy.LM("scripted/base", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False, num_retries=0)
    return engine, dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False), trace=[])


def told(said: Any) -> list[tuple[str, str, bool]]:
    return [(turn["tool"], turn["observation"], turn["failed"]) for turn in said.turns]


def test_it_uses_tools_until_it_knows() -> None:
    _, context = scripted(("shelf", "0"), ("weigh", "anvil"))
    with context:
        said = make()(question="How heavy is what stands on shelf 0?")
    assert told(said) == [("shelf", "anvil", False), ("weigh", "5, 0 demos", False)]
    assert [turn["arguments"] for turn in said.turns] == [{"number": 0}, {"thing": "anvil"}]
    assert said.stopped == "finish"
    assert said.answer == "Thought: hm\nshelf(0): anvil\nThought: hm\nweigh(anvil): 5, 0 demos"
    json.dumps(said.turns)


@pytest.mark.parametrize(
    ("turn", "observation"),
    [
        (("burning", ""), "failed: OSError: the shelf is on fire"),
        (("sleeping", ""), "failed: TimeoutError: Step 'sleeping' took over 0.1 s."),
        (("shelf", "2"), "failed: IndexError: tuple index out of range"),
        (("shelf", "top"), "failed: StepFailed: Tool 'shelf' cannot take 'top': Input should be a valid integer, unable "
                           "to parse string as an integer."),
    ],
)  # fmt: skip
def test_a_tool_that_fails_is_an_observation_and_the_agent_goes_on(turn: tuple[str, str], observation: str) -> None:
    for run in (lambda agent: agent(question="?"), lambda agent: asyncio.run(agent.acall(question="?"))):
        _, context = scripted(turn, ("shelf", "1"))
        with context:
            said = run(make(timeout=0.1))
        assert told(said) == [(turn[0], observation, True), ("shelf", "feather", False)]
        assert said.stopped == "finish"


def test_an_order_to_stop_inside_a_tool_stops() -> None:
    def spending(text: str) -> str:
        raise BudgetSpent("lm_calls")

    _, context = scripted(("spend", "all"))
    with context, pytest.raises(BudgetSpent):
        Agent("question -> answer", {"spend": spending}, timeout=5)(question="?")


def test_it_ends_at_its_limit_and_answers_by_what_it_knows() -> None:
    engine, context = scripted(*[("shelf", "1")] * 9)
    with context:
        said = make(limit=2)(question="?")
    assert (len(said.turns), said.stopped, len(engine.requests)) == (2, "limit", 3)


def test_a_choice_that_cannot_be_read_ends_it() -> None:
    _, context = scripted(("shelf", "1"), ("hammer", "anvil"))
    with context:
        said = make()(question="?")
    assert (told(said), said.stopped) == ([("shelf", "feather", False)], "unreadable")
    assert said.answer.endswith("shelf(1): feather")


def test_arguments_are_json_where_a_tool_takes_several() -> None:
    def add(a: int, b: int = 1) -> int:
        return a + b

    agent = Agent("question -> answer", {"add": add})
    turns = ('{"a": "2", "b": 3}', '{"a": 2, "c": 3}', '{"b": 3}', '{"a": 2}')
    _, context = scripted(*[("add", one) for one in turns])
    with context:
        said = agent(question="?")
    assert told(said) == [
        ("add", "5", False),
        ("add", "failed: StepFailed: Tool 'add' takes 'a', 'b' and not 'c'.", True),
        ("add", "failed: StepFailed: Tool 'add' needs 'a'.", True),
        ("add", "3", False),
    ]


def test_what_does_not_fit_the_model_is_forgotten_from_the_front() -> None:
    seen = []

    def answer(_model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str]:
        known = inputs.get("trajectory", inputs.get("findings", ""))
        seen.append(known.count("shelf("))
        if known.count("shelf(") > 1:
            raise ContextWindowExceededError(model="scripted/base")
        return {"thought": "hm", "tool": "shelf", "argument": "1", "answer": known}

    lm = dspy.LM("scripted/base", engine=ScriptedEngine(answer), cache=False, num_retries=0)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        said = make(limit=3)(question="?")
    assert (len(said.turns), said.answer) == (3, "Thought: hm\nshelf(1): feather")
    assert seen == [0, 1, 2, 1, 3, 2, 1]


def test_a_long_observation_is_cut() -> None:
    _, context = scripted(("shout", "a"))
    with context:
        said = Agent("question -> answer", {"shout": lambda text: text * 5_000})(question="?")
    assert said.turns[0]["observation"] == "a" * 1_500 + "… (3,500 more characters)"


def test_optimizers_teach_the_tools_and_what_they_learned_is_saved() -> None:
    examples = [dspy.Example(question=f"question {n}", answer="any").with_inputs("question") for n in range(6)]
    _, context = scripted(("shelf", "0"), ("weigh", "anvil"))
    with context:
        taught = dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=2, max_labeled_demos=0).compile(
            make(), trainset=examples
        )
        assert {name: len(one.demos) for name, one in taught.named_predictors()} == dict.fromkeys(
            ("tools['weigh'].judge", "choose", "answer"), 2
        )
        taken = snapshot(taught)
        again = restore(make, Snapshot(**json.loads(json.dumps(taken.to_json()))), lambda _: None)
        assert told(again(question="?"))[1] == ("weigh", "5, 2 demos", False)
        assert told(make()(question="?"))[1] == ("weigh", "5, 0 demos", False)


def test_a_copy_uses_its_own_tools() -> None:
    one = make()
    twin = one.deepcopy()
    dict(twin.named_predictors())["tools['weigh'].judge"].demos = [dspy.Example(thing="x", grams="1")]
    _, context = scripted(("weigh", "anvil"))
    with context:
        assert told(twin(question="?")) == [("weigh", "5, 1 demos", False)]
        assert told(one(question="?")) == [("weigh", "5, 0 demos", False)]


def test_tools_are_told_beside_the_field_so_that_new_instructions_do_not_lose_them() -> None:
    agent = make()
    desc = agent.choose.signature.output_fields["tool"].json_schema_extra["desc"]
    assert desc == (
        "weigh(thing): Tells how much a thing weighs.; shelf(number): Tells what stands on a shelf.; burning(): Always "
        "fails.; sleeping(): no description; finish(result): enough is known to give `answer`"
    )
    agent.choose.signature = agent.choose.signature.with_instructions("Other.")
    again = make()
    again.load_state(agent.dump_state())
    assert again.choose.signature.output_fields["tool"].json_schema_extra["desc"] == desc


def test_a_thought_is_asked_for_or_not() -> None:
    assert "thought" in make().choose.signature.output_fields
    assert list(make(thinks=False).choose.signature.output_fields) == ["tool", "argument"]


@pytest.mark.parametrize(
    ("signature", "tools", "options", "said"),
    [
        ("question -> answer", {}, {}, "has the tools nothing"),
        ("question -> answer", {"finish": shelf}, {}, "'finish' is its own"),
        ("question -> answer", {"a b": shelf}, {}, "A tool is called 'a b'"),
        ("question -> answer", {"answer": shelf}, {}, "A tool is called 'answer'"),
        ("question -> answer", {"shelf": 7}, {}, "7 is no function"),
        ("question, thought -> answer", {"shelf": shelf}, {}, "has 'thought', which is the agent's own"),
        ("question -> answer", {"shelf": shelf}, {"limit": 0}, "limit=0"),
    ],
)
def test_what_cannot_be_an_agent_is_refused(signature: str, tools: Any, options: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        Agent(signature, tools, **options)
