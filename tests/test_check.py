"""What is found wrong before anything is spent."""

import dataclasses
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import build_program, prepare
from cascade.errors import CascadeError, DatasetError, ExperimentError, SettingsError
from cascade.experiment import Budget, Stage
from cascade.settings import LMSpec
from cascade.spending import Price
from cascade.testing import ScriptedEngine


def refused(folder: Path, error: type[CascadeError] = ExperimentError, **changes: Any) -> str:
    engine = ScriptedEngine(scripted.answer)
    with pytest.raises(error) as caught:
        scripted.prepared(scripted.experiment(**changes), folder, engine)
    assert engine.requests == []
    assert not (folder / ".cascade").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Needs(scripted.Asks):
    def __init__(self, size: int) -> None:
        super().__init__()


class Takes(scripted.Asks):
    def forward(self, text: str) -> Any:
        return self.ask(question=text)


class Wants(scripted.Asks):
    def forward(self, question: str, context: str) -> Any:
        return self.ask(question=question)


class Open(scripted.Asks):
    def forward(self, **inputs: Any) -> Any:
        return self.ask(**inputs)


def predict() -> Any:
    return dspy.Predict("question -> answer")


def predict_other() -> Any:
    return dspy.Predict("text -> answer")


def made_inside() -> Any:
    def inside() -> Any:
        return predict()

    return inside


class Holder:
    class Inner(scripted.Asks):
        pass


@pytest.mark.parametrize("program", [scripted.Asks, Open, predict, Holder.Inner])
def test_what_is_right_passes(tmp_path: Path, program: Any) -> None:
    found = scripted.prepared(scripted.experiment(program=program), tmp_path, ScriptedEngine(scripted.answer))
    assert (found.name, found.outputs, len(found.signature)) == ("x", ("answer",), 12)
    assert [len(split) for split in found.data] == [30, 40, 40]


def test_without_a_name_it_is_that_of_the_program_s_file(tmp_path: Path) -> None:
    assert scripted.prepared(scripted.experiment(name=""), tmp_path, ScriptedEngine(scripted.answer)).name == "scripted"


PROGRAMS: list[tuple[Any, list[str]]] = [
    (
        lambda: dspy.Predict("question -> answer"),
        ["program = <lambda> cannot be found by its name in test_check.py", "Write it as a function"],
    ),
    (made_inside(), ["program = made_inside.<locals>.inside cannot be found by its name in test_check.py"]),
    (Needs, ["program = Needs cannot be built without arguments", "TypeError"]),
    (dict, ["program = dict built {}, which is no dspy.Module with a predictor"]),
    (dspy.Module, ["program = Module built", "no dspy.Module with a predictor"]),
    (Takes, ["Takes.forward takes text", "dataset 'x' gives it the input 'question'", "Rename one"]),
    (predict_other, ["takes text", "gives it the input 'question'"]),
]


@pytest.mark.parametrize(("program", "told"), PROGRAMS)
def test_a_program_that_cannot_run_is_refused(tmp_path: Path, program: Any, told: list[str]) -> None:
    message = refused(tmp_path, program=program)
    assert [part for part in told if part not in message] == []


def test_a_program_that_needs_more_than_the_dataset_gives_is_refused(tmp_path: Path) -> None:
    assert "context" in refused(tmp_path, program=Wants)


def test_a_cap_in_dollars_is_refused_where_a_price_is_not_known(tmp_path: Path) -> None:
    assert "usd" in refused(tmp_path, budget=Budget(usd=1.0))


def test_a_cap_in_dollars_holds_where_settings_name_a_price(tmp_path: Path) -> None:
    local = LMSpec("openai/qwen", {"api_base": "http://localhost:1/v1", "api_key": "none"}, Price(0.1, 0.4))
    settings = scripted.settings_in(tmp_path, lm={"default": local})
    assert prepare(scripted.experiment(budget=Budget(usd=1.0)), settings).lms.priced("task")


