"""Errors of a step, by their type."""

import asyncio
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError, LMRateLimitError
from step_asking import asking, model

from cascade.errors import BudgetSpent, LedgerError, MetricError, ProgramError, StepFailed
from cascade.programs import Contract, Guarded, Pipeline, Retry, Step
from cascade.testing import ScriptedEngine


class Failing:
    """A function that raises these, one a call, and then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self, text: str) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"answer": text.upper()}


def actions(said: Any) -> list[str]:
    return [entry["action"] for entry in said.error_log]


# (how the step is guarded, what it raises) → what is answered, what was done
CASES: list[tuple[dict[str, Any], list[Exception], Any, list[str]]] = [
    ({"retry": 2}, [], "HI", []),
    ({"retry": 2}, [ValueError()], "HI", ["retry"]),
    ({"retry": {ValueError: 1}, "skip": True}, [ValueError(), ValueError()], None, ["retry", "skip"]),
    ({"retry": {Exception: 3}, "skip": TimeoutError}, [TimeoutError()], None, ["skip"]),
    ({"retry": {TimeoutError: 1}, "skip": OSError}, [TimeoutError()] * 2, None, ["retry", "skip"]),
    ({"retry": {TimeoutError: 1, OSError: 5}, "skip": True}, [TimeoutError()] * 2, None, ["retry", "skip"]),
    ({"fallback": {"answer": "none"}}, [ValueError()], "none", ["fallback"]),
    ({"fallback": {LookupError: {"answer": "a"}, KeyError: {"answer": "b"}}}, [KeyError()], "b", ["fallback"]),
    ({"fallback": lambda text: {"answer": text[::-1]}}, [ValueError()], "ih", ["fallback"]),
    ({"retry": 1, "fallback": {ValueError: {"answer": "f"}}}, [OSError(), ValueError()], "f", ["retry", "fallback"]),
]


@pytest.mark.parametrize(("how", "errors", "answer", "done"), CASES)
def test_the_most_specific_entry_decides(how: Any, errors: Any, answer: Any, done: list[str]) -> None:
    for said in (_called(how, errors), asyncio.run(_awaited(how, errors))):
        assert (said.get("answer"), actions(said)) == (answer, done)


def _called(how: Any, errors: Any) -> Any:
    return Guarded(Step(Failing(*errors)), **how)(text="hi")


async def _awaited(how: Any, errors: Any) -> Any:
    return await Guarded(Step(Failing(*errors)), **how).acall(text="hi")


@pytest.mark.parametrize(
    "error", [BudgetSpent("a cap"), KeyboardInterrupt(), LedgerError("damaged"), MetricError("no score")]
)
def test_orders_to_stop_and_errors_of_cascade_are_raised(error: BaseException) -> None:
    step = Failing(error)
    with pytest.raises(type(error)):
        Guarded(Step(step), retry=5, fallback={"answer": ""})(text="hi")
    assert step.calls == 1


def test_what_no_entry_names_is_raised_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError):
        Guarded(Step(Failing(ZeroDivisionError())), retry={ValueError: 2}, skip=OSError)(text="hi")


def test_a_fallback_that_fails_is_raised() -> None:
    with pytest.raises(OSError, match="second"):
        Guarded(Step(Failing(ValueError())), fallback=Step(Failing(OSError("second"))))(text="hi")


def test_another_answer_is_a_rollout_of_its_own() -> None:
    seen: list[Any] = []

    def answer(_model: str, inputs: Any, _demos: int) -> Any:
        return "no format at all" if len(seen) < 3 else {"answer": "fine"}

    engine = ScriptedEngine(answer)

    class Spy(dspy.Predict):
        def forward(self, **fields: Any) -> Any:
            seen.append((self.lm or dspy.settings.lm).kwargs)
            return super().forward(**fields)

    step = Guarded(Spy("question -> answer"), retry={AdapterParseError: 3})
    with asking(), dspy.context(lm=model(engine)):
        said = step(question="hi")
        assert [who is step.module for who, *_ in dspy.settings.trace] == [True]
    assert said.answer == "fine"
    assert len({(kwargs.get("rollout_id"), kwargs["temperature"]) for kwargs in seen}) == 3
    assert seen[0]["temperature"] == 0.0


def test_predictors_with_models_of_their_own_ask_anew_too() -> None:
    rollouts: list[Any] = []

    class Own(dspy.Predict):
        def forward(self, **fields: Any) -> Any:
            rollouts.append(self.lm.kwargs.get("rollout_id"))
            if len(rollouts) < 2:
                raise ValueError
            return super().forward(**fields)

    step = Guarded(Own("question -> answer"), retry=1)
    with asking() as engine:
        step.set_lm(model(engine))
        assert step(question="hi").answer == "HI"
        assert [who is step.module for who, *_ in dspy.settings.trace] == [True]
    assert rollouts[0] is None
    assert rollouts[1] is not None


def test_a_connection_is_asked_the_same_again() -> None:
    kwargs: list[Any] = []

    class Spy(dspy.Predict):
        def forward(self, **fields: Any) -> Any:
            kwargs.append(dspy.settings.lm.kwargs)
            if len(kwargs) == 1:
                raise LMRateLimitError("slow down")
            return super().forward(**fields)

    with asking():
        assert Guarded(Spy("question -> answer"), retry=1)(question="hi").answer == "HI"
    assert kwargs[0] == kwargs[1]


def test_waits_grow_and_end_at_a_minute() -> None:
    assert [Retry(9, wait=5.0).seconds(attempt) for attempt in range(1, 7)] == [5, 10, 20, 40, 60, 60]
    said = Guarded(Step(Failing(ValueError(), ValueError())), retry=Retry(2, wait=0.001))(text="hi")
    assert actions(said) == ["retry", "retry"]


def test_waiting_stops_no_one_else() -> None:
    async def both() -> list[str]:
        ends: list[str] = []

        async def one(name: str, step: Any) -> None:
            await step.acall(text="hi")
            ends.append(name)

        slow = Guarded(Step(Failing(ValueError())), retry=Retry(1, wait=0.2))
        await asyncio.gather(one("slow", slow), one("quick", Guarded(Step(Failing()))))
        return ends

    assert asyncio.run(both()) == ["quick", "slow"]


def test_the_log_is_one_line_and_says_the_step() -> None:
    secret = "secret\n" * 500
    step = Pipeline(draft=Guarded(Step(Failing(ValueError(f"bad\n{secret}"))), retry=1),
                    send=Guarded(Step(lambda answer: 1 / 0, gives="n"), fallback={"n": 0}))  # fmt: skip
    log = step(text="hi").error_log
    assert [(entry["step"], entry["action"]) for entry in log] == [
        ("draft.module", "retry"),
        ("send.module", "fallback"),
    ]
    assert all("\n" not in entry["error"] and len(entry["error"]) <= 200 for entry in log)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"retry": {KeyboardInterrupt: 1}}, "no type of Exception"),
        ({"skip": BudgetSpent}, "no type of Exception"),
        ({"skip": LedgerError}, "an error of cascade itself"),
        ({"skip": ValueError, "fallback": {ValueError: {}}}, "both a fallback and a skip"),
        ({"retry": 0}, "never asks again"),
    ],
)
def test_a_wrong_table_is_an_error_before_anything_runs(how: Any, says: str) -> None:
    with pytest.raises(ProgramError, match=says):
        Guarded(Step(Failing()), **how)


def test_a_broken_contract_is_asked_anew() -> None:
    from pydantic import BaseModel, Field

    class Short(BaseModel):
        answer: str = Field(max_length=3)

    answers = iter(["too long", "ok"])
    step = Guarded(Contract(dspy.Predict("question -> answer"), gives=Short), retry={StepFailed: 1})
    with asking(lambda _: {"answer": next(answers)}):
        said = step(question="hi")
    assert (said.answer, actions(said)) == ("ok", ["retry"])


def test_logs_and_versions_of_branches_at_once_are_one() -> None:
    from cascade.programs import Parallel

    def branch(field: str) -> Any:
        return Contract(Guarded(Step(lambda text: {"n": 1 / 0}, gives=field), skip=True), version=field)

    said = Parallel(a=branch("x"), b=branch("y"))(text="hi")
    assert [entry["step"] for entry in said.error_log] == ["a.module", "b.module"]
    assert said.step_versions == {"a": "x", "b": "y"}
    assert (said.x, said.y) == (None, None)
