"""Programs as values: snapshots, copies that may be taken apart, prompts to read."""

import json
from typing import Any

import dspy
import pytest
import scripted

from cascade.program import Snapshot, predictor_lms, prompts, prompts_diff, restore, snapshot, thawed


class Two(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.plan = dspy.ChainOfThought("question -> plan")
        self.say = scripted.Asks()


def taught(text: str = "Answer well.") -> Any:
    program = Two()
    program.say.ask.signature = program.say.ask.signature.with_instructions(text)
    program.say.ask.demos = [dspy.Example(question="1+1?", answer="2", augmented=True)]
    return program


def lm(model: str = "openai/x", **options: Any) -> Any:
    return dspy.LM(model, api_key="sk-canary-4711", api_base="http://secret.example/v1", **options)


def test_a_snapshot_holds_no_key_no_endpoint_and_no_lm() -> None:
    program = taught()
    program.set_lm(lm())
    taken = snapshot(program)
    text = json.dumps(taken.to_json())
    assert "canary" not in text
    assert "secret.example" not in text
    assert taken.lms == {"plan.predict": "openai/x", "say.ask": "openai/x"}
    assert all(state["lm"] is None for state in taken.state.values())
    assert program.say.ask.lm is not None


def test_a_snapshot_comes_back() -> None:
    program = taught()
    own = lm("openai/own")
    program.say.ask.lm = own
    taken = snapshot(program)
    again = restore(Two, Snapshot(**json.loads(json.dumps(taken.to_json()))), {"openai/own": own}.__getitem__)
    assert snapshot(again).digest == taken.digest
    assert again.say.ask.lm is own
    assert again.plan.predict.lm is None
    assert again.say.ask.signature.instructions == "Answer well."


def test_a_program_that_is_one_predictor_comes_back() -> None:
    def factory() -> Any:
        return dspy.Predict("question -> answer")

    program = factory()
    program.demos = [dspy.Example(question="1+1?", answer="2")]
    again = restore(factory, snapshot(program), {}.__getitem__)
    assert [demo["answer"] for demo in again.demos] == ["2"]
    assert snapshot(again).digest == snapshot(program).digest


def compiled(program: Any) -> Any:
    program._compiled = program.say._compiled = program.say.ask._compiled = True
    return program


CHANGES = [
    (lambda program: None, True),
    (compiled, True),
    (lambda program: setattr(program, "note", "not saved"), True),
    (lambda program: setattr(program.say.ask, "demos", []), False),
    (lambda program: setattr(program.say.ask, "lm", lm()), False),
    (
        lambda program: setattr(
            program.plan.predict, "signature", program.plan.predict.signature.with_instructions("?")
        ),
        False,
    ),
]


@pytest.mark.parametrize(("change", "same"), CHANGES)
def test_equal_digests_mean_the_same_program(change: Any, same: bool) -> None:
    program = taught()
    change(program)
    assert (snapshot(program).digest == snapshot(taught()).digest) is same
    assert len(snapshot(program).digest) == 12


def test_compiled_parts_are_in_the_snapshot() -> None:
    assert set(snapshot(compiled(taught())).state) == {"plan.predict", "say.ask"}


def test_a_thawed_copy_shares_lms_and_nothing_else() -> None:
    program = compiled(taught())
    program.set_lm(lm())
    program.say.ask.lm = own = lm("openai/own")
    twin = thawed(program)
    assert [name for name, _ in twin.named_predictors()] == ["plan.predict", "say.ask"]
    assert not any(getattr(part, "_compiled", False) for _, part in twin.named_sub_modules())
    assert twin.say.ask.lm is own
    twin.say.ask.demos.append(dspy.Example(question="more"))
    twin.say.ask.signature = twin.say.ask.signature.with_instructions("Other.")
    assert len(program.say.ask.demos) == 1
    assert program.say.ask.signature.instructions == "Answer well."
    assert program.say._compiled


def test_lms_by_predictor() -> None:
    program = taught()
    program.say.ask.lm = own = lm("openai/own")
    assert predictor_lms(program) == {"say.ask": own}


def test_prompts_can_be_read() -> None:
    program = taught()
    program.say.ask.lm = lm("openai/own")
    text = prompts(snapshot(program))
    assert "# say.ask" in text
    assert "Model: `openai/own`" in text
    assert "Answer well." in text
    assert "## Demos (1)" in text
    assert "- **question**: 1+1?; **answer**: 2" in text
    assert "augmented" not in text


def test_a_diff_shows_what_changed() -> None:
    diff = prompts_diff(snapshot(taught()), snapshot(taught("Answer better.")))
    assert diff.startswith("```diff\n")
    assert "-Answer well." in diff
    assert "+Answer better." in diff
    assert prompts_diff(snapshot(taught()), snapshot(taught())) == "The prompts are the same.\n"
