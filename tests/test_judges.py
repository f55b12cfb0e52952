"""A judge is not heard before it agreed with labelled answers, and what came of that is kept."""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import LMRateLimitError
from scripted import Asks, rows, settings_in

from cascade.check import prepare
from cascade.checks import examine
from cascade.cli.plan import sentences
from cascade.dataset import Dataset
from cascade.errors import MetricError
from cascade.evaluation import evaluate
from cascade.experiment import Budget, Experiment
from cascade.forecast import forecast
from cascade.judges import Judge, RubricJudge, judges_of
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.lm.named import offering
from cascade.metrics import metric
from cascade.optimizers.labels import labelled as labelled_runs
from cascade.settings import LMSpec
from cascade.testing import ScriptedEngine, ScriptedLMs

VERDICTS = ("right", "partly", "wrong")


def labelled(n: int = 30) -> Dataset:
    made = [
        {"question": f"q{i}", "reference": "r", "response": f"it is {VERDICTS[i % 3]} {i}", "verdict": VERDICTS[i % 3]}
        for i in range(3 * n)
    ]
    return Dataset(
        "verdicts",
        train=made[:n],
        dev=made[n : 2 * n],
        test=made[2 * n :],
        inputs=("question", "reference", "response"),
    )


judge = Judge("judge", labelled(), at_least=0.4)


@metric
def judged(example: Any, prediction: Any) -> bool:
    return bool(judge(question=example.question, reference=example.answer, response=prediction.answer) == "right")


def script(faults: int) -> ScriptedEngine:
    """A judge that sees what the response says, but for some answers; what it is asked about beside, it calls right."""

    def answer(_model: str, inputs: Mapping[str, str], _demos: int) -> Mapping[str, str]:
        if "response" not in inputs:
            return {"answer": "a"}
        *_, verdict, number = ["", "right", *inputs["response"].removeprefix("it is").split()][-2:]
        return {
            "verdict": "wrong"
            if number.isdigit() and int(number) % 30 < faults
            else verdict
            if verdict in VERDICTS
            else "right"
        }

    return ScriptedEngine(answer)


def lms_in(folder: Path, engine: ScriptedEngine) -> ScriptedLMs:
    return ScriptedLMs(settings_in(folder), engine)


@contextmanager
def running(lms: ScriptedLMs) -> Iterator[None]:
    """As in a run, with a ledger of its own, so that every call is made."""
    file = lms.settings.home / f"ledger-{uuid.uuid4()}.db"
    context = dspy.context(lm=lms["task"], adapter=lms.adapter, num_threads=4)
    with Ledger(file) as ledger, installed(Gateway(ledger, Meter(Budget()), lms.identity)), offering(lms), context:
        yield


def ask(lms: ScriptedLMs, response: str = "it is partly 1000") -> Any:
    with running(lms):
        return judge(question="q", reference="r", response=response)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cascade.judges._known", {})


def test_a_judge_that_agrees_is_heard_and_is_held_against_the_labels_once(tmp_path: Path) -> None:
    engine = script(faults=3)
    lms = lms_in(tmp_path, engine)
    assert ask(lms) == "partly" and len(engine.requests) == 31
    assert ask(lms, "it is wrong 1001") == "wrong" and len(engine.requests) == 32
    (record,) = (tmp_path / ".cascade" / "judges").glob("judge-*.json")
    assert json.loads(record.read_text())["n"] == 30


