"""`cascade compare NAME --program A --program B` over a scripted model."""

import json
import re
from pathlib import Path

import pytest

PLAIN = """

class Hinted(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question, hint -> answer")

    def forward(self, question):
        return self.ask(question=question, hint="last")


def same():
    return Asks()
"""
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def two(project):
    """`Asks` is right where the last digit is below 3; `Hinted` where it is below 8, and wrong at 0."""
    file = project.folder / "experiments/letters.py"
    file.write_text(file.read_text().replace("\n\n@metric", f"{PLAIN}\n\n@metric", 1))

    def answer(_model, inputs, demos):
        digit = inputs["question"][-1]
        known = "1" <= digit < "8" if "hint" in inputs else demos or digit < "3"
        return {"answer": digit if known else "?"}

    project.engine.answer = answer
    return project


def compared(project, *programs: str, options: tuple[str, ...] = ()) -> dict:
    words = [word for name in programs for word in ("--program", name)]
    done = project.cascade("compare", "letters", *words, "--json", "--no-mlflow", *options)
    assert done.code == 0, done.err
    return json.loads(done.out)


def looks(project) -> list[str]:
    return [
        line for file in (project.folder / ".cascade/looks").glob("*.txt") for line in file.read_text().splitlines()
    ]


def test_two_factories_of_the_file(two):
    told = compared(two, "Asks", "Hinted")
    assert told["of"] == "program"
    assert [(run["run"], round(run["dev"]["dev_score"], 2), run["test"]) for run in told["runs"]] == [
        ("Asks", 0.3, None), ("Hinted", 0.7, None),
    ]  # fmt: skip
    (pair,) = told["pairs"]
    assert (pair["before"], pair["after"], pair["dev"]["verdict"], pair["dev"]["n"]) == ("Asks", "Hinted", "better", 30)
    assert pair["dev"]["interval"][0] > 0 and pair["dev"]["minimum_detectable_gain"] > 0
    assert pair["dev"]["says"].startswith("On dev, 30 examples: Hinted 70.0% against Asks 30.0%: +40.0 points [")
    assert (len(pair["won"]), len(pair["lost"]), pair["level"]) == (15, 3, 12)
    assert [row["lm_calls"] for row in told["serving"]] == [1, 1]
    assert not (two.folder / ".cascade/looks").exists()


def test_what_is_printed(two, request):
    done = two.cascade("compare", "letters", "--program", "Asks", "--program", "Hinted", "--no-mlflow")
    assert done.code == 0
    told = re.sub(
        r"\b[0-9a-f]{12}\b", "HASH", re.sub(r"\d+\.\d\d s|\b\d+s\b", "TIME", re.sub(r" {2,}", "  ", done.out))
    )
    golden = GOLDEN / "compare-programs.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(told, "utf-8")
    assert told == golden.read_text("utf-8")


def test_repeating_it_is_free_and_a_run_paid_for_it_too(two):
    assert two.cascade("run", "letters", "--no-mlflow").code == 0
    asked = len(two.engine.requests)
    compared(two, "Asks", "Hinted")
    assert len(two.engine.requests) == asked + 30
    compared(two, "Hinted", "Asks")
    assert len(two.engine.requests) == asked + 30


def test_test_is_looked_at_when_asked_and_counted_once_a_pair(two):
    told = compared(two, "Asks", "Hinted", options=("--split", "test"))
    assert told["pairs"][0]["test"]["verdict"] == "better"
    assert [run["proof"] for run in told["runs"]] == ["not proven", "proven on test"]
    compared(two, "Hinted", "Asks", options=("--split", "test"))
    assert len(looks(two)) == 1 and looks(two)[0].startswith("letters compared ")
    compared(two, "Asks", "same", options=("--split", "test"))
    assert len(looks(two)) == 2


