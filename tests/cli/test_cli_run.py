import json
import re
import threading

import pytest

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def test_a_run_prints_a_line_a_stage_and_then_the_result(project):
    done = project.cascade("run", "letters", "--no-mlflow")
    assert done.code == 0
    first, about, baseline, begins, demos = done.err.splitlines()
    assert re.fullmatch(r"Run \d{8}-\d{6}-[0-9a-f]{4} of letters\.", first)
    assert about == "Does it learn letters?"
    assert re.fullmatch(r"0-baseline: dev 30\.0% \[\d+–\d+\], 30 LM calls, (\$0|–|\$0\.\d+), \d+s", baseline)
    assert begins == "1-demos: LabeledFewShot, at most 30 LM calls"
    assert demos.startswith("1-demos: dev 100.0% [")
    assert ", gain +70.0, better, kept new, 30 LM calls," in demos
    assert not CONTROL.search(done.err)
    assert done.out.startswith("Best: 1-demos, dev 30.0% → 100.0% (selected on dev).")
    assert "\nWhy:\n  1-demos  " in done.out
    assert f"\nJournal: {project.folder}/.cascade/runs/letters/" in done.out
    assert done.out.endswith("MLflow:  not logged (--no-mlflow)\n")


def test_json_is_the_only_thing_on_stdout(project):
    loud = "print('a file that prints')\nimport os\nos.system('echo a child that prints')\n"
    project.write("experiments/letters.py", (project.folder / "experiments/letters.py").read_text() + loud)
    done = project.cascade("run", "letters", "--no-mlflow", "--json")
    document = json.loads(done.out)
    assert done.code == 0
    assert document["best_stage"] == "1-demos"
    assert [stage["stage"] for stage in document["stages"]] == ["0-baseline", "1-demos"]
    assert "a file that prints\n" in done.err
    assert "a child that prints\n" in done.err


def test_the_second_run_is_answered_from_the_ledger_and_a_fresh_one_is_paid_again(project):
    project.cascade("run", "letters", "--no-mlflow")
    paid = len(project.engine.requests)
    again = project.cascade("run", "letters", "--no-mlflow")
    assert len(project.engine.requests) == paid
    assert "0 LM calls (+30 from the ledger)" in again.err
    project.cascade("run", "letters", "--no-mlflow", "--fresh")
    assert len(project.engine.requests) == 2 * paid


@pytest.mark.usefixtures("store")
def test_a_logged_run_says_where_it_is_shown(project):
    done = project.cascade("run", "letters")
    assert done.code == 0, done.err
    assert re.search(r"\nMLflow:  cascade ui, then /#/experiments/\d+/runs/[0-9a-f]{32}\?workflowType=", done.out)


def test_an_interrupted_run_exits_130_and_goes_on(project):
    def interrupting(_model, _inputs, _demos):
        if len(project.engine.requests) > 10:
            raise KeyboardInterrupt
        return {"answer": "1"}

    script, project.engine.answer = project.engine.answer, interrupting
    before = set(threading.enumerate())
    done = project.cascade("run", "letters", "--no-mlflow")
    assert (done.code, done.err.splitlines()[-1]) == (130, "cascade: interrupted; `cascade run NAME` goes on.")
    run = re.search(r"Run (\S+) of", done.err)[1]
    listed = json.loads(project.cascade("list", "--json").out)
    assert listed[0]["last_run"] | {"id": run, "status": "interrupted"} == listed[0]["last_run"]
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # a call that was under way ends with its process, which is this one
    project.engine.answer = script
    done = project.cascade("run", "letters", "--no-mlflow")
    assert done.code == 0
    assert re.match(rf"Going on with run {run}, interrupted at \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.\n", done.err)


def test_new_starts_over(project):
    project.cascade("run", "letters", "--no-mlflow")
    done = project.cascade("run", "letters", "--no-mlflow", "--new")
    assert done.err.startswith("Run ")
    assert len(list((project.folder / ".cascade/runs/letters").iterdir())) == 2


def test_list_shows_every_experiment_also_a_broken_one(project):
    project.write("experiments/broken.py", "import dspy\n1 / 0\n")
    project.write("experiments/quits.py", "raise SystemExit(3)\n")
    project.cascade("run", "letters", "--no-mlflow")
    done = project.cascade("list", "--json")
    broken, letters, quits = json.loads(done.out)
    assert done.code == 0
    assert "broken.py, line 2: ZeroDivisionError" in broken["error"]
    assert "calls exit(3)" in quits["error"]
    assert (letters["hypothesis"], letters["dataset"], letters["stages"]) == (
        "Does it learn letters?",
        "letters",
        ["demos"],
    )
    assert letters["last_run"]["status"] == "completed"
    assert letters["last_run"]["best_dev_score"] == 1
    shown = project.cascade("list").out
    assert "letters\n  asks      Does it learn letters?\n  dataset   letters\n  stages    demos\n  last run  2" in shown
    assert "best 1-demos with dev 100.0%, test 100.0% (proven)" in shown
    assert "broken\n  broken    " in shown


def test_list_of_nothing_says_where_it_looked(project):
    (project.folder / "experiments/letters.py").unlink()
    assert project.cascade("list").out.startswith("There is no experiment in ")
    assert json.loads(project.cascade("list", "--json").out) == []


def test_another_recipe_is_one_flag_away(project):
    done = project.cascade("run", "letters", "--no-mlflow", "--recipe", "small", "--json")
    assert done.code == 0
    assert [stage["stage"] for stage in json.loads(done.out)["stages"]] == ["0-baseline", "1-nearest", "2-weights"]
    foreseen = project.cascade("run", "letters", "--dry-run", "--recipe", "classic")
    assert "together" in foreseen.out
    refused = project.cascade("run", "letters", "--recipe", "large")
    assert (refused.code, refused.err) == (
        2,
        "cascade: There is no recipe 'large'. Found: classic, small, distil, prompts.\n",
    )
