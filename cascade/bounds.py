"""How many LM calls a stage can make, known before it starts.

Invariant: a bound holds or it is None with a reason, and then the budget is the only bound. It counts what is asked,
whether a model or the ledger answers: what is billed is at most as much.
"""

from dataclasses import dataclass
from typing import Any

from cascade.building import carve
from cascade.check import Prepared
from cascade.dataset import Split
from cascade.evaluation import Evaluation
from cascade.experiment import Stage
from cascade.optimizers.loops import work
from cascade.optimizers.work import Given, Work
from cascade.options import parameters


@dataclass(frozen=True)
class Calls:
    """LM calls by who answers.

    Args:
        task: all that answer for the program: task, student, trained weights, LMs that it names itself.
        prompt: writes instructions.
        teacher: shows how, where it has an LM of its own.
    """

    task: int = 0
    prompt: int = 0
    teacher: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.task + self.prompt + self.teacher

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(self.task + other.task, self.prompt + other.prompt, self.teacher + other.teacher)


@dataclass(frozen=True)
class Bound:
    """At most so many LM calls.

    Args:
        at_most: whatever happens; None where that cannot be known.
        parsed: where every answer can be used; the rest asks again for those that cannot.
        unknown: why there is no bound, else "".
    """

    at_most: Calls | None
    parsed: Calls
    unknown: str = ""

    @property
    def total(self) -> int | None:
        """Calls of all roles."""
        return self.at_most.total if self.at_most else None

    def __add__(self, other: "Bound") -> "Bound":
        known = self.at_most + other.at_most if self.at_most and other.at_most else None
        return Bound(known, self.parsed + other.parsed, self.unknown or other.unknown)


NOTHING = Bound(Calls(), Calls())


def of_stage(stage: Stage, prepared: Prepared, calls_a_run: int | None = None) -> Bound:
    """What a stage's optimizer may ask for; judging its program comes on top.

    Args:
        calls_a_run: LM calls that one run of the program takes at most; None assumes one a predictor.
    """
    found = work(stage.optimizer, stage.options, given(stage, prepared))
    if isinstance(found, str):
        return Bound(None, Calls(), found)
    return _priced(found, prepared, calls_a_run)


def of_judging(prepared: Prepared, *splits: Split, calls_a_run: int | None = None) -> Bound:
    """What evaluating once on each of `splits` may ask for."""
    runs = prepared.experiment.repeats * sum(map(len, splits))
    return _priced(Work(runs=runs), prepared, calls_a_run)


def most_calls(evaluation: Evaluation, program: Any) -> int:
    """LM calls that one run of the program takes at most, judging it included, as an evaluation showed.

    A run that failed may have ended early: then every predictor counts at least once.
    """
    seen = max(outcome.taken.lm_calls for outcome in evaluation.outcomes)
    return max(seen, len(program.predictors())) if evaluation.failures else seen


def given(stage: Stage, prepared: Prepared) -> Given:
    """What the stage's optimizer works on, as `cascade.stage` supplies it."""
    lms, train = prepared.lms, prepared.data.train
    teacher = lms.own_teacher
    if "valset" in parameters(stage.optimizer)[1] and "valset" not in stage.options:
        learn, validate = carve(train, prepared.settings.seed)
        return Given(prepared.program, len(learn), len(validate), teacher)
    return Given(prepared.program, len(train), None, teacher)


def answers_a_call(prepared: Prepared) -> int:
    """How often a predictor asks at most: `dspy.ChatAdapter` asks once more, for JSON, where no answer can be read."""
    return 2 if getattr(prepared.lms.adapter, "use_json_adapter_fallback", False) else 1


def _priced(found: Work, prepared: Prepared, calls_a_run: int | None) -> Bound:
    calls = len(prepared.program.predictors()) if calls_a_run is None else calls_a_run
    task, teacher = found.runs * calls + found.task_calls, found.teacher_runs * calls
    times = answers_a_call(prepared)
    prompts = found.prompt_calls + found.prompt_repairs
    return Bound(Calls(times * task, times * prompts, times * teacher), Calls(task, found.prompt_calls, teacher))