def test_a_saved_program_a_run_and_a_module_are_programs_too(two):
    run = re.search(r"Run (\S+) of", two.cascade("run", "letters", "--no-mlflow").err)[1]
    assert two.cascade("export", "letters", "--to", str(two.folder / "old.json")).code == 0
    two.write("experiments/other.py", (two.folder / "experiments/letters.py").read_text())
    told = compared(two, "Asks", run, "old.json", "experiments/other.py:Hinted")
    scores = {one["run"]: round(one["dev"]["dev_score"], 2) for one in told["runs"]}
    assert scores == {"Asks": 0.3, run: 1.0, "old.json": 1.0, "experiments/other.py:Hinted": 0.7}
    verdicts = {(pair["before"], pair["after"]): pair["dev"]["verdict"] for pair in told["pairs"]}
    assert verdicts[run, "old.json"] == "unchanged"
    assert len(verdicts) == 6
    says = {(pair["before"], pair["after"]): pair["dev"]["says"] for pair in told["pairs"]}
    assert says["Asks", run].startswith(f"On dev ({run} selected on dev), 30 examples: {run} 100.0% against Asks ")
    assert says["Asks", "experiments/other.py:Hinted"].startswith("On dev, 30 examples: ")
    assert says["old.json", "experiments/other.py:Hinted"].startswith("On dev (old.json selected on dev), 30 ")


def test_a_run_keeps_the_factory_that_it_had(two):
    """Steps 5 to 7: the plain program was optimized, then the file's program became another."""
    run = re.search(r"Run (\S+) of", two.cascade("run", "letters", "--no-mlflow").err)[1]
    file = two.folder / "experiments/letters.py"
    file.write_text(file.read_text().replace("program=Asks", "program=Hinted"))
    told = compared(two, run, "Hinted")
    assert [round(one["dev"]["dev_score"], 2) for one in told["runs"]] == [1.0, 0.7]


def test_another_program_of_the_file_is_run_and_compared(two):
    """Steps 6 and 7 without a change to the file: both designs optimized, then judged side by side."""
    plain = re.search(r"Run (\S+) of", two.cascade("run", "letters", "--no-mlflow").err)[1]
    done = two.cascade("run", "letters", "--program", "Hinted", "--no-mlflow")
    assert done.code == 0 and "0-baseline: dev 70.0%" in done.err
    other = re.search(r"Run (\S+) of", done.err)[1]
    told = compared(two, "Hinted", plain, other)
    assert [round(one["dev"]["dev_score"], 2) for one in told["runs"]] == [0.7, 1.0, 0.7]
    again = two.cascade("compare", "letters", "--json")
    assert [run["run"] for run in json.loads(again.out)["runs"]] == [plain, other]


@pytest.mark.parametrize("command", ["run", "check", "draw", "profile", "trace"])
def test_a_program_that_is_not_there(two, command):
    done = two.cascade(command, "letters", "--program", "Hint")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "cascade: --program Hint is no factory in experiments/letters.py (found: Asks, Hinted). Give one, or "
        "MODULE:FACTORY; what was saved is for --from.\n"
    )


def test_another_program_is_drawn_checked_and_profiled(two):
    assert two.cascade("draw", "letters", "--program", "Hinted").out.splitlines()[1:] == [
        "  ask (Predict)   question, hint → answer"]  # fmt: skip
    assert two.cascade("check", "letters", "--program", "Hinted").code == 0
    told = json.loads(two.cascade("profile", "letters", "--program", "Hinted", "--json").out)
    assert told["by_step"] and two.cascade("trace", "letters", "--program", "Hinted").code == 0


def test_more_pairs_on_the_same_rows_are_told(two):
    compared(two, "Asks", "Hinted")
    done = two.cascade("compare", "letters", "--program", "Asks", "--program", "same", "--no-mlflow")
    assert "1 other pair of programs compared on these rows of dev before" in done.out
    done = two.cascade("compare", "letters", "--program", "Asks", "--program", "same", "--no-mlflow")
    assert "1 other pair of programs" in done.out
    assert compared(two, "Asks", "same")["earlier_pairs"] == 1
    page = two.folder / "page.html"
    words = ("compare", "letters", "--program", "Asks", "--program", "same", "--no-mlflow")
    done = two.cascade(*words, "--markdown", "--html", str(page))
    assert "1 other pair of programs" in done.out and "1 other pair of programs" in page.read_text()


