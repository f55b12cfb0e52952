"""Metrics: what a judge may return, and what optimizers get to see of it."""

import math
from typing import Any

import dspy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import MetricError
from cascade.metrics import Metric, Score, as_metric, as_score, for_optimizer, metric


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (True, 1.0),
        (False, 0.0),
        (0, 0.0),
        (1, 1.0),
        (0.25, 0.25),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1.0),
        (Score(0.75), 0.75),
        (Score(True), 1.0),
        (Score(1), 1.0),
        (dspy.Prediction(score=0.5), 0.5),
    ],
)
def test_what_a_judge_may_return(returned: Any, value: float) -> None:
    score = as_score(returned)
    assert isinstance(score, Score)
    assert type(score.value) is float
    assert score.value == value


def test_a_score_keeps_its_feedback_and_parts() -> None:
    given_ = Score(1, "too long", {"format": 0.5})
    assert as_score(given_) == Score(1.0, "too long", {"format": 0.5})


@pytest.mark.parametrize(
    "returned",
    [None, "1", "good", 1.01, -0.01, math.nan, math.inf, 10**400, [1], {}, 1j, Score(2.0), Score(math.nan), Score(0.5, parts={"p": 3}),
     Score("x"), Score(0.5, parts={"p": None})],
)  # fmt: skip
def test_what_is_no_score(returned: Any) -> None:
    with pytest.raises(MetricError) as caught:
        as_score(returned, "closeness")
    message = str(caught.value)
    assert "Metric 'closeness'" in message
    assert "Return a bool, a number from 0 to 1, or a Score." in message


@pytest.mark.parametrize(
    ("returned", "quoted"),
    [(1.5, "returned 1.5"), (Score(7), "returned a Score of 7"), (Score(1, parts={"form": -1}), "gave its part 'form' -1")],
)  # fmt: skip
def test_the_message_quotes_what_came(returned: Any, quoted: str) -> None:
    with pytest.raises(MetricError, match=quoted):
        as_score(returned)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.binary(), st.lists(st.floats(), max_size=2)))
def test_either_a_score_from_0_to_1_or_a_metric_error(returned: Any) -> None:
    try:
        value = as_score(returned).value
    except MetricError:
        assert not (isinstance(returned, int | float) and 0 <= returned <= 1)
    else:
        assert 0 <= value <= 1
        assert value == returned


def test_a_decorated_function_is_a_metric_and_still_called_like_a_function() -> None:
    @metric
    def same(example: Any, prediction: Any) -> bool:
        return bool(example == prediction)

    @metric(threshold=0.5)
    def near(example: Any, prediction: Any) -> float:
        return 1 - abs(example - prediction)

    assert (same.name, same.threshold) == ("same", 1.0)
    assert (near.name, near.threshold) == ("near", 0.5)
    assert same("x", "x").value == 1.0
    assert near(1.0, 0.75) == Score(0.75)
    assert as_metric(same) is same


def test_a_callable_object_is_named_after_its_class() -> None:
    class Judge:
        def __call__(self, example: Any, prediction: Any) -> bool:
            return True

    assert as_metric(Judge()).name == "Judge"


@pytest.mark.parametrize("threshold", [0, -1, 1.1, math.nan])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(MetricError, match=r"threshold=.* is not above 0 and at most 1") as caught:
        metric(threshold=threshold)
    assert repr(threshold) in str(caught.value)


def test_what_cannot_be_called_is_no_metric() -> None:
    with pytest.raises(
        MetricError, match=r"metric = 'exact' cannot be called. Give a function of an example and a prediction"
    ):
        as_metric("exact")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "threshold", "plain", "bootstrapping"),
    [(0.01, 1.0, 0.01, False), (0.6, 0.5, 0.6, True), (0.5, 0.5, 0.5, True), (1.0, 1.0, 1.0, True), (0.0, 0.1, 0.0, False)],
)  # fmt: skip
def test_while_bootstrapping_only_what_reaches_the_threshold_is_true(
    value: float, threshold: float, plain: float, bootstrapping: bool
) -> None:
    judge = for_optimizer(Metric(lambda example, prediction: value, threshold))
    assert judge(None, None) == plain
    assert judge(None, None, []) is bootstrapping


def test_an_optimizer_that_reads_gets_feedback() -> None:
    judge = for_optimizer(Metric(lambda example, prediction: Score(0.25, "wrong city")))
    silent = for_optimizer(Metric(lambda example, prediction: 0.25))
    told = judge(None, None, None, "ask", [])
    assert (told.score, told.feedback) == (0.25, "wrong city")
    assert silent(None, None, None, "ask", []).feedback == "This was worth 0.25 of 1."
