"""The optimizer of nearest demos: which rows, how many, in which order, and what later optimizers make of it."""

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from optimizer_contract import STAGES, TRAIN, examine
from test_loops import Two

from cascade.building import Workshop, build, carve, supplies_for
from cascade.errors import ExperimentError, SettingsError, StageFailed
from cascade.experiment import Stage
from cascade.nearest import NearestPredict
from cascade.optimizers import NearestDemos
from cascade.settings import LMSpec
from cascade.testing import ScriptedEngine, ScriptedLMs

LEARN, VALIDATE = carve(TRAIN, 3)


def under(answer: Any) -> Any:
    lm = dspy.LM("scripted/base", engine=ScriptedEngine(answer), cache=False, num_retries=0)
    return dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False), num_threads=2)


def best_with(wanted: int) -> Any:
    """A model that is right when it sees so many demos."""
    return lambda model, inputs, demos: {"answer": scripted.gold(inputs["question"]) if demos == wanted else "wrong"}


def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


def test_the_best_number_is_chosen_on_the_validation_part() -> None:
    with under(best_with(4)):
        made = NearestDemos(metric, k=(2, 4, 6)).compile(scripted.Asks(), trainset=LEARN, valset=VALIDATE)
    assert (made.ask.nearest.k, made.ask.nearest.order) == (4, "rows")


def test_of_equals_the_fewest_in_the_order_that_prompts_share() -> None:
    with under(lambda model, inputs, demos: {"answer": "wrong"}):
        made = NearestDemos(metric, k=(6, 3)).compile(scripted.Asks(), trainset=LEARN, valset=VALIDATE)
    assert (made.ask.nearest.k, made.ask.nearest.order) == (3, "rows")


def test_the_rows_are_the_labels_and_the_validation_part_joins_them_in_the_end() -> None:
    with under(best_with(2)):
        joined, apart = (
            NearestDemos(metric, k=2, refit=refit).compile(scripted.Asks(), trainset=LEARN, valset=VALIDATE)
            for refit in (True, False)
        )
    assert [row["question"] for row in joined.ask.nearest.rows] == [e.question for e in (*LEARN, *VALIDATE)]
    assert [row["question"] for row in apart.ask.nearest.rows] == [e.question for e in LEARN]
    assert all(set(row) == {"question", "answer"} for row in joined.ask.nearest.rows)


def test_with_nothing_to_choose_nothing_is_asked() -> None:
    def refuses(model: str, inputs: Any, demos: int) -> Any:
        raise AssertionError

    with under(refuses):
        made = NearestDemos(metric, k=3, order="last").compile(scripted.Asks(), trainset=LEARN, valset=VALIDATE)
    assert (made.ask.nearest.k, made.ask.nearest.order) == (3, "last")


def test_a_predictor_without_labels_shows_what_it_said_in_good_runs() -> None:
    """`think` has no label; `ask` is given a hint that train does not hold."""

    def answer(model: str, inputs: Any, demos: int) -> Any:
        if "hint" not in inputs:
            return {"hint": f"hint for {inputs['question']}"}
        return scripted.answer(model, inputs, demos)

    with under(answer):
        made = NearestDemos(metric, k=2, order="rows").compile(Two(), trainset=LEARN)
    hints = made.think.nearest.rows
    good = [
        e.question for e in LEARN if scripted.answer("scripted/base", {"question": e.question}, 0)["answer"] == e.answer
    ]
    assert [row["question"] for row in hints] == good
    assert hints[0]["hint"] == f"hint for {good[0]}"
    assert [set(row) for row in made.ask.nearest.rows] == [{"question", "hint", "answer"}] * len(good)


def test_with_no_rows_for_any_predictor_the_stage_fails_and_says_why() -> None:
    with (
        under(lambda model, inputs, demos: {"answer": "wrong"}),
        pytest.raises(StageFailed, match="none of 17 training"),
    ):
        NearestDemos(metric).compile(Two(), trainset=LEARN, valset=VALIDATE)


def test_the_student_is_left_alone() -> None:
    student = scripted.Asks()
    with under(best_with(2)):
        NearestDemos(metric, k=2).compile(student, trainset=LEARN, valset=VALIDATE)
    assert type(student.ask) is dspy.Predict


def lengths(texts: list[str]) -> list[list[float]]:
    return [[float(len(text)), 1.0] for text in texts]


