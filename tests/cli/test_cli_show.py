"""`cascade show` and `cascade compare` over runs of a scripted model."""

import json
import re
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


def normal(text: str, folder: Path) -> str:
    """Ids, times, paths and hashes as what they are."""
    text = text.replace(str(folder), "PROJECT")
    for pattern, word in (
        (r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN"), (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "MOMENT"), (r"\b\d+s\b", "TIME"), (r"\b\d+\.\d\d s\b", "LATENCY"), (r"\b[0-9a-f]{12}\b", "HASH"),
    ):  # fmt: skip
        text = re.sub(pattern, word, text)
    return re.sub(r" {2,}", "  ", text)


def ran(project) -> str:
    done = project.cascade("run", "letters", "--no-mlflow")
    assert done.code == 0, done.err
    return re.search(r"Run (\S+) of", done.err)[1]


def changed(project) -> None:
    """Another definition: fewer demos and one stage more."""
    path = project.folder / "experiments/letters.py"
    stage = 'Stage("demos", dspy.LabeledFewShot, k=4)'
    path.write_text(path.read_text().replace(stage, f'{stage}, Stage("fewer", dspy.LabeledFewShot, k=2)'))


@pytest.mark.parametrize("command", ["show", "compare"])
def test_what_is_printed(project, command, request):
    ran(project)
    changed(project)
    ran(project)
    done = project.cascade(command, "letters")
    assert (done.code, done.err) == (0, "")
    told = normal(done.out, project.folder)
    golden = GOLDEN / f"{command}-letters.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(told, "utf-8")
    assert told == golden.read_text("utf-8")


def test_a_run_says_where_its_report_is(project):
    done = project.cascade("run", "letters", "--no-mlflow")
    path = re.search(r"\nReport:  (\S+)\n", done.out)[1]
    assert "proven on test" in Path(path).read_text("utf-8")


@pytest.mark.usefixtures("store")
def test_mlflow_gets_the_report_and_no_score_of_a_test_example(project):
    from mlflow import MlflowClient

    assert project.cascade("run", "letters").code == 0
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("letters").experiment_id])
    sent = {artifact.path for run in runs for artifact in client.list_artifacts(run.info.run_id)}
    assert "report.html" in sent
    assert not {"test.json", "groups.json"} & sent


def test_show_finds_a_run_by_its_id(project):
    first, second = ran(project), ran(project)
    assert project.cascade("show", "letters").out.startswith(f"Run {second} of letters, begun ")
    assert project.cascade("show", "letters", "--run", first[-4:]).out.startswith(f"Run {first} of letters, begun ")
    done = project.cascade("show", "letters", "--run", "nope")
    assert (done.code, done.out) == (2, "")
    assert done.err == f"cascade: Experiment 'letters' has no run 'nope'. Give one of: {second}, {first}.\n"


def test_forms(project, tmp_path):
    run = ran(project)
    told = json.loads(project.cascade("show", "letters", "--json").out)
    assert (told["run"], told["best_stage"], told["proof"]) == (run, "1-demos", "proven on test")
    assert [stage["stage"] for stage in told["stages"]] == ["0-baseline", "1-demos"]
    assert project.cascade("show", "letters", "--markdown").out.startswith(f"# letters, run {run}\n")
    page = tmp_path / "letters.html"
    done = project.cascade("show", "letters", "--html", str(page))
    assert (done.code, done.out, done.err) == (0, "", f"Written: {page}\n")
    assert page.read_text("utf-8").startswith("<!doctype html>")
    done = project.cascade("show", "letters", "--html", str(page), "--json")
    assert json.loads(done.out)["run"] == run
    for command in ("show", "compare"):
        done = project.cascade(command, "letters", "--json", "--markdown")
        assert (done.code, done.out) == (2, "")
        assert done.err == "cascade: --json and --markdown both print on stdout. Give one of them.\n"
    done = project.cascade("show", "letters", "--html", str(tmp_path / "no" / "x.html"))
    assert done.code == 1
    assert "cannot be written (No such file or directory). Give a file in a folder that exists." in done.err


