"""Programs of several LMs, asked for by name: each predictor keeps its own, and each name is counted."""

import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

import cascade
from cascade import lm_named
from cascade.errors import SettingsError
from cascade.experiment import Budget, Stage
from cascade.journal import Journal
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.lms import LMs
from cascade.lm.meter import Meter
from cascade.metrics import metric
from cascade.mlflow_store import MlflowTracker, load_program
from cascade.program import Snapshot, restore, snapshot
from cascade.runner import execute
from cascade.settings import LMSpec, Settings
from cascade.testing import ScriptedEndpoint, ScriptedEngine, ScriptedLMs

NAMES = scripted.specs(local="scripted/base", cloud="scripted/far", judge="scripted/wise")


class Guarded(dspy.Module):
    """What leaves the house is written by a local LM and answered by one in the cloud; the last word is the task's."""

    def __init__(self) -> None:
        super().__init__()
        self.hide = dspy.Predict("question -> request")
        self.far = dspy.Predict("request -> reply")
        self.say = dspy.Predict("question, reply -> answer")
        self.hide.set_lm(lm_named("local"))
        self.far.set_lm(lm_named("cloud"))

    def forward(self, question: str) -> Any:
        request = self.hide(question=question).request
        return self.say(question=question, reply=self.far(request=request).reply)


OWN = {"hide": "local", "far": "cloud"}
STAGES = (
    *scripted.FOUR_STAGES[:2],
    Stage("search", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=2, max_bootstrapped_demos=1),
    Stage("copro", dspy.COPRO, breadth=2, depth=1),
)
pytestmark = pytest.mark.filterwarnings("ignore:.*imports 'scripted', a file of the project")


class Script:
    """Answers, and remembers which model was asked for which field."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.engine = ScriptedEngine(self._answer)
        self._lock = threading.Lock()

    def _answer(self, model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        field = "reply" if set(inputs) == {"request"} else "answer" if "reply" in inputs else "request"
        with self._lock:
            self.asked[model, field] += 1
        return {"request": inputs.get("question", ""), "reply": "far", **scripted.answer(model, inputs, demos)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Script, Path]:
    folder, script = tmp_path_factory.mktemp("named"), Script()
    defined = scripted.experiment(*STAGES, program=Guarded, plateau=scripted.PATIENT, train=20, dev=20, test=20)
    settings = scripted.settings_in(folder, lm=NAMES)
    from cascade.check import prepare

    made = prepare(defined, settings, ScriptedLMs(settings, script.engine, usd_a_token=1e-6))
    return execute(made), script, folder


def test_each_predictor_keeps_its_lm_through_every_stage(ran: Any) -> None:
    result, _, _ = ran
    assert [stage.status for stage in result.stages] == ["done"] * 5
    for stage in result.stages:
        assert stage.taken.lms == OWN, stage.name
        assert (stage.program.hide.lm.model, stage.program.far.lm.model) == ("scripted/base", "scripted/far")
        assert stage.program.say.lm is None


def test_each_question_goes_to_the_lm_of_its_predictor(ran: Any) -> None:
    _, script, _ = ran
    assert {model for model, field in script.asked if field == "reply"} == {"scripted/far"}
    assert {field for model, field in script.asked if model == "scripted/far"} == {"reply"}


def test_cost_is_counted_by_the_name_of_the_lm(ran: Any) -> None:
    result, script, _ = ran
    run = Journal(Path(result.journal)).run
    spent = run.spent_by_lm
    assert set(spent) == {"task", "local", "cloud", "prompt"}
    assert sum(one["lm_calls"] for one in spent.values()) == run.spent["lm_calls"] == len(script.engine.requests)
    assert spent["cloud"]["lm_calls"] == sum(
        count for (model, _), count in script.asked.items() if model == "scripted/far"
    )
    assert sum(one["cost_usd"] for one in spent.values()) == pytest.approx(run.spent["cost_usd"])


def test_names_stand_in_the_journal_and_its_reports(ran: Any) -> None:
    from cascade.report.document import run_document
    from cascade.report.markdown import run_markdown
    from cascade.report.reading import read

    result, _, _ = ran
    journal = Journal(Path(result.journal))
    assert journal.run.lms["cloud"] == journal.run.params["lm.cloud"] == "scripted/far"
    assert {tuple(sorted(record.lms.items())) for record in journal.stages()} == {tuple(sorted(OWN.items()))}
    rows = {row["what"]: row for row in run_document(read(journal))["spent_of"]}
    assert rows["LM cloud"]["lm_calls"] == journal.run.spent_by_lm["cloud"]["lm_calls"]
    assert "| of which LM cloud |" in run_markdown(read(journal))


def test_a_name_that_settings_do_not_give_is_the_default_and_is_recorded(tmp_path: Path) -> None:
    script = Script()
    made = scripted.prepared(scripted.experiment(program=Guarded, dev=20, test=20), tmp_path, script.engine)
    assert made.settings.describe().keys() >= {"local", "cloud"}
    assert made.lms.settings == made.settings
    journal = Journal(Path(execute(made).journal))
    assert set(journal.run.lms) >= {"local", "cloud"}
    assert set(journal.run.spent_by_lm) == {"task", "local", "cloud"}
    assert journal.stages()[0].lms == OWN


def test_a_loaded_program_binds_each_name_again(ran: Any, tmp_path: Path, empty_store: Path) -> None:
    result, _, _ = ran
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    source = tmp_path / "alone.py"
    source.write_text(ALONE)
    journal = Journal(Path(result.journal))
    (journal.folder / "source.py").write_text(ALONE)
    journal.update(factory={"name": "Guarded", "source": str(source)}, best_stage="1-instructions")
    MlflowTracker(uri).publish(journal)
    script = Script()
    today = Settings(tmp_path, tmp_path / "home", uri, lm=scripted.specs(default="scripted/new", cloud="scripted/far"))
    program = load_program("models:/x@challenger", today, lms=lambda made: ScriptedLMs(made, script.engine))
    program(question=f"asked in {tmp_path}")  # DSPy's own cache, which serves here, knows no other run's question
    assert script.asked == {
        ("scripted/base", "request"): 1,
        ("scripted/far", "reply"): 1,
        ("scripted/base", "answer"): 1,
    }
    assert program.module.far.lm is program.lms["cloud"]
    assert program.module.hide.lm is program.lms["local"]
    assert program.lms["local"] is not program.lms["task"]


ALONE = """import dspy

