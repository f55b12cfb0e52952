"""Hard caps on whole runs: never above but for what is in flight, and always a judged result."""

import dataclasses
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.teleprompt.teleprompt import Teleprompter

from cascade.check import prepare
from cascade.errors import ExperimentError
from cascade.experiment import Budget, Experiment, Stage
from cascade.journal import Journal
from cascade.metrics import metric
from cascade.progress import Silent
from cascade.result import Result
from cascade.runner import execute
from cascade.settings import LMSpec
from cascade.testing import ScriptedEngine, ScriptedLMs

SPLITS: dict[str, Any] = {"train": 20, "dev": 20, "test": 20}
LEAST = 20 + 2 * 20
THREADS = 4
USD_A_TOKEN = 1e-6
SECONDS_A_CALL = 1.0
NAMED = {name: LMSpec(f"scripted/{name}") for name in ("teacher", "judge", "prompt")}
RANDOM_SEARCH = Stage(
    "search", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=3, max_bootstrapped_demos=2
)


class TwoSteps(dspy.Module):
    """Two calls an example."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("question -> hint")
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        self.think(question=question)
        return self.ask(question=question)


class SometimesTwice(dspy.Module):
    """One call an example, or two."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        if scripted.luck("twice", question) < 0.3:
            self.ask(question=f"{question}, at first")
        return self.ask(question=question)


KINDS: dict[str, dict[str, Any]] = {
    "four stages": {"stages": scripted.FOUR_STAGES},
    "a judge in the metric": {"stages": (RANDOM_SEARCH, scripted.FOUR_STAGES[3]), "judged": True},
    "two steps": {"stages": (scripted.FOUR_STAGES[0],), "program": TwoSteps},
    "one step or two": {"stages": (scripted.FOUR_STAGES[1], RANDOM_SEARCH), "program": SometimesTwice},
}


class World:
    """A script whose every answer takes a second on its own clock, and a metric that may ask a judge."""

    def __init__(self, folder: Path, kind: str = "four stages", **options: Any) -> None:
        self.time = 0.0
        self.meter: Any = None
        self._lock = threading.Lock()
        self.engine = ScriptedEngine(self._answer)
        settings = scripted.settings_in(folder, lm=NAMED, threads=THREADS)
        self.lms = ScriptedLMs(settings, self.engine, usd_a_token=USD_A_TOKEN)
        chosen = {**KINDS[kind], **options}
        stages, judged = chosen.pop("stages"), chosen.pop("judged", False)
        self.defined: Experiment = scripted.experiment(
            *stages, **{"plateau": scripted.PATIENT, "metric": self._judged if judged else scripted.right, **SPLITS, **chosen},
        )  # fmt: skip
        self.settings = settings

    def run(self, budget: Budget) -> Result:
        defined = dataclasses.replace(self.defined, budget=budget)
        made = prepare(defined, self.settings, self.lms)
        return execute(dataclasses.replace(made, clock=lambda: self.time), progress=Noting(self))

    def _answer(self, model: str, inputs: Any, demos: int) -> Any:
        with self._lock:
            self.time += SECONDS_A_CALL
        return scripted.answer(model, inputs, demos)

    @property
    def _judged(self) -> Any:
        @metric
        def asks_a_judge(example: Any, prediction: Any) -> bool:
            with dspy.context(lm=self.lms["judge"]):
                dspy.Predict("question, answer -> verdict")(question=example.question, answer=prediction.answer)
            return bool(example.answer == prediction.answer)

        return asks_a_judge


