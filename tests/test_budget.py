"""Hard caps on whole runs: never above, and always a judged result."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import scripted

from cascade.errors import CascadeError, ExperimentError
from cascade.experiment import Budget
from cascade.journal import Journal
from cascade.result import Result
from cascade.testing import ScriptedEngine

SPLITS: dict[str, Any] = {"train": 20, "dev": 20, "test": 20}
LEAST = 20 + 2 * 20


def capped(folder: Path, budget: Budget, latency: float = 0.0) -> tuple[Result, ScriptedEngine]:
    engine = ScriptedEngine(scripted.answer, latency=latency)
    defined = scripted.experiment(*scripted.FOUR_STAGES, plateau=scripted.PATIENT, budget=budget, **SPLITS)
    return scripted.run(defined, folder, engine), engine


def judged(result: Result) -> None:
    assert result.test is not None
    assert len(result.test.baseline.outcomes) == len(result.test.best.outcomes) == 20
    run = Journal(Path(result.journal)).run
    assert run.status == result.status
    assert "test_score" in run.metrics
    assert run.proven is not None


CAPS = sorted({LEAST, LEAST + 1, *random.Random(4).sample(range(LEAST + 2, 330), 13)})


@pytest.mark.parametrize("cap", CAPS)
def test_a_cap_on_calls_is_never_broken_and_the_run_is_judged(tmp_path: Path, cap: int) -> None:
    started = time.monotonic()
    result, engine = capped(tmp_path, Budget(lm_calls=cap))
    assert len(engine.requests) <= cap
    assert result.spent.lm_calls == len(engine.requests)
    judged(result)
    if result.status == "budget":
        reasons = [decision.reason for decision in result.decisions if decision.status == "budget"]
        assert len(reasons) == 1
        assert "the budget is spent (" in reasons[0]
        assert f" of {cap}" in reasons[0]
        last = next(n for n, stage in enumerate(result.stages) if stage.decision and stage.decision.status == "budget")
        assert {stage.status for stage in result.stages[last + 1 :]} <= {"skipped"}
    else:
        assert result.status == "completed"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("cap", [1, LEAST - 1])
def test_a_cap_below_judging_is_refused_before_anything_is_spent(tmp_path: Path, cap: int) -> None:
    engine = ScriptedEngine(scripted.answer)
    defined = scripted.experiment(*scripted.FOUR_STAGES, budget=Budget(lm_calls=cap), **SPLITS)
    with pytest.raises(ExperimentError) as caught:
        scripted.run(defined, tmp_path, engine)
    message = str(caught.value)
    assert f"Budget: lm_calls = {cap}" in message
    assert "20 calls on dev and twice 20 on test" in message
    assert str(LEAST) in message
    assert engine.requests == []
    assert not (tmp_path / ".cascade" / "runs").exists()


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Without any cap."""
    return capped(tmp_path_factory.mktemp("free"), Budget())[0]


def test_a_budget_that_suffices_changes_nothing(tmp_path: Path, free: Result) -> None:
    ample, _ = capped(tmp_path / "ample", Budget(lm_calls=10_000, tokens=10**9, minutes=60))
    assert free.status == ample.status == "completed"
    assert free.best.taken and ample.best.taken
    assert free.best.taken.digest == ample.best.taken.digest


@pytest.mark.parametrize("tokens", [12_000, 16_000])
def test_a_cap_on_tokens_is_overshot_by_no_more_than_what_is_in_flight(tmp_path: Path, tokens: int) -> None:
    result, _ = capped(tmp_path, Budget(tokens=tokens))
    assert result.status == "budget"
    used = result.spent.input_tokens + result.spent.output_tokens
    assert used <= tokens + 4 * 1000
    judged(result)
    assert any("tokens: " in d.reason and f" of {tokens}" in d.reason for d in result.decisions)


def test_a_cap_on_minutes_stops_the_search_and_the_run_is_judged(tmp_path: Path) -> None:
    started = time.monotonic()
    result, _ = capped(tmp_path, Budget(minutes=0.1), latency=0.1)  # 330 calls by four threads: 8 seconds
    assert result.status == "budget"
    assert time.monotonic() - started < 6 + 10
    judged(result)
    assert any("minutes: 0.1 are over" in decision.reason for decision in result.decisions)


def test_raising_a_cap_reuses_what_was_paid_for(tmp_path: Path, free: Result) -> None:
    small, _ = capped(tmp_path, Budget(lm_calls=120))
    more, engine = capped(tmp_path, Budget())
    assert small.status == "budget"
    assert more.status == "completed"
    assert small.spent.lm_calls + len(engine.requests) <= free.spent.lm_calls + 40
    assert more.best.taken and free.best.taken
    assert more.best.taken.digest == free.best.taken.digest


def test_a_budget_that_ends_with_the_baseline_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CascadeError, match=r"before the baseline was judged \(tokens: \d+ of 200\)\. Raise it"):
        capped(tmp_path, Budget(tokens=200))
    (path,) = (tmp_path / ".cascade" / "runs" / "x").iterdir()
    assert Journal(path).run.status == "failed"


def test_a_budget_that_ends_while_test_is_looked_at_is_said(tmp_path: Path) -> None:
    def long_on_test(model: str, inputs: Any, demos: int) -> Any:
        words = "word " * 2_000 if inputs["question"].startswith("test") else ""
        return {"answer": f"a {words}"}

    defined = scripted.experiment(budget=Budget(tokens=8_000), **SPLITS)
    result = scripted.run(defined, tmp_path, ScriptedEngine(long_on_test))
    assert result.test is None
    assert result.status == Journal(Path(result.journal)).run.status == "budget"
    assert "Not judged on test: the budget is spent (tokens: " in result.summary
