"""Promote, roll back, history: on a scripted model and a real MLflow database."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from letters import EXPERIMENT
from promoting_child import learns

import cascade
from cascade.mlflow_store.store import connect
from cascade.mlflow_store.versions import Versions
from cascade.production.promoting import PromotionLog, standing
from cascade.production.promoting.registrar import registrar
from cascade.settings import load_settings
from cascade.testing import ScriptedEngine

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def learning(project: Project) -> Project:
    project.engine = ScriptedEngine(learns)
    return project


def demos(project: Project, k: int) -> None:
    """Run the experiment with `k` demos."""
    project.write("experiments/letters.py", EXPERIMENT.replace("k=4", f"k={k}"))
    done = project.cascade("run", "letters")
    assert done.code == 0, done.err


def versions(project: Project) -> Versions:
    return Versions(connect(f"sqlite:///{project.folder / 'mlflow.db'}"), "letters")


def log(project: Project) -> list[Any]:
    return PromotionLog.of(project.folder / ".cascade", "letters").entries()


def test_the_first_is_judged_against_the_baseline_and_costs_no_call(learning: Project) -> None:
    demos(learning, 2)
    before = len(learning.engine.requests)
    done = learning.cascade("promote", "letters", "--note", "first")
    assert (done.code, len(learning.engine.requests) - before) == (0, 0), done.err
    assert "Version 1 of letters serves. Test 10.0% → 50.0%, +40.0 points" in done.out
    assert versions(learning).aliases() == {"champion": "1"}
    tags = versions(learning).numbered("1").tags
    assert tags["cascade.test_gain"] == "0.4" and tags["cascade.promoted_why"].startswith("Test 10.0%")
    judged, promoted = log(learning)
    assert (judged.event, judged.granted, judged.attempt, len(judged.rows)) == ("judged", True, 1, 30)
    assert (promoted.event, promoted.note, promoted.reference) == ("promoted", "first", "")


def test_refused_with_3_and_the_sentence_why(learning: Project) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    demos(learning, 3)
    done = learning.cascade("promote", "letters", "--json")
    assert done.code == 3 and not done.out
    assert "Version 2 is not promoted. Test 50.0% → 70.0%" in done.err
    assert "(look 2 at this test)" in done.err
    assert versions(learning).aliases() == {"champion": "1", "challenger": "2"}
    assert [(entry.event, entry.granted, entry.attempt) for entry in log(learning)][-1] == ("judged", False, 2)
    again = learning.cascade("promote", "letters")
    assert again.code == 3 and "(look 2 at this test)" in again.err  # the same look spends nothing


def test_forced_is_logged_as_what_it_is(learning: Project) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    demos(learning, 3)
    done = learning.cascade("promote", "letters", "--force", "--json")
    told = json.loads(done.out)
    assert (done.code, told["version"], told["forced"], told["reference"]) == (0, "2", True, "1")
    assert told["reason"].startswith("Forced. Test 50.0%")
    assert versions(learning).aliases() == {"champion": "2", "previous": "1"}


def test_roll_back_rejects_and_it_is_not_proposed_again(learning: Project) -> None:
    demos(learning, 1)
    learning.cascade("promote", "letters")
    demos(learning, 4)
    assert learning.cascade("promote", "letters").code == 0
    done = learning.cascade("rollback", "letters", "--note", "too loud")
    assert done.code == 0 and "Version 2 was taken out of service and rejected; version 1 serves again." in done.out
    assert versions(learning).aliases() == {"champion": "1"}
    assert versions(learning).numbered("2").rejected
    learning.write("experiments/letters.py", EXPERIMENT.replace("Does", "Does and does"))
    demos_again = learning.cascade("run", "letters", "--new")
    assert demos_again.code == 0
    assert "challenger" not in versions(learning).aliases()
    refused = learning.cascade("promote", "letters", "--version", "3")
    assert refused.code == 3 and "is the program of version 2, which was rolled back" in refused.err
    nothing = learning.cascade("rollback", "letters")
    assert nothing.code == 3 and "there is nothing to go back to" in nothing.err
    history = learning.cascade("show", "letters", "--history")
    assert history.code == 0
    for words in ("rolled back to", "too loud", "granted: Test", "now"):
        assert words in history.out
    assert "serves    version 1" in learning.cascade("list").out


def test_back_to_a_named_version(learning: Project) -> None:
    for k in (1, 2, 4):
        demos(learning, k)
        assert learning.cascade("promote", "letters", "--force").code == 0
    assert versions(learning).aliases() == {"champion": "3", "previous": "2"}
    assert learning.cascade("rollback", "letters", "--to", "1").code == 0
    assert versions(learning).aliases() == {"champion": "1", "previous": "2"}
    demos(learning, 3)
    never = learning.cascade("rollback", "letters", "--to", "4")
    assert never.code == 3 and "never served" in never.err and "`cascade promote letters --version 4`" in never.err
    missing = learning.cascade("rollback", "letters", "--to", "9")
    assert missing.code == 1 and "has no version '9'" in missing.err


def test_nothing_to_promote(learning: Project) -> None:
    done = learning.cascade("promote", "letters")
    assert done.code == 3 and "Nothing is proposed for 'letters'" in done.err
    done = learning.cascade("rollback", "letters")
    assert done.code == 3 and "Nothing serves" in done.err
    demos(learning, 2)
    learning.cascade("promote", "letters")
    done = learning.cascade("promote", "letters", "--version", "1")
    assert done.code == 3 and "serves already" in done.err
    done = learning.cascade("promote", "letters", "--run", "nonesuch")
    assert done.code == 3 and "No run 'nonesuch'" in done.err


def test_a_champion_set_by_hand_is_adopted_and_never_undone(learning: Project) -> None:
    for k in (1, 2):
        demos(learning, k)
        learning.cascade("promote", "letters", "--force")
    versions(learning).point("champion", "1")
    done = learning.cascade("promote", "letters")
    assert "somebody made version 1 the champion of 'letters' in MLflow, past the gate" in done.err
    assert versions(learning).aliases()["champion"] == "1"
    assert [entry.event for entry in log(learning)][-1] == "adopted"


@pytest.mark.parametrize("lost", ["log", "aliases"])
def test_what_died_in_between_is_finished(learning: Project, lost: str) -> None:
    """A process that wrote the log and not MLflow, and a machine that has MLflow and not the log."""
    for k in (1, 4):
        demos(learning, k)
        learning.cascade("promote", "letters")
    known = versions(learning)
    if lost == "log":
        (learning.folder / ".cascade/production/letters/promotions.jsonl").unlink()
    else:
        known.point("champion", "1")
        known.point("previous", "")
        known.tag("2", {"cascade.moved": ""})
    assert learning.cascade("promote", "letters").code == 3
    assert versions(learning).aliases() == {"champion": "2", "previous": "1"}
    assert [entry.event for entry in log(learning)] == ["judged", "promoted", "judged", "promoted"]
    assert standing(log(learning)).champion == "2"


def test_new_test_rows_score_both_anew(learning: Project) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    demos(learning, 4)
    more_test_rows(learning)
    before = len(learning.engine.requests)
    done = learning.cascade("promote", "letters")
    assert done.code == 0, done.err
    assert len(learning.engine.requests) - before == 2 * 20
    assert log(learning)[-2].attempt == 2


@pytest.mark.timeout(600)  # thirty seconds, but for a machine that has much else to do
@pytest.mark.slow
def test_twenty_at_once_from_four_processes(learning: Project) -> None:
    """Whoever comes first: each of the moves stands in the log once, in order, and aliases say what the log says."""
    for k in (1, 2, 3, 4):
        demos(learning, k)
    child = Path(__file__).with_name("promoting_child.py")
    paths = [str(Path(cascade.__file__).parents[1]), str(child.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MLFLOW_TRACKING_URI": ""}
    children = [
        subprocess.Popen(
            [sys.executable, str(child), str(learning.folder), str(seed), "5"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(4)
    ]  # fmt: skip
    said = [process.communicate(timeout=580) for process in children]
    assert [process.returncode for process in children] == [0] * 4, said
    done = [line.split() for out, _ in said for line in out.splitlines() if line.split()[0] in ("promote", "rollback")]
    assert len(done) == 20
    entries, now = log(learning), standing(log(learning))
    moved = [entry for entry in entries if entry.event in ("promoted", "rolled_back")]
    assert len(moved) == sum(code == "0" for _, code in done) > 1
    assert [entry.event for entry in entries].count("adopted") == 0
    before = ""
    for entry in moved:  # nobody decided on a champion that was gone
        assert entry.reference == before
        before = entry.version
    aliases = versions(learning).aliases()
    assert aliases["champion"] == now.champion == before
    assert aliases.get("previous", "") == now.previous
    assert {one.number for one in versions(learning).all() if one.rejected} == now.rejected


def more_test_rows(project: Project) -> None:
    """What makes a look ask the model again."""
    path = project.folder / "datasets/letters/test.jsonl"
    more = [{"question": f"more {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(20)]
    path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in more))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("back", [["1"], ["1", "2"]])
def test_a_rollback_does_not_wait_for_a_look_at_test(learning: Project, back: list[str]) -> None:
    """Nor is anything promoted over what came meanwhile: here version 2 is taken back, and maybe put there again."""
    for k in (1, 2):
        demos(learning, k)
        assert learning.cascade("promote", "letters", "--force").code == 0
    demos(learning, 4)
    more_test_rows(learning)
    settings, asked = load_settings(), threading.Lock()

    def hurried(model: str, inputs: Any, shown: int) -> Any:
        if asked.acquire(blocking=False):  # the first question of the look, once
            for number in back:
                with registrar(settings, "letters") as desk:
                    desk.take_into_service(desk.versions.numbered(number), "in a hurry", forced=True)
        return learns(model, inputs, shown)

    learning.engine = ScriptedEngine(hurried)
    done = learning.cascade("promote", "letters")
    assert done.code == 3, done.err
    assert f"What serves changed while version 3 was judged: version {back[-1]} serves now. Ask again" in done.err
    assert [entry.event for entry in log(learning)][-len(back) :] == ["promoted"] * len(back)
    assert versions(learning).aliases()["champion"] == back[-1]
    before = len(learning.engine.requests)
    assert learning.cascade("promote", "letters").code == 0
    assert len(learning.engine.requests) - before == (
        20 if back[-1] == "1" else 0
    )  # of the version it was not judged by


def test_a_champion_that_is_not_in_mlflow_is_one_line_until_somebody_chooses(learning: Project) -> None:
    for k in (1, 4):
        demos(learning, k)
        assert learning.cascade("promote", "letters").code == 0
    known, entries = versions(learning), log(learning)
    known.client.delete_model_version("letters", "2")
    for words in (("promote", "letters"), ("rollback", "letters")):
        done = learning.cascade(*words)
        assert done.code == 1 and done.err.count("\n") < 3
        assert "Version 2 of 'letters' serves by the promotion log and is not in MLflow at sqlite:///" in done.err
        assert "give the alias 'champion' to the one that shall serve" in done.err
    assert log(learning) == entries
    known.point("champion", "1")
    demos(learning, 3)
    assert learning.cascade("promote", "letters").code == 0
    assert [entry.event for entry in log(learning)][4:] == ["adopted", "judged", "promoted"]
    assert versions(learning).aliases() == {"champion": "3", "previous": "1"}


def test_the_wrong_store_is_told_and_sent_nothing(
    learning: Project, monkeypatch: pytest.MonkeyPatch, empty_store: Path
) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    entries, other = log(learning), f"sqlite:///{shutil.copy(empty_store, learning.folder / 'other.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    done = learning.cascade("rollback", "letters")
    assert done.code == 1 and "Name the right store in MLFLOW_TRACKING_URI" in done.err
    found = connect(other).get_experiment_by_name("letters")
    assert found is None or not connect(other).search_runs([found.experiment_id])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert learning.cascade("promote", "letters", "--version", "1").code == 3
    assert log(learning) == entries


def test_mlflow_down_is_one_line_and_changes_nothing(learning: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    demos(learning, 2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = learning.cascade("promote", "letters")
    assert done.code == 1 and "could not be used: no server answers there" in done.err and done.err.count("\n") < 3
    assert log(learning) == []


def test_each_entry_is_a_run_of_mlflow(learning: Project) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    client = connect(f"sqlite:///{learning.folder / 'mlflow.db'}")
    runs = client.search_runs(
        [client.get_experiment_by_name("letters").experiment_id], "tags.`cascade.kind` = 'promotion'"
    )
    assert sorted(run.data.tags["cascade.event"] for run in runs) == ["judged", "promoted"]
    judged = next(run for run in runs if run.data.tags["cascade.event"] == "judged")
    assert judged.data.metrics["test_gain"] == 0.4
    assert judged.data.metrics["test_score"] == 0.5
    path = Path(client.download_artifacts(judged.info.run_id, "promotion.json"))
    assert json.loads(path.read_text())["granted"] is True


@pytest.mark.parametrize("uri", ["@champion", "/1"])
def test_a_run_that_finds_nothing_better_than_the_champion_makes_no_version(learning: Project, uri: str) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    learning.write("experiments/letters.py", EXPERIMENT.replace("k=4", "k=1").replace("Does", "Why does"))
    done = learning.cascade("run", "letters", "--from", f"models:/letters{uri}", "--json")
    assert done.code == 0 and json.loads(done.out)["best_stage"] == "1-start", done.err
    assert [version.number for version in versions(learning).all()] == ["1"]
    assert versions(learning).aliases() == {"champion": "1"}
    run = json.loads(done.out)["run"]
    learning.write("experiments/letters.py", EXPERIMENT.replace("k=4)]", 'k=2)], start="models:/letters@champion"'))
    gate = learning.cascade("gate", "letters", "--run", run)
    assert gate.code == 0 and "there is nothing to judge" in gate.out, gate.err
    promote = learning.cascade("promote", "letters", "--run", run)
    assert promote.code == 3 and "Version 1 of 'letters' serves already." in promote.err


def test_a_start_that_does_not_serve_is_proposed(learning: Project) -> None:
    demos(learning, 2)
    done = learning.cascade("run", "letters", "--from", "models:/letters/1", "--json")
    assert json.loads(done.out)["best_stage"] == "1-start"
    assert versions(learning).aliases() == {"challenger": "2"}


def test_the_gate_judges_and_promotes_nothing(learning: Project) -> None:
    demos(learning, 2)
    learning.cascade("promote", "letters")
    demos(learning, 4)
    xml, told = learning.folder / "gate.xml", learning.folder / "summary.md"
    done = learning.cascade("gate", "letters", "--junit", str(xml), "--summary", str(told))
    assert done.code == 0, done.err
    assert done.out.startswith("passed  score: Test 50.0% → 90.0%")
    assert versions(learning).aliases() == {"champion": "1", "challenger": "2"}
    assert 'failures="0"' in xml.read_text() and "`letters`: version 2 against version 1" in told.read_text()
    assert log(learning)[-1].event == "judged"
    dear = learning.cascade("gate", "letters", "--max-cost", "1", "--json")
    assert dear.code == 3 and json.loads(dear.out)["checks"][1]["passed"] is False
    assert "does not pass the gate: max-cost." in dear.err
    assert {entry.attempt for entry in log(learning)} - {0} == {1, 2}  # asked twice, and it was one look
    learning.cascade("promote", "letters")
    same = learning.cascade("gate", "letters", "--version", "2")
    assert same.code == 0 and "there is nothing to judge" in same.out