def test_an_embedder_is_kept_by_name_and_its_vectors_in_the_state() -> None:
    for embedder in (lengths, dspy.Embedder(lengths)):
        made = NearestDemos(metric, k=2, order="rows", embedder=embedder).compile(scripted.Asks(), trainset=LEARN)
        said = json.loads(json.dumps(made.dump_state()))["ask"]["nearest"]
        assert said["embedder"] == f"{__name__}:lengths"
        assert len(said["vectors"]) == len(LEARN)
    assert NearestDemos(metric, embedder=dspy.Embedder("openai/small")).embedder == "openai/small"


def test_an_embedder_that_settings_name_is_given(tmp_path: Path) -> None:
    lms = ScriptedLMs(
        scripted.settings_in(tmp_path, lm=scripted.specs(embedder="openai/small")), ScriptedEngine(best_with(2))
    )
    shop = Workshop(scripted.Asks, scripted.right, TRAIN, lms, 3, tmp_path / "log")
    for stage, wanted in ((Stage("s", NearestDemos), "openai/small"), (Stage("s", NearestDemos, embedder=""), "")):
        assert build(stage, supplies_for(stage, scripted.Asks(), shop))[0].embedder == wanted


def test_an_embedder_with_options_is_refused(tmp_path: Path) -> None:
    """A program's state names the model and no address: rows would go to another one than settings say."""
    spec = LMSpec("openai/small", {"api_base": "http://localhost:1/v1"})
    lms = ScriptedLMs(scripted.settings_in(tmp_path, lm={"embedder": spec}), ScriptedEngine(best_with(2)))
    shop = Workshop(scripted.Asks, scripted.right, TRAIN, lms, 3, tmp_path / "log")
    with pytest.raises(
        SettingsError, match=r"embedder has api_base = 'http://localhost:1/v1', which .*OPENAI_BASE_URL\.$"
    ):
        supplies_for(Stage("s", NearestDemos), scripted.Asks(), shop)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"k": 0}, r"k = 0 must be a whole number of at least 1, or several\."),
        ({"k": ()}, r"k = \(\) must be"),
        ({"order": "best"}, r"order = 'best'\. Use one of rows, last, first"),
        ({"embedder": lambda texts: []}, r"cannot be named in saved state\. Give a model string"),
    ],
)
def test_a_wrong_option_is_one_line(options: Any, told: str) -> None:
    with pytest.raises(ExperimentError, match=f"^NearestDemos: .*{told}"):
        NearestDemos(metric, **options)


LATER = {name: STAGES[name] for name in ("MIPROv2", "BootstrapFewShot", "GEPA", "SIMBA", "COPRO", "BootstrapFinetune", "BetterTogether", "Ensemble")}  # fmt: skip


def nearest(before: Any) -> Any:
    """The contract's incumbent, which shows nearest demos."""
    made = NearestDemos(metric, k=2, order="last").compile(before, trainset=LEARN)
    made._compiled = made.ask._compiled = True
    return made


@pytest.mark.parametrize("name", LATER)
def test_a_later_optimizer_keeps_it(name: str) -> None:
    found = examine(LATER[name], prepare=nearest)
    assert not any(
        wrong for said, wrong in found.cells.items() if said not in ("candidates captured", "bad example survived")
    ), found.cells
    predictors = found.made.predictors()
    assert isinstance(predictors[0], NearestPredict)
    assert len(predictors[0].nearest.rows) == len(LEARN)


def test_training_without_demos_takes_it_away_and_training_with_them_shows_them() -> None:
    bare = examine(Stage("s", dspy.BootstrapFinetune, exclude_demos=True), prepare=nearest)
    assert type(bare.made.ask) is dspy.Predict
    found = examine(Stage("s", dspy.BootstrapFinetune), prepare=nearest)
    rows = found.trained[-1]
    # Two demos of the incumbent, two nearest ones, the question and its answer, and the system message.
    assert {len(row["messages"]) for row in rows} == {2 * 5 + 1}
    assert all(json.dumps(row["messages"][-2]) not in json.dumps(row["messages"][:-2]) for row in rows)


def test_as_a_step_of_better_together_it_does_not_show_what_is_validated_on() -> None:
    steps = {"n": Stage("n", NearestDemos, k=2), "w": Stage("w", dspy.BootstrapFinetune)}
    found = examine(Stage("s", dspy.BetterTogether, strategy="n -> w", **steps))
    assert not any(found.cells.values()), found.cells
    tried = [one.state["state"]["ask"] for one in found.bench.candidates]
    assert [len(state["nearest"]["rows"]) if "nearest" in state else 0 for state in tried][-1] == len(LEARN)
