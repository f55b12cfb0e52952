"""The loop on a scripted language model, from the baseline to the look at test."""

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.teleprompt.teleprompt import Teleprompter

from cascade.errors import CascadeError, EvaluationFailed
from cascade.experiment import Plateau, Stage
from cascade.journal import STAGE_FILES, Journal
from cascade.program import restore
from cascade.result import Result
from cascade.testing import ScriptedEngine, ScriptedLMs


class Fails(Teleprompter):
    def compile(self, student: Any, *, trainset: Any) -> Any:
        raise ValueError("no luck today")


class Idles(Teleprompter):
    def compile(self, student: Any, *, trainset: Any) -> Any:
        return student


class Instructs(Teleprompter):
    def __init__(self, text: str = "Other words.") -> None:
        super().__init__()
        self.text = text

    def compile(self, student: Any, *, trainset: Any) -> Any:
        student.ask.signature = student.ask.signature.with_instructions(self.text)
        return student


class Trained(Teleprompter):
    """Puts a model to work that answers better."""

    def compile(self, student: Any, *, trainset: Any) -> Any:
        student.ask.lm = student.ask.lm.copy(model="scripted/trained-x")
        return student


class Done:
    """The four-stage cascade, run twice in one project."""

    def __init__(self, folder: Path) -> None:
        self.engine = ScriptedEngine(scripted.answer)
        self.folder = folder
        self.defined = scripted.experiment(*scripted.FOUR_STAGES, plateau=scripted.PATIENT)
        self.first: Result = scripted.run(self.defined, folder, self.engine)
        self.asked = len(self.engine.requests)
        self.second: Result = scripted.run(self.defined, folder, self.engine)
        self.journal = Journal(Path(self.first.journal))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(tmp_path_factory.mktemp("cascade"))


FOLDERS = ["0-baseline", "1-instructions", "2-demos", "3-together", "4-weights"]


def test_the_journal_holds_every_stage(done: Done) -> None:
    records = done.journal.stages()
    assert [record.folder for record in records] == FOLDERS
    assert [record.status for record in records] == ["done"] * 5
    assert [record.lever for record in records] == ["none", "prompt", "prompt", "both", "weights"]
    assert [record.params["optimizer"] for record in records] == [
        "none",
        "MIPROv2",
        "BootstrapFewShot",
        "BetterTogether",
        "BootstrapFinetune",
    ]
    for record in records:
        present = {path.name for path in (done.journal.folder / record.folder).iterdir()}
        expected = (
            {"record.json", *STAGE_FILES, "optimizer.log"} if record.number else {"record.json", *STAGE_FILES[:4]}
        )
        if record.verdict == "unchanged":
            expected -= present ^ expected  # the incumbent's program and examples stand with the stage that made it
        assert present == expected


def test_records_and_results_agree(done: Done) -> None:
    for record, result in zip(done.journal.stages(), done.first.stages, strict=True):
        assert record.folder == result.name
        assert record.metrics["lm_calls"] == result.spent.lm_calls
        if result.decision:
            assert (record.verdict, record.kept, record.next) == (
                str(result.decision.verdict),
                str(result.decision.kept),
                str(result.decision.next),
            )
            assert record.reason == result.decision.reason
            decision = json.loads((done.journal.folder / record.folder / "decision.json").read_text())
            assert decision["reason"] == record.reason
        if record.verdict != "unchanged":
            assert result.dev and result.interval
            assert record.metrics["dev_score"] == result.dev.mean
            assert (record.metrics["dev_ci_low"], record.metrics["dev_ci_high"]) == (
                result.interval.low,
                result.interval.high,
            )


def test_what_is_spent_adds_up(done: Done) -> None:
    run = done.journal.run
    assert run.spent["lm_calls"] == done.first.spent.lm_calls == done.asked
    assert sum(spent["lm_calls"] for spent in run.spent_by_stage.values()) == done.asked
    assert set(run.spent_by_stage) == {*FOLDERS, "test"}
    assert run.spent_by_stage["0-baseline"]["lm_calls"] == 40
    assert 40 <= run.spent_by_stage["test"]["lm_calls"] <= 80