def test_compare_pairs_two_runs(project, tmp_path):
    first = ran(project)
    changed(project)
    second = ran(project)
    told = json.loads(project.cascade("compare", "letters", "--json").out)
    (pair,) = told["pairs"]
    assert (pair["before"], pair["after"], pair["dev"]["verdict"], pair["test"]["n"]) == (
        first,
        second,
        "inconclusive",
        30,
    )
    assert told["differences"]["stage names"] == ["demos", "demos, fewer"]
    assert told["pareto"]["unit"] == "tokens"
    turned = json.loads(project.cascade("compare", "letters", "--run", second, "--run", first, "--json").out)
    assert (turned["pairs"][0]["before"], turned["pairs"][0]["after"]) == (second, first)
    page = tmp_path / "both.html"
    assert project.cascade("compare", "letters", "--html", str(page), "--markdown").out.startswith(
        "# letters: 2 runs side by side\n"
    )
    assert "Score against serving cost" in page.read_text("utf-8")


def test_compare_refuses_other_data_with_3(project):
    ran(project)
    path = project.folder / "datasets/letters/dev.jsonl"
    path.write_text(path.read_text() + json.dumps({"question": "dev 9 9", "answer": "9"}) + "\n")
    test = project.folder / "datasets/letters/test.jsonl"
    test.write_text(test.read_text() + json.dumps({"question": "test 9 9", "answer": "9"}) + "\n")
    ran(project)
    done = project.cascade("compare", "letters")
    assert (done.code, done.out) == (3, "")
    assert re.fullmatch(
        r"cascade: Runs \S+ and \S+ had different rows in dev \(fingerprints .*\)\. Run both .*\n", done.err
    )


def test_compare_of_one_run_or_none_says_what_to_do(project):
    done = project.cascade("compare", "letters")
    assert (done.code, done.err) == (
        2,
        "cascade: Experiment 'letters' has no run that can be shown. Run it: cascade run letters\n",
    )
    ran(project)
    done = project.cascade("compare", "letters")
    assert (done.code, done.err) == (
        2,
        "cascade: One run of 'letters' is nothing to compare. Run it again: cascade run letters\n",
    )


def test_compare_with_one_named_run_asks_for_another(project):
    run = ran(project)
    done = project.cascade("compare", "letters", "--run", run)
    assert (done.code, done.out) == (2, "")
    assert done.err == "cascade: --run names one run. Name two or more, or leave it out for the newest.\n"


def test_a_damaged_run_is_passed_over_with_a_warning(project):
    good, bad = ran(project), ran(project)
    (project.folder / ".cascade/runs/letters" / bad / "0-baseline/record.json").write_text("{")
    done = project.cascade("show", "letters")
    assert done.out.startswith(f"Run {good} of letters")
    assert re.fullmatch(rf"cascade: warning: run {bad} is passed over: .*record\.json.*\n", done.err)
    assert json.loads(project.cascade("list", "--json").out)[0]["last_run"]["id"] == good
    done = project.cascade("show", "letters", "--run", bad)
    assert (done.code, done.out) == (1, "")
    assert "record.json cannot be read" in done.err


def test_an_interrupted_run_is_shown_with_how_to_go_on(project):
    def interrupting(_model, _inputs, _demos):
        if len(project.engine.requests) > 40:
            raise KeyboardInterrupt
        return {"answer": "1"}

    project.engine.answer = interrupting
    assert project.cascade("run", "letters", "--no-mlflow").code == 130
    done = project.cascade("show", "letters")
    assert "was interrupted after" in done.out
    assert "Not judged on test, so not proven." in done.out
    assert done.out.splitlines()[-1].startswith("To go on: `cascade run letters`.")


def test_control_characters_of_a_model_do_not_reach_the_terminal(project):
    project.engine.answer = lambda _model, _inputs, _demos: {"answer": "\x1b[31mred\x07"}
    ran(project)
    changed(project)
    project.engine.answer = lambda _model, inputs, demos: {"answer": inputs["question"][-1] if demos else "\x1b[31m"}
    ran(project)
    for command in (["show", "letters"], ["compare", "letters"], ["compare", "letters", "--markdown"]):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", project.cascade(*command).out)
