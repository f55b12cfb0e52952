"""Evaluation: failures are data, orders to stop are obeyed, and what it costs to serve is counted."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.costs import serving
from cascade.dataset import Split
from cascade.errors import BudgetSpent, EvaluationFailed, LedgerError, MetricError
from cascade.evaluation import Evaluation, Outcome, evaluate
from cascade.experiment import Budget
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.metrics import Score, metric
from cascade.testing import ScriptedEngine, ScriptedLMs


def echo(question: str) -> Any:
    return dspy.Prediction(answer=scripted.gold(question))


def numbers(split: Split) -> dict[str, int]:
    return {row["question"]: number for number, row in enumerate(split.rows)}


@pytest.mark.parametrize("threads", [0, 1, 8])
def test_outcomes_stand_in_the_order_of_the_split(threads: int) -> None:
    split = scripted.split("dev", 20)
    number = numbers(split)

    def program(question: str) -> Any:
        time.sleep(0.001 * (20 - number[question]))
        return echo(question) if number[question] % 4 else dspy.Prediction(answer="nothing")

    told: list[str] = []
    found = evaluate(
        program, split, scripted.right, threads=threads, on_outcome=lambda outcome: told.append(outcome.id)
    )
    assert [outcome.id for outcome in found.outcomes] == list(split.ids)
    assert found.scores == [float(bool(n % 4)) for n in range(20)]
    assert found.mean == 0.75
    assert sorted(told) == sorted(split.ids)
    assert found.outcomes[1].predicted == {"answer": split.rows[1]["answer"]}


def test_as_many_run_at_once_as_there_are_threads() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def program(question: str) -> Any:
        barrier.wait()
        return echo(question)

    assert evaluate(program, scripted.split("dev", 8), scripted.right, threads=4).failures == 0


def test_threads_see_dspy_s_context_and_a_trace_of_their_own() -> None:
    seen: list[Any] = []

    def program(question: str) -> Any:
        seen.append((dspy.settings.get("mark"), len(dspy.settings.trace)))
        dspy.settings.trace.append(question)
        return echo(question)

    with dspy.context(mark="here"):
        evaluate(program, scripted.split("dev", 12), scripted.right, threads=4)
    assert seen == [("here", 0)] * 12


def test_a_failing_example_is_data() -> None:
    split = scripted.split("dev", 10)

    def program(question: str) -> Any:
        if question == "dev 3":
            raise ValueError("lost\n  the thread")
        return echo(question)

    found = evaluate(program, split, scripted.right, threads=3)
    assert found.failures == 1
    failed = found.outcomes[3]
    assert (failed.score, failed.error, failed.unparseable, failed.predicted) == (
        0.0,
        "ValueError: lost the thread",
        False,
        {},
    )
    assert failed.latency >= 0
    assert found.mean == 0.9


def test_a_metric_that_fails_on_an_example_is_data_too() -> None:
    @metric
    def picky(example: Any, prediction: Any) -> bool:
        return bool({"dev 1": 1}[example.question])

    found = evaluate(echo, scripted.split("dev", 2), picky)
    assert [outcome.error for outcome in found.outcomes] == ["KeyError: 'dev 0'", ""]


@pytest.mark.parametrize(
    ("n", "broken", "refused"), [(10, 5, False), (10, 6, True), (4, 3, False), (4, 4, True), (3, 3, False)]
)
def test_when_too_many_fail_the_evaluation_says_so(n: int, broken: int, refused: bool) -> None:
    split = scripted.split("dev", n)
    number = numbers(split)

    def program(question: str) -> Any:
        if number[question] < broken:
            raise ConnectionError("no route")
        return echo(question)

    if not refused:
        assert evaluate(program, split, scripted.right).failures == broken
        return
    with pytest.raises(EvaluationFailed) as caught:
        evaluate(program, split, scripted.right)
    message = str(caught.value)
    assert f"{broken} of {broken} examples of 'dev' failed, more than the {broken - 1} allowed" in message
    assert "The first, 'dev-0000': ConnectionError: no route" in message


def test_an_evaluation_that_is_hopeless_ends_early() -> None:
    asked: list[str] = []

    def program(question: str) -> Any:
        asked.append(question)
        time.sleep(0.005)
        raise ConnectionError("no route")

    with pytest.raises(EvaluationFailed):
        evaluate(program, scripted.split("dev", 100), scripted.right, threads=2)
    assert 51 <= len(asked) < 70


def under(folder: Path, answer: Any, *, latency: float = 0.0) -> Any:
    engine = ScriptedEngine(answer, latency=latency)
    lms = ScriptedLMs(scripted.settings_in(folder), engine)
    return engine, dspy.context(lm=lms["task"], adapter=lms.adapter)


def test_answers_in_the_wrong_format_are_not_counted_as_broken(tmp_path: Path) -> None:
    _, context = under(tmp_path, lambda model, inputs, demos: "no format")
    with context, installed(Gateway(Ledger(tmp_path / "l.db"), Meter(Budget()))) as gateway:
        found = evaluate(scripted.Asks(), scripted.split("dev", 10), scripted.right)
        gateway.ledger.close()
    assert found.failures == 10
    assert all(outcome.unparseable for outcome in found.outcomes)
    assert found.outcomes[0].error.startswith("AdapterParseError: ")
    assert "\n" not in found.outcomes[0].error
    assert len(found.outcomes[0].error) <= 500
    assert (found.mean, found.outcomes[0].calls) == (0.0, 1)


@pytest.mark.parametrize("threads", [1, 4])
def test_an_order_to_stop_is_raised_and_cancels_what_has_not_begun(threads: int) -> None:
    begun: list[str] = []
    ended: list[str] = []

    def program(question: str) -> Any:
        begun.append(question)
        if len(begun) == 5:
            raise BudgetSpent("LM calls: 5 of 5")
        time.sleep(0.02)
        ended.append(question)
        return echo(question)

    with pytest.raises(BudgetSpent, match="LM calls: 5 of 5"):
        evaluate(program, scripted.split("dev", 60), scripted.right, threads=threads)
    assert len(begun) < 20
    assert len(ended) == len(begun) - 1


@pytest.mark.parametrize("error", [MetricError("wrong"), LedgerError("full")])
def test_an_error_of_ours_is_no_data(error: Exception) -> None:
    def program(question: str) -> Any:
        raise error

    with pytest.raises(type(error), match=str(error)):
        evaluate(program, scripted.split("dev", 5), scripted.right)


def test_a_metric_that_returns_no_score_stops_it() -> None:
    @metric
    def silent(example: Any, prediction: Any) -> Any:
        return None

    with pytest.raises(MetricError, match="Metric 'silent' returned None"):
        evaluate(echo, scripted.split("dev", 5), silent)


def test_graded_scores_keep_feedback_and_parts() -> None:
    @metric
    def graded(example: Any, prediction: Any) -> Score:
        return Score(0.25, "too long", {"length": 0.5})

    (outcome, *_), mean = (found := evaluate(echo, scripted.split("dev", 3), graded)).outcomes, found.mean
    assert (outcome.score, outcome.feedback, outcome.parts, mean) == (0.25, "too long", {"length": 0.5}, 0.25)


def test_latency_tokens_and_calls_are_the_same_when_the_ledger_answers(tmp_path: Path) -> None:
    engine, context = under(tmp_path, scripted.answer, latency=0.05)
    with context, installed(Gateway(Ledger(tmp_path / "l.db"), Meter(Budget()))) as gateway:
        paid, free = (evaluate(scripted.Asks(), scripted.split("dev", 6), scripted.right, threads=3) for _ in range(2))
        gateway.ledger.close()
    assert len(engine.requests) == 6
    for one, two in zip(paid.outcomes, free.outcomes, strict=True):
        assert one.latency >= 0.05
        assert two.latency >= 0.05
        assert (one.calls, one.input_tokens, one.output_tokens) == (two.calls, two.input_tokens, two.output_tokens)
        assert one.calls == 1
        assert one.input_tokens > 10
    assert (paid.per_example.lm_calls, free.per_example.lm_calls) == (1, 1)
    assert paid.tokens == free.tokens == sum(o.input_tokens + o.output_tokens for o in paid.outcomes) / 6


def evaluation(*outcomes: Outcome) -> Evaluation:
    return Evaluation(scripted.split("dev", len(outcomes)), outcomes)


def served(*examples: tuple[int, int, float | None]) -> Evaluation:
    return evaluation(
        *(Outcome(str(n), input_tokens=i, output_tokens=o, cost_usd=c) for n, (i, o, c) in enumerate(examples))
    )


def weighed(evaluated: Evaluation, *weights_gb: float | None) -> Evaluation:
    outcomes = zip(evaluated.outcomes, weights_gb, strict=True)
    return replace(evaluated, outcomes=tuple(replace(outcome, weights_gb=weight) for outcome, weight in outcomes))


PAID, DEAR = served((10, 5, 0.25), (20, 5, 0.75)), served((1, 1, 2.0))
FREE, UNKNOWN = served((400, 5, 0.0), (400, 5, 0.0)), served((10, 5, None), (20, 5, 0.75))
LARGE, SMALL = weighed(FREE, 58.0, 60.0), weighed(FREE, 31.0, 32.0)
SERVING = [
    (PAID, DEAR, (0.5, 2.0, "dollars")),
    (weighed(FREE, 31.0, 31.0), PAID, (0.0, 0.5, "dollars")),  # a trained student in place of a model that is paid for
    (PAID, FREE, (0.5, 0.0, "dollars")),
    (SMALL, LARGE, (31.5, 59.0, "weights_gb")),
    (LARGE, LARGE, (59.0, 59.0, "weights_gb")),
    (weighed(FREE, 31.0, None), LARGE, (405.0, 405.0, "tokens")),
    (FREE, FREE, (405.0, 405.0, "tokens")),
    (UNKNOWN, PAID, (20.0, 20.0, "tokens")),
    (PAID, UNKNOWN, (20.0, 20.0, "tokens")),
    (served((0, 0, 0.0)), FREE, (0.0, 405.0, "tokens")),
]


@pytest.mark.parametrize(("one", "other", "costs"), SERVING)
def test_serving_costs_are_compared_in_dollars_else_in_weights_else_in_tokens_of_the_same_lms(
    one: Evaluation, other: Evaluation, costs: tuple[float, float, str]
) -> None:
    found = serving(one, other, same_lms=True)
    assert found
    assert (found.candidate, found.incumbent, found.unit) == costs
    assert found.cheaper is (costs[0] < costs[1])
    assert serving(one, other, same_lms=False) == (None if found.unit == "tokens" else found)


def test_what_is_not_known_of_serving_is_not_there() -> None:
    assert UNKNOWN.serving().keys() == {"lm_calls", "lm_calls_cached", "input_tokens", "output_tokens", "seconds"}
    assert (SMALL.serving()["weights_gb"], SMALL.serving()["cost_usd"]) == (31.5, 0.0)


@pytest.mark.parametrize(
    ("quantile", "seconds"), [(0.0, 1.0), (0.1, 1.0), (0.5, 5.0), (0.55, 6.0), (0.95, 10.0), (1.0, 10.0)]
)
def test_latency_by_nearest_rank(quantile: float, seconds: float) -> None:
    outcomes = [Outcome(str(n), latency=float(n)) for n in (7, 3, 1, 9, 5, 2, 10, 4, 8, 6)]
    assert evaluation(*outcomes).latency(quantile) == seconds


def test_the_table_has_a_row_an_example() -> None:
    found = evaluate(echo, scripted.split("dev", 3), scripted.right)
    table = found.table()
    assert list(table) == ["input", "predicted", "score", "expected", "feedback", "id", "error", "tokens", "latency"]
    assert table["input"] == ["dev 0", "dev 1", "dev 2"]
    assert table["predicted"] == table["expected"] == [scripted.gold(f"dev {n}") for n in range(3)]
    assert table["id"] == ["dev-0000", "dev-0001", "dev-0002"]


def test_an_output_that_the_data_do_not_know_is_shown_beside_what_they_know() -> None:
    def other(question: str) -> Any:
        return dspy.Prediction(label=1, why={"a": {1, 2}})

    table = evaluate(other, scripted.split("dev", 1), metric(lambda example, prediction: True)).table()
    assert table["predicted"] == [{"label": 1, "why": {"a": "{1, 2}"}}]
    assert table["expected"] == [scripted.gold("dev 0")]