def test_the_scores_are_those_of_the_saved_programs(done: Done) -> None:
    """Rebuilt from the journal alone, each program answers dev with the score that was written down."""
    lms = ScriptedLMs(scripted.settings_in(done.folder), ScriptedEngine(scripted.answer))
    for record, result in zip(done.journal.stages(), done.first.stages, strict=True):
        if record.verdict == "unchanged":
            continue
        state = json.loads((done.journal.folder / record.folder / "program.json").read_text())
        assert result.taken and result.dev
        program = restore(scripted.Asks, dataclasses.replace(result.taken, state=state, lms=record.lms), lms.by_model)
        with dspy.context(lm=lms["task"], adapter=lms.adapter):
            right = [program(question=row["question"]).answer == row["answer"] for row in result.dev.split.rows]
        assert sum(right) / 40 == record.metrics["dev_score"]


def test_the_result(done: Done) -> None:
    result, run = done.first, done.journal.run
    assert (result.status, run.status, result.run_id) == ("completed", "completed", run.id)
    assert result.baseline is result.stages[0]
    assert len(result.decisions) == 4
    assert result.best.name == run.best_stage != "0-baseline"
    assert result.best.dev and result.baseline.dev
    assert result.best.dev.mean == max(stage.dev.mean for stage in result.stages if stage.dev)
    assert result.test is not None
    assert run.metrics["test_score"] == result.test.best.mean
    assert run.metrics["baseline_test_score"] == result.test.baseline.mean
    assert run.metrics["test_gain"] == pytest.approx(result.test.best.mean - result.test.baseline.mean)
    assert run.proven is result.test.proven is (run.metrics["test_gain_ci_low"] > 0)
    assert "selected on dev" in result.summary
    assert run.ended is not None
    assert run.ended >= run.started
    best = next(record for record in done.journal.stages() if record.folder == result.best.name)
    assert best.test_metrics["test_score"] == result.test.best.mean
    assert json.loads((done.journal.folder / "decisions.json").read_text())[0]["stage"] == "1-instructions"
    json.dumps(result.to_json())
    assert result.to_json()["best_stage"] == result.best.name


def test_the_result_as_a_frame(done: Done) -> None:
    frame = done.first.to_frame()
    assert list(frame["stage"]) == FOLDERS
    assert {
        "dev_score",
        "dev_ci_low",
        "dev_ci_high",
        "gain",
        "verdict",
        "kept",
        "next",
        "reason",
        "lm_calls",
        "seconds",
    } <= set(frame)
    assert frame["lm_calls"].sum() + done.journal.run.spent_by_stage["test"]["lm_calls"] == done.asked


def test_the_same_experiment_again_is_a_new_run_that_costs_nothing(done: Done) -> None:
    assert done.second.run_id != done.first.run_id
    assert done.second.spent.lm_calls == 0
    assert done.second.spent.lm_calls_cached >= done.asked
    assert len(done.engine.requests) == done.asked
    assert done.first.best.taken and done.second.best.taken
    assert done.second.best.taken.digest == done.first.best.taken.digest
    assert [d.reason for d in done.second.decisions] == [d.reason for d in done.first.decisions]


def test_looks_at_test_are_counted(done: Done) -> None:
    assert done.first.test and done.second.test
    assert (done.first.test.looks, done.second.test.looks) == (1, 2)
    assert Journal(Path(done.second.journal)).run.test["looks"] == 2
    assert "look 2 at this test split" in done.second.summary
    assert "look" not in done.first.summary


def test_fresh_pays_again(tmp_path: Path) -> None:
    engine, defined = ScriptedEngine(scripted.answer), scripted.experiment()
    scripted.run(defined, tmp_path, engine)
    assert scripted.run(defined, tmp_path, engine, fresh=True).spent.lm_calls == 80
    assert len(engine.requests) == 160


def test_without_stages_the_baseline_is_judged(tmp_path: Path) -> None:
    result = scripted.run(scripted.experiment(), tmp_path, ScriptedEngine(scripted.answer))
    assert (result.status, result.best.name, result.spent.lm_calls) == ("completed", "0-baseline", 80)
    assert result.test is not None
    assert result.test.comparison.gain == 0
    assert not result.test.proven


