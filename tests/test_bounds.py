"""Upper bounds of stages: what they are made of, where there is none, and where a run shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.teleprompt.teleprompt import Teleprompter

from cascade.bounds import Bound, Calls, given, most_calls, of_judging, of_stage
from cascade.check import Prepared
from cascade.evaluation import Evaluation
from cascade.experiment import Headroom, Stage
from cascade.journal import Journal
from cascade.optimizers import BootstrapFinetune
from cascade.optimizers.work import Given, Work
from cascade.outcome import Outcome
from cascade.progress import Silent
from cascade.settings import EMBEDDED, LMSpec
from cascade.testing import ScriptedEngine


class Mine(Teleprompter):
    """Says nothing of what it asks for."""

    def compile(self, student: Any, *, trainset: Any) -> Any:
        for example in trainset:
            student(**example.inputs())
        return student


class Honest(Mine):
    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> Work | str:
        return Work(runs=given.train, prompt_calls=given.predictors)


class Modest(Mine):
    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> Work | str:
        return "it goes on until it is content"


class Broken(Mine):
    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> Work | str:
        raise RuntimeError("no idea")


class Derived(dspy.BootstrapFewShot):
    """May loop otherwise than its base."""


def ready(folder: Path, *stages: Stage, **options: Any) -> Prepared:
    settings = {"lm": options.pop("lm", {})}
    return scripted.prepared(
        scripted.experiment(*stages, **options), folder, ScriptedEngine(scripted.answer), **settings
    )


UNKNOWN = [
    (Stage("s", Mine, lever="prompt"), "Mine does not say how much it asks for"),
    (Stage("s", Derived), "Derived does not say how much it asks for"),
    (Stage("s", Modest, lever="prompt"), "it goes on until it is content"),
    (Stage("s", Broken, lever="prompt"), "Broken with these options: RuntimeError: no idea"),
    (Stage("s", dspy.BetterTogether, strategy="m", m=Stage("m", Mine, lever="prompt")), "Mine does not say how much it asks for"),
    (Stage("s", dspy.BetterTogether, strategy="x", m=Stage("m", dspy.MIPROv2)), "the strategy 'x' names 'x', which is no option"),
    (Stage("s", dspy.MIPROv2, auto="huge"), "MIPROv2 with these options: KeyError: 'huge'"),
    (Stage("s", dspy.GEPA, auto="light", gepa_kwargs={"sampling_strategy": object()}), "GEPA with gepa_kwargs may ask for more than its budget"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "reason"), UNKNOWN)
def test_what_is_not_known_has_no_bound_and_says_why(tmp_path: Path, stage: Stage, reason: str) -> None:
    prepared = ready(tmp_path, stage)
    found = of_stage(stage, prepared)
    assert (found.at_most, found.total) == (None, None)
    assert reason in found.unknown
    whole = of_judging(prepared, prepared.data.dev) + found
    assert (whole.total, whole.unknown) == (None, found.unknown)


def test_an_optimizer_may_say_itself_what_it_asks_for(tmp_path: Path) -> None:
    stage = Stage("s", Honest, lever="prompt")
    assert of_stage(stage, ready(tmp_path, stage)) == Bound(Calls(30, 1), Calls(30, 1))
    assert of_stage(stage, ready(tmp_path, stage), calls_a_run=3).at_most == Calls(90, 1)


@pytest.mark.parametrize(
    ("stage", "train", "val"),
    [
        (Stage("s", dspy.BootstrapFewShot), 30, None),
        (Stage("s", dspy.MIPROv2), 21, 9),
        (Stage("s", dspy.MIPROv2, valset=[1, 2]), 30, None),
        (scripted.FOUR_STAGES[2], 21, 9),
    ],
)
def test_a_stage_works_on_what_it_is_supplied_with(tmp_path: Path, stage: Stage, train: int, val: int | None) -> None:
    found = given(stage, ready(tmp_path, stage))
    assert (found.train, found.val, found.predictors, found.teacher) == (train, val, 1, False)


@pytest.mark.parametrize("teacher", [LMSpec("scripted/big"), LMSpec(EMBEDDED, {"temperature": 0.7})])
def test_a_teacher_counts_where_settings_name_one_of_its_own(tmp_path: Path, teacher: LMSpec) -> None:
    stage = Stage("s", BootstrapFinetune)
    prepared = ready(tmp_path, stage, lm={"teacher": teacher})
    assert of_stage(stage, prepared).at_most == Calls(teacher=60)
    own = Stage("s", BootstrapFinetune, teacher=[scripted.Asks(), scripted.Asks()])
    assert of_stage(own, prepared).at_most == Calls(task=120)


def test_judging_counts_repeats(tmp_path: Path) -> None:
    prepared = ready(tmp_path, repeats=3)
    assert of_judging(prepared, prepared.data.dev, prepared.data.test).total == 3 * 80
    assert of_judging(prepared, prepared.data.dev, calls_a_run=2).total == 2 * 3 * 40


def test_a_run_that_failed_may_have_ended_early() -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = dspy.Predict("question -> hint"), dspy.Predict("hint -> answer")

    def most(*outcomes: Outcome) -> int:
        return most_calls(Evaluation(scripted.split("dev", len(outcomes)), outcomes), Two())

    assert most(Outcome("a", calls=1), Outcome("b", calls=1)) == 1
    assert most(Outcome("a", calls=1), Outcome("b", calls=1, error="garbage")) == 2
    assert most(Outcome("a", calls=5), Outcome("b", calls=1, error="garbage")) == 5


class Watcher(Silent):
    def __init__(self) -> None:
        self.told: dict[str, Bound] = {}

    def stage_begins(self, stage: str, optimizer: str, bound: Bound) -> None:
        self.told[f"{stage} {optimizer}"] = bound


def test_a_run_tells_each_bound_before_the_stage_and_keeps_it(tmp_path: Path) -> None:
    watcher = Watcher()
    stages = (Stage("demos", dspy.BootstrapFewShot), Stage("mine", Mine, lever="prompt"))
    defined = scripted.experiment(*stages, plateau=scripted.PATIENT, headroom=Headroom(20, 1))
    result = scripted.run(defined, tmp_path, ScriptedEngine(scripted.answer), progress=watcher)
    assert [(name, bound.total) for name, bound in watcher.told.items()] == [
        ("1-demos BootstrapFewShot", 30 + 40),
        ("2-mine Mine", None),
    ]
    records = Journal(Path(result.journal)).stages()
    assert [record.params.get("lm_calls_at_most") for record in records] == [None, "70", "unknown"]
    used = result.stages[1].spent
    assert used.lm_calls + used.lm_calls_cached <= 70
