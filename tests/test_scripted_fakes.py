"""The public fakes: an engine that answers by rule, LMs by name, a trainer."""

import asyncio
import copy
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.settings import LMSpec
from cascade.testing import AsyncScriptedEngine, ScriptedEngine, ScriptedLMs, ScriptedProvider


def shouted(model: str, inputs: Any, demos: int) -> Any:
    return {"answer": f"{model} {inputs['question'].upper()} {demos}"}


def test_it_answers_by_model_inputs_and_demos() -> None:
    engine = ScriptedEngine(shouted)
    program = dspy.Predict("question -> answer")
    program.demos = [dspy.Example(question="q", answer="a")] * 2
    with dspy.context(lm=dspy.LM("scripted/base", engine=engine, cache=False)):
        assert program(question="hi\n\nthere").answer == "scripted/base HI\n\nTHERE 2"
    assert len(engine.requests) == 1


def test_fields_that_the_script_does_not_name_are_filled() -> None:
    engine = ScriptedEngine(lambda model, inputs, demos: {"answer": "b"})
    with dspy.context(lm=dspy.LM("scripted/base", engine=engine, cache=False)):
        found = dspy.Predict("question -> why, answer")(question="hi")
    assert (found.why, found.answer) == ("some why", "b")


def test_a_text_is_sent_as_it_is() -> None:
    engine = ScriptedEngine(lambda model, inputs, demos: "no format")
    assert dspy.LM("scripted/base", engine=engine, cache=False)("hi") == ["no format"]


def test_what_the_script_raises_is_a_failing_call() -> None:
    def fails(model: str, inputs: Any, demos: int) -> Any:
        raise ConnectionError("lost")

    engine = ScriptedEngine(fails)
    with pytest.raises(Exception, match="lost"):
        dspy.LM("scripted/base", engine=engine, cache=False, num_retries=0)("hi")
    assert engine.requests == []


def test_it_can_be_awaited() -> None:
    engine = ScriptedEngine(shouted)
    lm = dspy.LM("scripted/base", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False)
    with dspy.context(lm=lm):
        assert asyncio.run(dspy.Predict("question -> answer").acall(question="hi")).answer == "scripted/base HI 0"


def test_fakes_are_never_copied(tmp_path: Path) -> None:
    for fake in (ScriptedEngine(shouted), AsyncScriptedEngine(ScriptedEngine(shouted)), ScriptedProvider(tmp_path)):
        assert copy.deepcopy(fake) is fake


def test_lms_by_name(tmp_path: Path) -> None:
    settings = scripted.settings_in(tmp_path, lm={"prompt": LMSpec("scripted/writer"), "task": LMSpec("openai/real")})
    lms = ScriptedLMs(settings, ScriptedEngine(shouted))
    assert (lms["prompt"].model, lms["task"].model, lms["teacher"].model) == (
        "scripted/writer",
        "scripted/base",
        "scripted/base",
    )
    assert lms["task"] is lms["task"]
    assert lms.by_model("scripted/trained-x").model == "scripted/trained-x"


def test_training_on_the_same_rows_gives_the_same_model_once(tmp_path: Path) -> None:
    provider = ScriptedProvider(tmp_path)
    rows = [{"messages": [{"role": "user", "content": "hi"}]}]
    one, two = (provider.finetune(None, "scripted/base", rows, "chat") for _ in range(2))
    other = provider.finetune(None, "scripted/base", rows * 2, "chat")
    assert one == two != other
    assert one.startswith("scripted/trained-")
    assert provider.finetune(None, "scripted/small", rows, "chat").startswith("scripted/small-trained-")
    assert provider.trainings == 3


@pytest.mark.parametrize(
    ("usd", "model", "cost"),
    [
        (None, "scripted/base", None),
        (0.5, "scripted/base", 5.0),
        ({"scripted/small": 0.5}, "scripted/base", None),
        ({"scripted/": 2.0, "scripted/small": 0.5}, "scripted/base", 20.0),
        ({"scripted/": 2.0, "scripted/small": 0.5}, "scripted/small-trained-x", 5.0),
    ],
)
def test_a_token_costs_what_its_model_does(tmp_path: Path, usd: Any, model: str, cost: float | None) -> None:
    lms = ScriptedLMs(scripted.settings_in(tmp_path), ScriptedEngine(shouted), usd_a_token=usd)
    assert lms.price(model, 7, 3) == cost
    assert lms.priced("task") is (lms.price("scripted/base", 1, 1) is not None)