class Noting(Silent):
    """Keeps the meter and the warnings: that a program of this file imports another one of the tests is worth one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.warnings: list[str] = []

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def begin(self, prepared: Any, journal: Any, meter: Any, resumed: bool) -> None:
        self.world.meter = meter


@dataclass(frozen=True)
class Free:
    """A kind of run without caps: what it takes as a whole, and what judging takes."""

    result: Result
    least: dict[str, float]
    whole: dict[str, float]


def amounts(spent: Any) -> dict[str, float]:
    return {
        "lm_calls": spent.lm_calls,
        "tokens": spent.input_tokens + spent.output_tokens,
        "usd": spent.cost_usd,
        "minutes": spent.seconds / 60,
    }


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Free]:
    found = {}
    for kind in KINDS:
        result = World(tmp_path_factory.mktemp("free"), kind).run(Budget())
        baseline = {name: 3 * amount for name, amount in amounts(result.baseline.spent).items()}
        found[kind] = Free(result, baseline, amounts(result.spent))
    return found


def judged(result: Result) -> None:
    assert result.test is not None
    assert len(result.test.baseline.outcomes) == len(result.test.best.outcomes) == 20
    run = Journal(Path(result.journal)).run
    assert run.status == result.status
    assert "test_score" in run.metrics
    assert run.proven is not None


def drawn() -> Iterator[Any]:
    """Fifty caps: kind of run, what is capped, and where between judging alone and the whole run."""
    draw = random.Random(20261127)
    for number in range(50):
        kind, cap = draw.choice(list(KINDS)), ("lm_calls", "tokens", "usd", "minutes")[number % 4]
        share = draw.random()
        marks = [pytest.mark.slow] if number >= 20 else []
        yield pytest.param(kind, cap, share, marks=marks, id=f"{number} {cap} of {kind} at {share:.0%}")


@pytest.mark.parametrize(("kind", "cap", "share"), [*drawn()])
def test_a_cap_is_broken_by_no_more_than_what_is_in_flight_and_the_run_is_judged(
    tmp_path: Path, free: dict[str, Free], kind: str, cap: str, share: float
) -> None:
    least, whole = free[kind].least[cap], free[kind].whole[cap]
    limit: Any = 1.3 * least + share * (whole - 1.3 * least)
    limit = limit if cap in ("usd", "minutes") else round(limit)
    world = World(tmp_path, kind)
    result = world.run(Budget(**{cap: limit}))
    dearest = max(stage.dev.per_example.input_tokens for stage in result.stages if stage.dev) * 4 + 1000
    in_flight = {"lm_calls": 0, "tokens": dearest, "usd": dearest * USD_A_TOKEN, "minutes": SECONDS_A_CALL / 60}[cap]
    assert amounts(result.spent)[cap] <= limit + THREADS * in_flight
    assert result.spent.lm_calls == len(world.engine.requests)
    judged(result)
    assert result.status in ("budget", "completed")
    if result.status == "budget":
        assert any("the budget" in decision.reason for decision in result.decisions)
        last = next(n for n, stage in enumerate(result.stages) if stage.decision and stage.decision.status == "budget")
        assert {stage.status for stage in result.stages[last + 1 :]} <= {"skipped"}


def test_calls_are_billed_with_the_role_of_who_asked(tmp_path: Path) -> None:
    world = World(tmp_path, "a judge in the metric", stages=(scripted.FOUR_STAGES[0], scripted.FOUR_STAGES[3]))
    result = world.run(Budget())
    roles = world.meter.by_role
    assert set(roles) == {"task", "judge", "teacher", "prompt"}
    assert sum(roles.values()) == result.spent.lm_calls == len(world.engine.requests)
    assert min(roles.values()) > 0
    assert result.baseline.spent.lm_calls == 40
    assert result.baseline.spent.judge_lm_calls == 20
    assert result.spent.judge_lm_calls == roles["judge"]
    assert result.baseline.dev and result.baseline.dev.per_example.lm_calls == 1


@pytest.mark.parametrize("cap", [1, LEAST - 1])
def test_a_cap_below_judging_is_refused_before_anything_is_spent(tmp_path: Path, cap: int) -> None:
    world = World(tmp_path)
    with pytest.raises(ExperimentError) as caught:
        world.run(Budget(lm_calls=cap))
    message = str(caught.value)
    assert f"Budget: lm_calls = {cap}" in message
    assert "20 calls on dev and twice 20 on test" in message
    assert str(LEAST) in message
    assert world.engine.requests == []
    assert not (tmp_path / ".cascade" / "runs").exists()


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(lm_calls=LEAST), "lm_calls = 60 does not pay for judging: 0 spent, and judging takes about 120 more"),
        (Budget(tokens=2_000), "tokens = 2000 does not pay for judging"),
    ],
)
def test_a_cap_that_the_first_answers_show_to_be_too_small_stops_there(
    tmp_path: Path, budget: Budget, words: str
) -> None:
    """The judge's calls cannot be known before: five examples are paid for, and those in flight."""
    world = World(tmp_path, "a judge in the metric")
    with pytest.raises(ExperimentError, match=words) as caught:
        world.run(budget)
    assert "as the first 5 showed; 60 are to be judged, of dev and, twice, of test" in str(caught.value)
    assert len(world.engine.requests) <= 2 * (5 + 2 * THREADS)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(minutes=0.1), "Budget: it was spent before the baseline was judged (minutes: 0.1 are over). Raise it."),
        (Budget(minutes=0.5), "Budget: minutes = 0.5 does not pay for judging: 0.333 spent, and judging takes about 0.667"),
    ],
)  # fmt: skip
def test_a_cap_that_the_baseline_shows_to_be_too_small_stops_after_it(
    tmp_path: Path, budget: Budget, words: str
) -> None:
    world = World(tmp_path)
    with pytest.raises(ExperimentError) as caught:
        world.run(budget)
    assert words in str(caught.value)
    assert len(world.engine.requests) <= 20
    (journal,) = (Journal(path) for path in (tmp_path / ".cascade" / "runs" / "x").iterdir())
    assert journal.run.status == "failed"
    assert len(journal.stages()) == (1 if budget.minutes == 0.5 else 0)
    paid = len(world.engine.requests)
    ample = world.run(Budget())
    assert ample.spent.lm_calls == len(world.engine.requests) - paid
    assert ample.baseline.spent.lm_calls == 20 - paid


