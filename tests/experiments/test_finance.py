"""The experiment `finance`: its rows follow from its companies, its metric from a table, and its tools are optimized and saved."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest

from cascade.check import prepare
from cascade.dataset import Dataset, load
from cascade.discover import discover
from cascade.experiment import Stage
from cascade.mlflow_store import MlflowTracker, load_program
from cascade.program import Snapshot, restore, snapshot
from cascade.runner import execute
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs
from cascade.tools.calculator import calculate
from cascade.tools.market import Snapshots

PROJECT = Path(__file__).parents[2]
experiment = discover("finance", PROJECT)
module = __import__(experiment.program.__module__, fromlist=["Plain"])
COMPANIES = json.loads((PROJECT / "datasets/finance/snapshots.json").read_text("utf-8"))
BY_SYMBOL = {one["symbol"]: one for one in COMPANIES}
MARKET = Snapshots(PROJECT / "datasets/finance/snapshots.json")
ROWS = [row for split in load(Dataset("finance"), PROJECT) for row in split.rows]


def expected(company: Mapping[str, Any], wanted: str) -> str:
    """The answer that follows from the figures, by the rule that the program states."""
    price, before, earned, tone = (company[n] for n in ("price", "previous_close", "earnings", "constructed_tone"))
    ratio = price / earned
    return {
        "price": f"{price:.2f}",
        "change": f"{(price - before) / before * 100:.1f}",
        "valuation": f"{ratio:.1f}",
        "tone": tone,
        "advice": "sell" if tone == "bad" or ratio > 30 else "buy" if ratio < 15 else "hold",
    }[wanted]


def test_every_answer_follows_from_the_constructed_companies() -> None:
    assert [row["id"] for row in ROWS if row["answer"] != expected(BY_SYMBOL[row["symbol"]], row["wanted"])] == []
    for wanted in ("tone", "advice"):
        assert [row["id"] for row in ROWS if row[wanted] != expected(BY_SYMBOL[row["symbol"]], wanted)] == []
    assert [row["id"] for row in ROWS if row["company"] not in row["question"]] == []
    assert all(MARKET.quote(row["company"]).symbol == row["symbol"] for row in ROWS)
    assert {MARKET.quote(one["symbol"]).source for one in COMPANIES} == {"constructed"}


def test_every_labelled_turn_is_one_that_the_tools_would_answer_so() -> None:
    for row in ROWS:
        lines = row["findings"].splitlines()
        assert (
            row["trajectory"] == "nothing yet"
            or lines[: row["trajectory"].count("\n") + 1] == row["trajectory"].splitlines()
        )
        for line in lines:
            tool, _, rest = line.partition("(")
            given, _, said = rest.rpartition("): ")
            if tool in ("quote", "compute"):
                assert said == str(MARKET.quote(given) if tool == "quote" else calculate(given)), row["id"]


def test_a_rule_that_is_near_a_border_is_in_no_row() -> None:
    ratios = [one["price"] / one["earnings"] for one in COMPANIES]
    assert not [ratio for ratio in ratios if 14 < ratio < 16 or 29 < ratio < 32]


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("41.20", "41.20", True),
        ("$41.2", "41.20", True),
        ("1,041.20", "1041.20", True),
        ("-3.04 %", "-3.0", True),
        ("3.0", "-3.0", False),
        ("41.3", "41.20", False),
        ("Buy.", "buy", True),
        ("buy or hold", "buy", False),
        ("good", "41.20", False),
        ("", "good", False),
    ],
)
def test_an_answer_is_right(said: str, wanted: str, right: bool) -> None:
    assert module.same(said, wanted) is right


def turn(observation: str, failed: bool = False) -> dict[str, Any]:
    return {"thought": "", "tool": "quote", "arguments": {}, "observation": observation, "failed": failed}


@pytest.mark.parametrize(
    ("fields", "value", "parts"),
    [
        ({"answer": "3.0", "turns": [turn("2.98")]}, 1.0, {"right": 1.0, "grounded": 1.0}),
        ({"answer": "3.0", "turns": [turn("price 3.00, previous close 2.00")]}, 1.0, {"right": 1.0, "grounded": 1.0}),
        ({"answer": "3.0", "turns": []}, 0.0, {"right": 1.0, "grounded": 0.0}),
        ({"answer": "3.0", "turns": [turn("3.0", failed=True)]}, 0.0, {"right": 1.0, "grounded": 0.0}),
        ({"answer": "4.0", "turns": [turn("4.0")]}, 0.0, {"right": 0.0, "grounded": 1.0}),
        ({"answer": "3.0"}, 1.0, {"right": 1.0, "grounded": 1.0}),
    ],
)
def test_a_guess_counts_nothing(fields: dict[str, Any], value: float, parts: dict[str, float]) -> None:
    score = experiment.metric.judge(dspy.Example(answer="3.0"), dspy.Prediction(**fields))
    assert (score.value, score.parts) == (value, parts)


def oracle(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """A model that does what the labels of the rows say."""
    if "headlines" in inputs:
        joined = inputs["headlines"]
        return {"tone": next(one["constructed_tone"] for one in COMPANIES if " / ".join(one["headlines"]) == joined)}
    if "ratio" in inputs:
        ratio, tone = float(inputs["ratio"]), inputs["tone"]
        return {"advice": "sell" if tone == "bad" or ratio > 30 else "buy" if ratio < 15 else "hold"}
    row = next(row for row in ROWS if row["question"] == inputs["question"])
    if "trajectory" not in inputs and "findings" not in inputs:
        return {"company": row["company"], "wanted": row["wanted"]}
    lines = row["findings"].splitlines()
    done = inputs.get("trajectory", "").count("): ")
    if "findings" in inputs or done == len(lines):
        return {"tool": "finish", "argument": row["answer"], "answer": row["answer"]}
    tool, _, rest = lines[done].partition("(")
    return {"tool": tool, "argument": rest.rpartition("): ")[0]}


@pytest.fixture
def lm() -> Any:
    made = dspy.LM("scripted/base", engine=ScriptedEngine(oracle), cache=False, num_retries=0)
    with dspy.context(lm=made, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False), trace=[]):
        yield made


@pytest.mark.parametrize("name", ["FinanceAgent", "Plain"])
def test_a_model_that_knows_the_turns_answers_every_kind_of_question(lm: Any, name: str) -> None:
    program = getattr(module, name)(MARKET)
    for row in ROWS[:40:2]:
        example = dspy.Example(**row).with_inputs("question")
        assert experiment.metric.judge(example, program(question=row["question"])).value == 1.0, row["id"]


def test_a_company_that_is_not_there_is_no_error_of_the_pipeline() -> None:
    made = dspy.LM(
        "scripted/base", engine=ScriptedEngine(lambda *_: {"company": "nobody", "wanted": "price"}), cache=False
    )
    with dspy.context(lm=made, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        said = module.Plain(MARKET)(question="?")
    assert (said.answer, said.failed[:34]) == ("unknown", "No company is called 'nobody'. Giv"[:34])


def test_predictors_inside_tools_are_optimized_and_come_back(lm: Any) -> None:
    rows = [dspy.Example(**row).with_inputs("question") for row in ROWS if row["wanted"] == "advice"][:4]
    optimizer = dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=3, max_labeled_demos=0)
    taught = optimizer.compile(experiment.program(MARKET), trainset=rows)
    demos = {name: len(one.demos) for name, one in taught.named_predictors()}
    assert set(demos) == {
        "agent.tools['news'].read", "agent.tools['advise'].rule", "agent.choose", "agent.answer"
    }  # fmt: skip
    assert min(demos.values()) == 3
    state = json.loads(json.dumps(snapshot(taught).to_json()))
    again = restore(experiment.program, Snapshot(**state), lambda _: None)
    assert {name: len(one.demos) for name, one in again.named_predictors()} == demos


@pytest.mark.slow
def test_what_a_run_taught_the_tools_comes_back_out_of_the_registry(tmp_path: Path, empty_store: Path) -> None:
    """In a scripted cascade: without demos the model finishes at once, which is a guess."""

    def answer(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        known = oracle(model, inputs, demos)
        return {**known, "tool": "finish"} if "trajectory" in inputs and not demos else known

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    settings = Settings(PROJECT, tmp_path / "home", uri, threads=4)
    stage = Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=4, max_labeled_demos=4)
    _, dev, test = load(Dataset("finance"), PROJECT)
    few = {one.name: list({row["symbol"]: dict(row) for row in one.rows}.values()) for one in (dev, test)}
    small = dataclasses.replace(experiment, stages=(stage,), dataset=Dataset("finance", **few))
    made = prepare(small, settings, ScriptedLMs(settings, ScriptedEngine(answer)))
    result = execute(made, tracker=MlflowTracker(uri))
    assert [one.dev.mean for one in result.stages] == [0.0, 1.0]
    loaded = load_program(
        "models:/finance@challenger", settings, lms=lambda read: ScriptedLMs(read, ScriptedEngine(answer))
    )
    demos = {name: len(one.demos) for name, one in loaded.module.named_predictors()}
    assert demos["agent.tools['news'].read"]
    assert demos["agent.choose"]
    row = next(row for row in ROWS if row["wanted"] == "tone")
    assert loaded(question=row["question"]).answer == row["answer"]


def test_a_market_without_a_network_is_an_observation(lm: Any) -> None:
    class Down:
        def quote(self, company: str) -> Any:
            raise ConnectionError("no route to host")

        news = quote

    row = next(row for row in ROWS if row["wanted"] == "price")
    said = experiment.program(Down())(question=row["question"])
    assert [(one["observation"], one["failed"]) for one in said.turns] == [
        ("failed: ConnectionError: no route to host", True)
    ]
    assert experiment.metric.judge(dspy.Example(**row), said).value == 0.0
