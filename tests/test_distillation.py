"""A cheaper student under the best program for a teacher: kept, refused for its score, refused for its cost."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import prepare
from cascade.checks.cheaper import cheaper
from cascade.comparison import Interval
from cascade.decision import Kept, Next
from cascade.experiment import Plateau, Stage
from cascade.journal import Journal
from cascade.program import restore
from cascade.progress import Silent
from cascade.report.document import run_document
from cascade.report.reading import read
from cascade.report.story import story
from cascade.result import Result
from cascade.runner import execute
from cascade.testing import ScriptedEngine, ScriptedLMs

DEV = 200
PRICES = {"scripted/": 4e-6, "scripted/small": 1e-6}
WEIGHTS = Stage("weights", dspy.BootstrapFinetune)
DISTILLED = Stage("distilled", dspy.BootstrapFinetune, aim="cheaper", margin=0.05)


def answering(student: float) -> Any:
    """Trained weights are right on nine questions in ten; the trained student on the share `student` of those."""

    def answer(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        question = inputs.get("question", "")
        chance = 0.9 if "trained" in model else 0.4 if "small" not in model else 0.1
        right = scripted.luck(question) < chance
        if "small-trained" in model:
            right = right and scripted.luck("student", question) < student
        return {"answer": scripted.gold(question) if right else "none"}

    return answer


def distil(folder: Path, *stages: Stage, student: float = 1.0, prices: Any = PRICES, **options: Any) -> Result:
    settings = scripted.settings_in(folder, lm=scripted.specs(student="scripted/small"))
    lms = ScriptedLMs(settings, ScriptedEngine(answering(student)), usd_a_token=prices)
    defined = scripted.experiment(*(stages or (WEIGHTS, DISTILLED)), dev=DEV, **options)
    return execute(prepare(defined, settings, lms), progress=Untroubled())


class Untroubled(Silent):
    """Warnings have a test of their own."""

    def warn(self, sentence: str) -> None:
        pass


def test_a_cheaper_student_that_scores_as_well_is_kept(tmp_path: Path) -> None:
    result = distil(tmp_path)
    weights, distilled = result.stages[1:]
    decision = distilled.decision
    assert decision and distilled.taken and weights.taken and decision.serving
    assert (decision.kept, decision.within_margin, decision.next) == (Kept.NEW, True, Next.STOP)
    assert distilled.taken.lms["ask"].startswith("scripted/small-trained-")
    assert weights.taken.lms["ask"].startswith("scripted/trained-")
    assert (decision.serving.candidate / decision.serving.incumbent, decision.serving.unit) == (0.25, "dollars")
    assert (result.best.name, result.status) == ("2-distilled", "completed")
    assert result.program(question="dev 0").answer == result.stages[1].program(question="dev 0").answer


def test_the_student_learns_from_the_incumbent_as_it_is(tmp_path: Path) -> None:
    """Not from itself, and not from the program before its weights were trained."""
    distil(tmp_path)
    trained = [json.loads(path.read_text()) for path in (tmp_path / ".cascade" / "trained").iterdir()]
    by_base, by_teacher = sorted(map(len, trained))
    assert (by_base, by_teacher) == (9, 23)


@pytest.mark.parametrize(
    ("student", "prices", "why"),
    [
        (0.8, PRICES, "does not stay above the margin of -5.0, although it costs less to serve ($"),
        (1.0, 1e-6, "it does not cost less to serve ($"),
        (1.0, {"scripted/": 4e-6, "scripted/small": 8e-6}, "+100 %); its difference to the incumbent, 0.0 points ["),
        (1.0, None, "it is not known to cost less to serve (another LM answers"),
        (0.8, None, "does not stay above the margin of -5.0; no stage is left."),
    ],
)
def test_a_student_is_refused_for_its_score_or_its_cost(tmp_path: Path, student: float, prices: Any, why: str) -> None:
    result = distil(tmp_path, student=student, prices=prices)
    decision = result.decisions[-1]
    assert (decision.kept, result.best.name) == (Kept.INCUMBENT, "1-weights")
    assert f"not kept, because {'its' if prices == PRICES else 'it '}" in decision.reason
    assert why in decision.reason


def test_the_claim_on_the_incumbent_is_counted(tmp_path: Path) -> None:
    """Two verdicts and one more claim share 10 %."""
    decision = distil(tmp_path).decisions[-1]
    assert decision.confidence == pytest.approx(1 - 0.1 / 3)
    assert decision.incumbent_interval
    assert decision.incumbent_interval.confidence == decision.confidence
    bound = 1 - (0.05 / 3) ** (1 / DEV)  # of a difference that was never seen
    assert (decision.incumbent_interval.low, decision.incumbent_gain) == (pytest.approx(-bound, abs=2e-3), 0.0)


def test_a_loss_within_the_margin_is_kept_although_the_verdict_is_worse(tmp_path: Path) -> None:
    generous = Stage("distilled", dspy.BootstrapFinetune, aim="cheaper", margin=0.3)
    result = distil(tmp_path, WEIGHTS, generous, student=0.8)
    decision = result.decisions[-1]
    assert (str(decision.verdict), decision.kept) == ("worse", Kept.NEW)
    assert isinstance(decision.interval, Interval)
    assert decision.interval.high < 0


def test_the_journal_and_the_report_say_what_was_saved_and_at_which_margin(tmp_path: Path) -> None:
    journal = Journal(Path(distil(tmp_path).journal))
    told = journal.read("2-distilled/decision.json")
    assert (told["aim"], told["kept"], told["margin"], told["within_margin"]) == ("cheaper", "new", 0.05, True)
    assert told["incumbent_gain"] == 0
    assert -0.05 < told["incumbent_interval"][0] < 0
    assert told["serving"]["candidate"] < told["serving"]["incumbent"]
    record = journal.stages()[-1]
    assert (record.params["aim"], record.params["margin"]) == ("cheaper", "0.05")
    figures = {name: record.metrics[name] for name in ("incumbent_gain", "margin", "serving_cost")}
    assert figures == {"incumbent_gain": 0, "margin": 0.05, "serving_cost": told["serving"]["candidate"]}
    assert "serving_cost" not in journal.stages()[1].metrics
    run = read(journal)
    (sentence,) = [one for one in story(run) if one.startswith("2-distilled")]
    assert sentence.startswith("2-distilled aimed at cheaper and was kept: $0.00")
    assert ", -75 %, to serve; 0.0" in sentence
    assert "+0.0 points [-" in sentence
    assert sentence.endswith(" against 1-weights, margin -5.0.")
    stage = run_document(run)["stages"][-1]
    assert (stage["aim"], stage["margin"], stage["serving_costs"]["unit"]) == ("cheaper", 0.05, "dollars")


def test_its_program_comes_back_from_the_journal_with_the_student_s_weights(tmp_path: Path) -> None:
    result = distil(tmp_path)
    taken = result.best.taken
    assert taken
    again = restore(scripted.Asks, taken, result.lms.by_model)
    assert again.ask.lm.model == taken.lms["ask"]
    assert Journal(Path(result.journal)).read("2-distilled/program.json") == taken.state


@pytest.mark.parametrize(
    ("options", "status", "skipped"),
    [
        ({"target": 0.85}, "target", "3-more"),
        ({"plateau": Plateau(patience=1, on_plateau="stop", min_gain=0.9)}, "plateau", "2-more"),
    ],
)
def test_a_run_that_looks_for_no_better_score_goes_on_to_make_it_cheaper(
    tmp_path: Path, options: Any, status: str, skipped: str
) -> None:
    """A target and a plateau are about the score."""
    idle = Stage("idle", dspy.LabeledFewShot, k=1)
    more = Stage("more", dspy.LabeledFewShot, k=2)
    stages = (idle, WEIGHTS, more, DISTILLED) if status == "target" else (idle, more, DISTILLED)
    result = distil(tmp_path, *stages, **options)
    ran = {stage.name: stage.status for stage in result.stages}
    assert (ran[skipped], result.stages[-1].status) == ("skipped", "done")
    assert result.status == status


def test_a_baseline_that_reaches_the_target_may_still_become_cheaper(tmp_path: Path) -> None:
    result = distil(tmp_path, target=0.1)
    assert [stage.status for stage in result.stages] == ["done", "skipped", "done"]
    assert (result.status, result.best.name) == ("target", "2-distilled")


@pytest.mark.parametrize(
    ("student", "prices", "margin", "told"),
    [
        ("scripted/small", PRICES, 0.05, None),
        ("scripted/base", PRICES, 0.05, "the LM 'student' is the task's, 'scripted/base': only shorter prompts could"),
        ("scripted/small", None, 0.05, "what the LM 'student', 'scripted/small', costs is not known"),
        ("scripted/small", {"scripted/small": 1e-6}, 0.05, "what the LM 'task', 'scripted/base', costs is not known"),
        ("scripted/small", PRICES, 0.01, "margin = 0.01 is less than 200 examples of dev can show"),
    ],
)
def test_what_could_never_be_kept_is_told_before_it_is_paid_for(
    tmp_path: Path, student: str, prices: Any, margin: float, told: str | None
) -> None:
    settings = scripted.settings_in(tmp_path, lm=scripted.specs(student=student))
    lms = ScriptedLMs(settings, ScriptedEngine(scripted.answer), usd_a_token=prices)
    stage = Stage("distilled", dspy.BootstrapFinetune, aim="cheaper", margin=margin)
    found = list(cheaper(prepare(scripted.experiment(WEIGHTS, stage, dev=DEV), settings, lms)))
    assert [(one.severity, one.place) for one in found] == [("warning", "Stage 'distilled'")] * bool(told)
    assert all(told in one.sentence for one in found if told)