def test_a_failing_optimizer_is_a_failed_stage_and_the_cascade_goes_on(tmp_path: Path) -> None:
    stages = (Stage("broken", Fails, lever="prompt"), Stage("weights", dspy.BootstrapFinetune))
    result = scripted.run(scripted.experiment(*stages), tmp_path, ScriptedEngine(scripted.answer))
    broken, weights = result.stages[1:]
    assert (broken.status, broken.program, broken.dev) == ("failed", None, None)
    assert "ValueError: no luck today" in broken.error
    assert broken.decision
    assert broken.decision.verdict is None
    assert "Stage 'broken'" in broken.decision.reason
    assert (weights.status, result.status) == ("done", "completed")
    record = Journal(Path(result.journal)).stages()[1]
    assert (record.status, record.verdict) == ("failed", "")
    assert "no luck today" in record.reason


@pytest.mark.parametrize(
    ("on_plateau", "statuses", "status"),
    [
        ("escalate", ["done", "done", "skipped", "skipped", "done"], "completed"),
        ("stop", ["done", "done", "skipped", "skipped", "skipped"], "plateau"),
    ],
)
def test_at_a_plateau_the_rest_of_the_lever_is_skipped(
    tmp_path: Path, on_plateau: Any, statuses: list[str], status: str
) -> None:
    stages = [Stage(f"idle {n}", Idles, lever="prompt") for n in range(3)] + [Stage("weights", dspy.BootstrapFinetune)]
    plateau = Plateau(patience=1, on_plateau=on_plateau)
    result = scripted.run(scripted.experiment(*stages, plateau=plateau), tmp_path, ScriptedEngine(scripted.answer))
    assert [stage.status for stage in result.stages] == statuses
    assert result.status == status
    records = Journal(Path(result.journal)).stages()
    assert [record.status for record in records] == statuses
    skipped = records[2]
    assert (skipped.folder, skipped.kept, skipped.metrics.get("lm_calls")) == ("2-idle 1", "", 0)
    assert skipped.reason


def test_the_same_program_is_unchanged_and_not_evaluated_again(tmp_path: Path) -> None:
    engine = ScriptedEngine(scripted.answer)
    result = scripted.run(scripted.experiment(Stage("idle", Idles, lever="prompt")), tmp_path, engine)
    assert result.stages[1].decision
    assert (str(result.stages[1].decision.verdict), result.best.name) == ("unchanged", "0-baseline")
    assert len(engine.requests) == 80


def test_the_anchor_moves_with_better_and_the_cascade_starts_the_next_stage_from_the_best(tmp_path: Path) -> None:
    stages = (
        Stage("trained", Trained, lever="weights"),
        Stage("words", Instructs, lever="prompt", text="more words " * 9),
    )
    result = scripted.run(
        scripted.experiment(*stages, plateau=scripted.PATIENT), tmp_path, ScriptedEngine(scripted.answer)
    )
    trained, words = result.stages[1:]
    assert trained.decision and words.decision and words.taken
    assert (str(trained.decision.verdict), str(trained.decision.kept)) == ("better", "new")
    assert words.taken.lms == {"ask": "scripted/trained-x"}
    assert words.decision.gain == 0
    assert str(words.decision.kept) == "incumbent"
    assert result.best is trained


def test_a_tie_goes_to_the_program_that_is_cheaper_to_serve(tmp_path: Path) -> None:
    stages = (
        Stage("long", Instructs, lever="prompt", text="more words " * 9),
        Stage("short", Instructs, lever="prompt", text="Go."),
    )
    result = scripted.run(
        scripted.experiment(*stages, plateau=scripted.PATIENT), tmp_path, ScriptedEngine(scripted.answer)
    )
    assert [str(decision.kept) for decision in result.decisions] == ["incumbent", "new"]
    assert result.best.name == "2-short"


def test_the_best_program_can_be_called_when_the_run_is_over(done: Done) -> None:
    question = "dev 3"
    assert done.first.program(question=question).answer in scripted.LABELS
    assert done.first.program.module is done.first.best.program
    none_trained = scripted.run(scripted.experiment(), done.folder, done.engine)
    assert none_trained.program(question=question).answer in scripted.LABELS


