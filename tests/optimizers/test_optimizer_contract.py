"""One contract for every optimizer; its table stands in docs/optimizers.md and is written by `pytest --update-golden`."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from optimizer_contract import EXPLAINED, PROPERTIES, STAGES, Seen, answered, examine, table

from cascade.errors import ExperimentError
from cascade.experiment import Stage
from cascade.metrics import Score, metric
from cascade.program import snapshot

PAGE = Path(__file__).parents[2] / "docs" / "optimizers.md"
BETWEEN = re.compile(r"(?<=<!-- contract -->\n).*(?=<!-- /contract -->)", re.DOTALL)


@cache
def seen(name: str) -> Seen:
    return examine(STAGES[name])


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("said", PROPERTIES)
def test_an_optimizer_keeps_the_contract(name: str, said: str) -> None:
    assert bool(seen(name).cells[said]) == ((name, said) in EXPLAINED), seen(name).cells


def test_the_page_shows_the_table(request: pytest.FixtureRequest) -> None:
    made, text = table({name: seen(name) for name in STAGES}), PAGE.read_text("utf-8")
    if request.config.getoption("--update-golden"):
        PAGE.write_text(BETWEEN.sub(lambda _: made, text), "utf-8")
    found = BETWEEN.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[0] == made


BOOTSTRAPPING = ("BootstrapFewShot", "BootstrapFewShotWithRandomSearch", "BootstrapFewShotWithOptuna", "MIPROv2", "InferRules", "BootstrapFinetune", "BetterTogether")  # fmt: skip


@pytest.mark.parametrize("name", BOOTSTRAPPING)
def test_a_teacher_with_an_lm_of_its_own_shows_how(name: str) -> None:
    found = examine(STAGES[name], teacher="scripted/big")
    assert found.failed == ""
    assert any(model == "scripted/big" for model, inputs in found.asked if "question" in inputs)


WITH_GEPA = Stage(
    "s", dspy.BetterTogether, strategy="g -> p", g=Stage("g", dspy.GEPA, max_metric_calls=30), p=Stage("p", dspy.BootstrapFewShot)
)  # fmt: skip


@pytest.mark.parametrize("stage", [STAGES["GEPA"], WITH_GEPA], ids=["alone", "as a step"])
def test_gepa_which_refuses_a_teacher_is_given_none(stage: Stage) -> None:
    assert examine(stage, teacher="scripted/big").failed == ""


def test_gepa_reads_the_feedback_of_a_score_and_keeps_what_it_proposes() -> None:
    read: list[str] = []

    @metric
    def told(example: Any, prediction: Any) -> Score:
        return Score(float(example.answer == prediction.answer), f"Wanted {example.answer} for {example.question}.")

    def helped(model: str, inputs: Any, demos: int, turn: int) -> Any:
        """Right as soon as an instruction was proposed: a new prompt is a new question to the ledger."""
        read.extend([inputs["examples_with_feedback"]] if "current_instruction" in inputs else [])
        question = inputs.get("question", "")
        return {"answer": scripted.gold(question)} if question and read else answered(model, inputs, demos, turn)

    found = examine(STAGES["GEPA"], metric=told, answers=helped)
    assert "Wanted " in read[0]
    assert "Step " in found.made.ask.signature.instructions
    assert [one.score for one in found.bench.candidates] == [0.7143, 1.0]


def test_infer_rules_returns_the_rules_that_scored_best() -> None:
    """The candidates score the same here, so the first one: DSPy's own returns the rules that were written last."""
    found = seen("InferRules")
    rules = [one.state["state"]["ask"]["signature"]["instructions"] for one in found.bench.candidates]
    assert len(set(rules)) == 2
    assert max(found.bench.candidates, key=lambda one: one.score).state == snapshot(found.made).to_json()


def test_simba_s_candidates_are_scored_on_all_of_train() -> None:
    found = seen("SIMBA").bench.candidates
    assert {one.n for one in found} == {24}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_what_a_base_class_takes_by_keyword_is_an_option() -> None:
    """`InferRules(**kwargs)` hands its metric on to `BootstrapFewShot`."""
    Stage("s", dspy.InferRules, max_labeled_demos=2)
    with pytest.raises(ExperimentError, match="has no option 'depth'"):
        Stage("s", dspy.InferRules, depth=2)


def test_an_optimizer_whose_program_cannot_be_saved_is_refused_when_it_is_named() -> None:
    with pytest.raises(
        ExperimentError,
        match=r"^Stage 's': KNNFewShot is no stage: .* Use cascade.optimizers.NearestDemos, with k= and embedder=\.$",
    ):
        Stage("s", dspy.KNNFewShot, k=2, vectorizer=dspy.Embedder(len))