class Crammed(Teleprompter):
    """Puts all of train into the prompt."""

    def compile(self, student: Any, *, trainset: Any) -> Any:
        student.ask.demos = list(trainset)
        return student


def test_a_program_that_could_not_be_judged_on_test_is_not_kept(tmp_path: Path) -> None:
    """Its prompts are several times as long as what was kept back for test."""
    stage = Stage("crammed", Crammed, lever="prompt")
    whole = World(tmp_path / "free", stages=(stage,)).run(Budget())
    one, many = (next(s for s in whole.stages if s.name == name).dev for name in ("0-baseline", "1-crammed"))
    assert one and many
    before, after = (dev.per_example.input_tokens + dev.per_example.output_tokens for dev in (one, many))
    assert after > 4 * before
    cap = 20 * before + 20 * after + 30 * after
    result = World(tmp_path / "capped", stages=(stage,)).run(Budget(tokens=cap))
    (decision,) = result.decisions
    assert result.stages[1].dev is None
    assert "the budget could not show on test what this program is worth: tokens" in result.stages[1].error
    assert decision.status == result.status == "budget"
    assert result.best is result.baseline
    judged(result)


def test_a_budget_that_suffices_changes_nothing(tmp_path: Path, free: dict[str, Free]) -> None:
    ample = World(tmp_path).run(Budget(lm_calls=10_000, tokens=10**9, minutes=60, usd=1000.0))
    whole = free["four stages"].result
    assert whole.status == ample.status == "completed"
    assert whole.best.taken and ample.best.taken
    assert whole.best.taken.digest == ample.best.taken.digest


def test_raising_a_cap_reuses_what_was_paid_for(tmp_path: Path, free: dict[str, Free]) -> None:
    small = World(tmp_path).run(Budget(lm_calls=120))
    world = World(tmp_path)
    more, whole = world.run(Budget()), free["four stages"].result
    assert small.status == "budget"
    assert more.status == "completed"
    assert small.spent.lm_calls + len(world.engine.requests) <= whole.spent.lm_calls + 40
    assert more.best.taken and whole.best.taken
    assert more.best.taken.digest == whole.best.taken.digest


def test_a_budget_that_ends_while_test_is_looked_at_is_said(tmp_path: Path) -> None:
    def long_on_test(model: str, inputs: Any, demos: int) -> Any:
        words = "word " * 2_000 if inputs["question"].startswith("test") else ""
        return {"answer": f"a {words}"}

    defined = scripted.experiment(budget=Budget(tokens=8_000), **SPLITS)
    result = scripted.run(defined, tmp_path, ScriptedEngine(long_on_test))
    assert result.test is None
    assert result.status == Journal(Path(result.journal)).run.status == "budget"
    assert "Not judged on test: the budget is spent (tokens: " in result.summary