def test_another_process_reads_what_was_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(lms_in(tmp_path, script(faults=3)))
    monkeypatch.setattr("cascade.judges._known", {})
    engine = script(faults=30)
    assert ask(lms_in(tmp_path, engine)) == "wrong" and len(engine.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"lm": {"judge": LMSpec("scripted/base", {"api_base": "http://elsewhere/v1"})}},
        {"lm": {"judge": LMSpec("scripted/base", {"temperature": 0.7})}},
        {"force_format": False},
    ],
    ids=["another address", "asked otherwise", "no form"],
)
def test_a_model_behind_another_address_or_asked_otherwise_is_another_judge(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    ask(lms_in(tmp_path, script(faults=3)))
    engine = script(faults=18)
    with pytest.raises(MetricError, match="must not judge"):
        ask(ScriptedLMs(settings_in(tmp_path, **other), engine))
    assert len(engine.requests) == 30
    with pytest.raises(MetricError, match="must not judge"):  # known now, and by what it was asked under
        ask(ScriptedLMs(settings_in(tmp_path, **other), engine))
    assert len(engine.requests) == 30


def test_a_judge_that_does_not_agree_is_not_heard(tmp_path: Path) -> None:
    engine = script(faults=18)
    for _ in range(2):
        with pytest.raises(
            MetricError, match=r"'judge' \(scripted/base\) must not judge: it agrees with 60% .*CASCADE_LM_JUDGE"
        ):
            ask(lms_in(tmp_path, engine))
    assert len(engine.requests) == 30


def test_a_model_that_cannot_be_reached_is_no_judge_that_disagrees(tmp_path: Path) -> None:
    """What would be kept for ever is what it says, not that it was away."""

    class Away(ScriptedEngine):
        def complete(self, request: Any) -> Any:
            raise LMRateLimitError("too many", model="judge")

    with pytest.raises(LMRateLimitError):
        ask(lms_in(tmp_path, Away(lambda *_: {})))
    assert not (tmp_path / ".cascade" / "judges").exists()
    assert ask(lms_in(tmp_path, script(faults=3))) == "partly"


def test_no_run_goes_on_with_such_a_judge(tmp_path: Path) -> None:
    lms = lms_in(tmp_path, script(faults=18))
    prepared = prepare(experiment(), settings_in(tmp_path), lms)
    with running(lms), pytest.raises(MetricError, match="must not judge"):
        evaluate(prepared.program, prepared.data.dev, judged, threads=2)


def test_holding_it_against_the_labels_is_paid_for_and_is_not_what_an_example_takes(tmp_path: Path) -> None:
    """Else a run would keep so much back for judging that no stage could be paid for."""
    engine = script(faults=3)
    lms = lms_in(tmp_path, engine)
    prepared = prepare(experiment(), settings_in(tmp_path), lms)
    with running(lms):
        done = evaluate(prepared.program, prepared.data.dev, judged, threads=2)
    assert {outcome.taken.lm_calls for outcome in done.outcomes} == {2}
    assert len(engine.requests) == 30 + 2 * len(done.outcomes)


def experiment() -> Experiment:
    data = Dataset("x", train=rows("train", 30), dev=rows("dev", 40), test=rows("test", 40), inputs=("question",))
    return Experiment(dataset=data, metric=judged, program=Asks, name="x")


def findings(folder: Path, engine: ScriptedEngine) -> list[tuple[str, str, str]]:
    prepared = prepare(experiment(), settings_in(folder), lms_in(folder, engine))
    return [(one.place, one.severity, one.sentence) for one in examine(prepared)]


@pytest.mark.parametrize(
    ("faults", "asked", "severity", "said"),
    [
        (
            3,
            False,
            "note",
            "not held against labels yet: scripted/base is first asked about 30 labelled answers of 'verdicts'",
        ),
        (3, True, "note", "scripted/base agrees with 93% [73%, 99%] of 30 labelled answers, kappa 0.90"),
        (18, True, "error", "must not judge: it agrees with 60%"),
    ],
)
def test_a_check_tells_what_is_known_and_asks_nobody(
    tmp_path: Path, faults: int, asked: bool, severity: str, said: str
) -> None:
    engine = script(faults)
    if asked:
        with suppress(MetricError):
            ask(lms_in(tmp_path, engine))
    before = len(engine.requests)
    told = findings(tmp_path, engine)
    ((found, sentence),) = [one[1:] for one in told if one[0] == "Judge 'judge'"]
    assert (
        found == severity and said in sentence and not sentence.startswith("Judge") and len(engine.requests) == before
    )
    assert [one[1:] for one in told if one[0] == "Metric 'judged'"] == [
        ("note", "not checked: it asks the judge 'judge', and a check asks nobody.")  # known or not, heard or refused
    ]


def test_a_forecast_says_that_the_judge_is_not_in_it(tmp_path: Path) -> None:
    ahead = forecast(prepare(experiment(), settings_in(tmp_path), lms_in(tmp_path, script(faults=3))))
    assert ahead.to_json()["judges_not_counted"] == {"judge": 30}
    (assumed,) = [sentence for sentence in sentences(ahead) if sentence.startswith("Assumed")]
    assert (
        "no LM but its judge 'judge', which is not counted here: once an answer, and first about 30 labelled" in assumed
    )


@pytest.mark.parametrize(
    ("response", "missing", "added"),
    [
        ("Two crowns a year.", "none", "none"),
        ("two, two crowns", "some: a, year", "none"),
        ("It costs three crowns a year", "few: two", "some: it, costs, three"),
        ("two, at most", "many: crowns, a, year", "many: at, most"),
        ("", "most: two, crowns, a, year", "none"),
    ],
)
def test_the_judge_is_told_how_many_words_are_not_shared_and_which(response: str, missing: str, added: str) -> None:
    program = RubricJudge()
    example = dspy.Example(question="q", reference="two crowns a year", response=response, verdict="right")
    ((_, given, _),) = labelled_runs(program, [example.with_inputs("question", "reference", "response")])[0]
    assert (given["missing"], given["added"]) == (missing, added)


def test_judges_are_found_by_the_names_that_a_metric_uses() -> None:
    assert list(judges_of(judged.judge)) == [judge]
    assert list(judges_of(lambda example, prediction: True)) == []
