"""The experiment `memory`: what its rows hold, its metric, and that neither order nor threads change what is answered."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

from cascade.dataset import Dataset, load
from cascade.discover import discover
from cascade.program import Snapshot, restore, snapshot
from cascade.testing import ScriptedEngine
from cascade.tools.memory import Memories

PROJECT = Path(__file__).parents[2]
experiment = discover("memory", PROJECT)
module = __import__(experiment.program.__module__, fromlist=["Plain"])
ROWS = [row for split in load(Dataset("memory"), PROJECT) for row in split.rows]
FACTS = {fact for row in ROWS for fact in row["facts"]} | {row["message"] for row in ROWS if row["kind"] == "fact"}


def test_an_answer_stands_in_what_its_own_user_said_and_the_bait_in_what_the_other_did() -> None:
    for row in ROWS:
        own = [text for user, text in module.spoken(row["history"]) if user == row["user"]]
        other = [text for user, text in module.spoken(row["history"]) if user != row["user"]]
        assert any(row["bait"] in text for text in other), row["id"]
        assert row["answer"] == "unknown" or any(row["answer"] in text for text in own), row["id"]
        assert set(row["facts"]) <= set(own), row["id"]
        assert row["answer"] != row["bait"], row["id"]


def test_no_fact_stands_in_two_splits() -> None:
    splits = [{fact for row in split.rows for fact in row["facts"]} for split in load(Dataset("memory"), PROJECT)]
    assert not splits[0] & splits[1] | splits[0] & splits[2] | splits[1] & splits[2]


@pytest.mark.parametrize(
    ("answer", "kept", "value", "parts"),
    [
        ("Lisbon", ["a", "b"], 1.0, {"right": 1.0, "stored": 1.0, "no_leak": 1.0}),
        ("lisbon.", ["a"], (3 + 2 / 3) / 4, {"right": 1.0, "stored": 2 / 3, "no_leak": 1.0}),
        ("unknown", ["a", "b"], 0.25, {"right": 0.0, "stored": 1.0, "no_leak": 1.0}),
        ("unknown", [], 0.0, {"right": 0.0, "stored": 0.0, "no_leak": 1.0}),
        ("Ghent", ["a", "b"], 0.0, {"right": 0.0, "stored": 1.0, "no_leak": 0.0}),
        ("in Ghent", ["a", "b", "c", "d"], 0.0, {"right": 0.0, "stored": 2 / 3, "no_leak": 0.0}),
    ],
)
def test_the_metric(answer: str, kept: list[str], value: float, parts: dict[str, float]) -> None:
    example = dspy.Example(answer="Lisbon", bait="Ghent", facts=["a", "b"])
    score = experiment.metric.judge(example, dspy.Prediction(answer=answer, kept=kept))
    assert score.value == pytest.approx(value)
    assert score.parts == pytest.approx(parts)


def oracle(_model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str]:
    """A model that keeps facts and copies the answer if it sees it."""
    if "message" in inputs:
        return {"kind": "fact" if inputs["message"] in FACTS else "talk"}
    known = inputs.get("memories", inputs.get("history", ""))
    fitting = [row for row in ROWS if row["question"] == inputs["question"] and row["answer"] in known]
    return {"answer": fitting[0]["answer"] if fitting else "unknown"}


@pytest.fixture
def lm() -> Any:
    made = dspy.LM("scripted/base", engine=ScriptedEngine(oracle), cache=False, num_retries=0)
    with dspy.context(lm=made, adapter=dspy.ChatAdapter(use_json_adapter_fallback=False), trace=[]):
        yield made


def by_letters(texts: Any) -> Any:
    counts = np.array(
        [[1e-3 + text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
    )
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def asked(program: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(program(user=row["user"], history=row["history"], question=row["question"]))


def test_rows_do_not_depend_on_one_another(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = experiment.program()
    some = ROWS[:4]
    one_by_one = [asked(program, row) for row in some]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(copy_context().run, asked, program, row) for row in reversed(some)]
        at_once = [future.result() for future in futures][::-1]
    assert one_by_one == at_once
    for row, said in zip(some, one_by_one, strict=True):
        assert set(said["kept"]) == set(row["facts"])
        assert not set(said["recalled"]) - set(row["facts"])


def test_an_agent_with_a_folder_remembers_after_it_was_built_anew(lm: Any, tmp_path: Path) -> None:
    row = next(row for row in ROWS if row["answer"] != "unknown" and len(row["facts"]) == 2)
    kept = Memories(tmp_path, embed=by_letters)
    agent = experiment.program(kept)
    for user, message in module.spoken(row["history"]):
        agent.tell(kept, user, message)
    again = Memories(tmp_path, embed=by_letters)
    answer, _ = experiment.program(again).ask(again, row["user"], row["question"])
    assert answer == row["answer"]
    assert experiment.program(again).ask(again, "somebody else", row["question"])[0] == "unknown"


def test_what_is_learned_of_keeping_and_answering_comes_back(lm: Any) -> None:
    rows = [dspy.Example(**row).with_inputs("user", "history", "question") for row in ROWS[:6]]
    optimizer = dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=2, max_labeled_demos=0)
    taught = optimizer.compile(experiment.program(), trainset=rows)
    demos = {name: len(one.demos) for name, one in taught.named_predictors()}
    assert demos == {"keep": 2, "answer": 2}
    state = json.loads(json.dumps(snapshot(taught).to_json()))
    again = restore(experiment.program, Snapshot(**state), lambda _: None)
    assert {name: len(one.demos) for name, one in again.named_predictors()} == demos