@pytest.mark.parametrize(("split", "n"), [("dev", 19), ("test", 5)])
def test_too_few_examples_are_refused(tmp_path: Path, split: str, n: int) -> None:
    message = refused(tmp_path, DatasetError, **{split: n})
    assert f"split '{split}' has {n} examples; a comparison needs at least 20. Add examples." in message


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    defined = scripted.experiment()
    grouped = {
        name: [{**row, "who": f"{name} {number // 3}"} for number, row in enumerate(scripted.rows(name, 40))]
        for name in ("train", "dev", "test")
    }
    message = refused(tmp_path, DatasetError, dataset=dataclasses.replace(defined.dataset, **grouped, group="who"))
    assert "split 'dev' has 14 groups; a comparison needs at least 20. Add groups." in message


@pytest.mark.parametrize("cap", [1, 119])
def test_a_cap_below_judging_is_refused(tmp_path: Path, cap: int) -> None:
    message = refused(tmp_path, budget=Budget(lm_calls=cap))
    assert f"Budget: lm_calls = {cap} does not even pay for judging" in message
    assert "120" in message


class Two(scripted.Asks):
    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("question -> hint")


def test_a_cap_below_one_call_a_predictor_is_refused(tmp_path: Path) -> None:
    told = (
        "80 calls on dev and twice 80 on test, one for each of the program's 2 predictors. Raise it to more than 240."
    )
    assert told in refused(tmp_path, program=Two, budget=Budget(lm_calls=239))
    enough = scripted.experiment(program=Two, budget=Budget(lm_calls=240))
    assert scripted.prepared(enough, tmp_path, ScriptedEngine(scripted.answer)).name == "x"


LMS = [
    (LMSpec("nowhere/x"), "LM 'task': 'nowhere/x' names no provider that DSPy knows. Write it as provider/model"),
    (LMSpec("openai/gpt-5-mini"), "LM 'task': 'openai/gpt-5-mini' needs OPENAI_API_KEY, which is not set"),
    (LMSpec("embedded/nothing"), "LM 'task': "),
]


@pytest.mark.parametrize(("spec", "told"), LMS)
def test_an_lm_that_cannot_be_called_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: LMSpec, told: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(SettingsError) as caught:
        prepare(scripted.experiment(), scripted.settings_in(tmp_path, lm={"task": spec}))
    assert told in str(caught.value)


def test_any_name_in_settings_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    specs = {"default": LMSpec("openai/a"), "cloud": LMSpec("nowhere/x")}
    with pytest.raises(SettingsError, match=r"LM 'cloud': 'nowhere/x'") as caught:
        prepare(scripted.experiment(), scripted.settings_in(tmp_path, lm=specs))
    assert "canary" not in str(caught.value)


def test_an_endpoint_of_one_s_own_needs_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    specs = {"default": LMSpec("openai/qwen", {"api_base": "http://localhost:1/v1"})}
    assert prepare(scripted.experiment(), scripted.settings_in(tmp_path, lm=specs)).lms["task"].model == "openai/qwen"


def test_params_are_flat_text_and_name_lms_only(tmp_path: Path) -> None:
    defined = scripted.experiment(Stage("s", dspy.MIPROv2), budget=Budget(lm_calls=500), target=0.9)
    params = scripted.prepared(defined, tmp_path, ScriptedEngine(scripted.answer), seed=4).params()
    assert all(isinstance(value, str) for value in params.values())
    assert {"metric", "seed", "plateau.patience", "budget.lm_calls", "lm.task", "target"} <= set(params)
    assert (params["seed"], params["budget.lm_calls"], params["target"]) == ("4", "500", "0.9")
    assert "budget.usd" not in params


def test_a_program_that_fails_to_build_keeps_its_reason() -> None:
    def broken() -> Any:
        raise ValueError("no weights.")

    with pytest.raises(
        ExperimentError, match=r"^program = broken cannot be built without arguments: ValueError: no weights\.$"
    ):
        build_program(scripted.experiment(program=broken))