from cascade import lm_named


class Guarded(dspy.Module):
    def __init__(self):
        super().__init__()
        self.hide = dspy.Predict("question -> request")
        self.far = dspy.Predict("request -> reply")
        self.say = dspy.Predict("question, reply -> answer")
        self.hide.set_lm(lm_named("local"))
        self.far.set_lm(lm_named("cloud"))

    def forward(self, question):
        request = self.hide(question=question).request
        return self.say(question=question, reply=self.far(request=request).reply)
"""


def test_two_names_of_one_model_are_two_lms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers that know their model under the same name: what one is asked, the other never sees."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    with ScriptedEndpoint(lambda model, inputs, demos: {"answer": "near"}) as near, ScriptedEndpoint(lambda model, inputs, demos: {"answer": "far"}) as far:  # fmt: skip
        specs = {
            "local": LMSpec("openai/any", {"api_base": near.url}),
            "cloud": LMSpec("openai/any", {"api_base": far.url}),
        }
        lms = LMs(scripted.settings_in(tmp_path, lm=specs))
        program = Pair(lms["local"], lms["cloud"])
        taken = Snapshot(**json.loads(json.dumps(snapshot(program).to_json())))
        assert taken.lms == {"one": "local", "other": "cloud"}
        again = restore(lambda: Pair(None, None), taken, LMs(scripted.settings_in(tmp_path, lm=specs)).by_model)
        assert snapshot(again).digest == taken.digest
        with Ledger(tmp_path / "ledger.db") as ledger, installed(Gateway(ledger, Meter(Budget()), lms.identity)):
            assert [part(question="hi").answer for part in (again.one, again.other)] == ["near", "far"]


class Pair(dspy.Module):
    def __init__(self, one: Any, other: Any) -> None:
        super().__init__()
        self.one, self.other = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
        self.one.lm, self.other.lm = one, other


def test_weights_that_were_trained_from_a_named_lm_are_no_lm_of_that_name(tmp_path: Path) -> None:
    lms = ScriptedLMs(scripted.settings_in(tmp_path, lm=NAMES), Script().engine)
    trained = lms["cloud"].copy(model="scripted/trained-1")
    assert snapshot(Pair(trained, lms["cloud"])).lms == {"one": "scripted/trained-1", "other": "cloud"}


@metric
def asks_a_judge(example: Any, prediction: Any) -> bool:
    with dspy.context(lm=lm_named("judge")):
        dspy.Predict("question, answer -> verdict")(question=example.question, answer=prediction.answer)
    return bool(example.answer == prediction.answer)


def test_a_metric_asks_by_name_and_its_calls_are_apart(tmp_path: Path) -> None:
    def wise(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        return {"verdict": "fine"} if model == "scripted/wise" else scripted.answer(model, inputs, demos)

    engine = ScriptedEngine(wise)
    demos = Stage("demos", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=2, max_bootstrapped_demos=1)
    defined = scripted.experiment(demos, metric=asks_a_judge, train=20, dev=20, test=20)
    result = execute(scripted.prepared(defined, tmp_path, engine, lm=NAMES))
    journal = Journal(Path(result.journal))
    run = journal.run
    assert run.spent_by_lm["judge"]["lm_calls"] == run.spent["judge_lm_calls"] == result.spent.judge_lm_calls > 50
    assert journal.stages()[0].metrics["judge_lm_calls"] == 20
    assert 0 < journal.stages()[1].metrics["judge_lm_calls"] < journal.stages()[1].metrics["lm_calls"]
    assert all(stage.serving["lm_calls"] == 1 for stage in journal.stages())
    assert result.baseline.dev.outcomes[0].judge.lm_calls == 1
    rows = dict(ledger_roles(tmp_path))
    assert rows["judge"] == run.spent["judge_lm_calls"]


def ledger_roles(folder: Path) -> list[tuple[str, int]]:
    import sqlite3

    with sqlite3.connect(folder / ".cascade/ledger.db") as ledger:
        return ledger.execute("SELECT role, count(*) FROM calls GROUP BY role").fetchall()


def test_outside_of_a_run_names_are_those_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    (tmp_path / "pyproject.toml").write_text('[tool.cascade.lm]\ncloud = {model = "openai/far", temperature = 0.5}\n')
    assert (lm_named("cloud").model, lm_named("cloud").kwargs["temperature"]) == ("openai/far", 0.5)
    assert lm_named("cloud") is lm_named("cloud")
    (tmp_path / "pyproject.toml").write_text('[tool.cascade.lm]\ncloud = "nowhere/far"\n')
    with pytest.raises(SettingsError, match="LM 'cloud': 'nowhere/far' names no provider"):
        lm_named("cloud")
    assert cascade.lm_named is lm_named
    assert "cascade.lm" in sys.modules