def test_a_baseline_that_reaches_the_target_is_all_that_is_paid_for(tmp_path: Path) -> None:
    engine = ScriptedEngine(scripted.answer)
    stages = (Stage("words", Instructs, lever="prompt"), Stage("trained", Trained, lever="weights"))
    result = scripted.run(scripted.experiment(*stages, target=0.2), tmp_path, engine)
    assert [stage.status for stage in result.stages] == ["done", "skipped", "skipped"]
    assert (result.status, result.best.name, len(engine.requests)) == ("target", "0-baseline", 80)
    assert result.stages[1].error == "skipped: the baseline's 50.0% on dev reaches the target of 20.0%."
    assert Journal(Path(result.journal)).run.status == "target"


def test_the_target_stops(tmp_path: Path) -> None:
    stages = (Stage("trained", Trained, lever="weights"), Stage("words", Instructs, lever="prompt"))
    result = scripted.run(scripted.experiment(*stages, target=0.6), tmp_path, ScriptedEngine(scripted.answer))
    assert (result.status, result.stages[2].status) == ("target", "skipped")
    assert Journal(Path(result.journal)).run.status == "target"
    assert result.decisions[-1].status == "target"


def test_a_baseline_that_cannot_be_judged_fails_the_run(tmp_path: Path) -> None:
    def down(model: str, inputs: Any, demos: int) -> Any:
        raise ConnectionError("the model is down")

    with pytest.raises(EvaluationFailed, match=r"examples of 'dev' failed.*the model is down"):
        scripted.run(scripted.experiment(), tmp_path, ScriptedEngine(down))
    run = _only_run(tmp_path)
    assert run.status == "failed"
    assert run.ended


def _only_run(folder: Path) -> Any:
    (path,) = (folder / ".cascade" / "runs" / "x").iterdir()
    return Journal(path).run


def test_the_same_experiment_cannot_run_twice_at_once(tmp_path: Path) -> None:
    refused: list[str] = []
    defined, lock = scripted.experiment(), threading.Lock()

    def answer(model: str, inputs: Any, demos: int) -> Any:
        with lock:
            if not refused:
                with pytest.raises(CascadeError) as caught:
                    scripted.run(defined, tmp_path, ScriptedEngine(scripted.answer))
                refused.append(str(caught.value))
        return scripted.answer(model, inputs, demos)

    result = scripted.run(defined, tmp_path, ScriptedEngine(answer))
    assert refused == ["Experiment 'x' is running already. Wait for it, or end it."]
    assert result.status == "completed"
    assert len(list((tmp_path / ".cascade" / "runs" / "x").iterdir())) == 1
    other = dataclasses.replace(defined, name="y")
    assert scripted.run(other, tmp_path, ScriptedEngine(scripted.answer)).spent.lm_calls == 0


def test_dspy_s_settings_are_the_user_s_again(tmp_path: Path) -> None:
    before = (dspy.settings.lm, dspy.settings.adapter, dspy.settings.num_threads, dspy.cache)
    scripted.run(scripted.experiment(), tmp_path, ScriptedEngine(scripted.answer))
    assert (dspy.settings.lm, dspy.settings.adapter, dspy.settings.num_threads, dspy.cache) == before


def test_grouped_data_is_compared_by_group(tmp_path: Path) -> None:
    defined = scripted.experiment(Stage("trained", Trained, lever="weights"), dev=60, test=60)
    grouped = {
        name: [{**row, "who": f"{name} {number // 3}"} for number, row in enumerate(scripted.rows(name, 60))]
        for name in ("train", "dev", "test")
    }
    data = dataclasses.replace(defined.dataset, **grouped, group="who")
    result = scripted.run(dataclasses.replace(defined, dataset=data), tmp_path, ScriptedEngine(scripted.answer))
    assert result.decisions[0].n == 60
    alone = scripted.run(dataclasses.replace(defined, name="alone"), tmp_path, ScriptedEngine(scripted.answer))
    assert alone.decisions[0].gain == result.decisions[0].gain
    assert alone.decisions[0].interval != result.decisions[0].interval