def test_another_lm_is_another_look_at_test(two, monkeypatch):
    compared(two, "Asks", "Hinted", options=("--split", "test"))
    monkeypatch.setenv("CASCADE_LM", "scripted/other")
    told = compared(two, "Asks", "Hinted", options=("--split", "test"))
    assert len(looks(two)) == 2 and told["runs"][0]["test"]["looks"] == 2


def test_three_programs(two):
    words = [word for name in ("Asks", "Hinted", "same") for word in ("--program", name)]
    done = two.cascade("compare", "letters", *words, "--no-mlflow")
    assert "Prompts and examples: give two programs with --program, or --html FILE for all." in done.out


def test_forms(two, tmp_path):
    page = tmp_path / "page.html"
    words = ("compare", "letters", "--program", "Asks", "--program", "Hinted", "--no-mlflow")
    done = two.cascade(*words, "--markdown", "--html", str(page))
    assert done.out.startswith("# letters: 2 programs side by side\n")
    assert "## What an example takes" in done.out
    assert "2 programs side by side" in page.read_text() and "selected on dev" not in page.read_text()


def test_runs_do_not_see_comparisons(two):
    assert two.cascade("run", "letters", "--no-mlflow").code == 0
    shown = two.cascade("show", "letters").out
    compared(two, "Asks", "Hinted")
    assert two.cascade("show", "letters").out == shown


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--program", "Asks"), 2, "--program Asks names one program. Name two or more."),
        (("--program", "Asks", "--program", "Asks"), 2, "--program Asks is given twice. Name different programs."),
        (("--program", "Asks", "--program", "Hinted", "--run", "1"), 2, "--run and --program: give one of them."),
        (("--program", "Asks", "--program", "Hinted", "--last", "3"), 2, "--last 3 and --program: give one of them."),
        (("--run", "a", "--run", "b", "--last", "3"), 2, "--last 3 and --run: give one of them."),
        (("--program", "Asks", "--program", ""), 2, "--program '' names nothing."),
        (("--split", "test"), 2, "--split needs --program: runs are read, not judged."),
        (("--program", "Asks", "--program", "Other"), 2, "--program Other is no factory in experiments/letters.py (found: Asks, Hinted), no file,"),
        (("--program", "Asks", "--program", "nowhere:X"), 2, "--program nowhere:X: 'nowhere' cannot be imported"),
        (("--program", "Asks", "--program", "experiments/no.py:X"), 2, "there is no file 'experiments/no.py'"),
        (("--program", "Asks", "--program", "..x:y"), 2, "--program ..x:y: '..x' cannot be imported"),
        (("--program", "Asks", "--program", "leaves:X"), 2, "--program leaves:X: 'leaves' cannot be imported (SystemExit"),
        (("--program", "Asks", "--program", "leaves.py:X"), 2, "leaves.py calls exit(3) when it is imported."),
        (("--program", "Asks", "--program", "right"), 2, "cannot be built without arguments"),
    ],
)  # fmt: skip
def test_what_is_no_program(two, monkeypatch, words, code, said):
    two.write("leaves.py", "raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(two.folder)
    done = two.cascade("compare", "letters", *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert not two.engine.requests


@pytest.mark.usefixtures("store")
def test_mlflow_gets_a_run_a_program(two):
    from mlflow import MlflowClient

    done = two.cascade("compare", "letters", "--program", "Asks", "--program", "Hinted")
    assert done.code == 0, done.err
    client = MlflowClient(f"sqlite:///{two.folder}/mlflow.db")
    runs = client.search_runs(
        [client.get_experiment_by_name("letters").experiment_id], filter_string="tags.`cascade.kind` = 'comparison'"
    )
    assert {run.data.params["program"]: run.data.metrics["best_dev_score"] for run in runs} == {
        "Asks": 0.3,
        "Hinted": 0.7,
    }
    assert not client.search_registered_models()
