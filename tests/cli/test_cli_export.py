"""A program that leaves: plain DSPy JSON, loaded in a process that has no cascade; and one that comes back."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_US = """
import importlib.abc, json, sys


class Nowhere(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cascade":
            raise ImportError("cascade is not here")


sys.meta_path.insert(0, Nowhere())
import dspy


class Asks(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


program = %s
program.load(sys.argv[1])
seen = []


class Says(dspy.LM):
    def __init__(self):
        super().__init__("openai/nobody")

    def __call__(self, prompt=None, messages=None, **kwargs):
        seen.append(messages)
        return ["[[ ## answer ## ]]\\n7\\n\\n[[ ## completed ## ]]"]


with dspy.context(lm=Says()):
    answer = program(question="one").answer if sys.argv[2:] else ""
lms = [one.lm and (one.lm.model, one.lm.kwargs.get("temperature")) for one in program.predictors()]
print(json.dumps({
    "demos": [len(one.demos) for one in program.predictors()], "lms": lms, "answer": answer,
    "asked": sum(message["role"] == "assistant" for messages in seen for message in messages),
    "cascade": "cascade" in sys.modules,
}))
"""
MODULE = "Asks()"


def load_without_us(folder: Path, file: str, made: str = MODULE, call: bool = True) -> dict[str, object]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_US % made, file, *(["call"] if call else [])],
        cwd=folder, env={**environ, "DSPY_CACHEDIR": str(folder / "cache")}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_best_program_loads_without_us(project):
    project.cascade("run", "letters", "--no-mlflow")
    done = project.cascade("export", "letters", "--to", "out.json")
    assert done.code == 0, done.err
    assert re.fullmatch(
        r"Written: out\.json, the program of run \S+, 1-demos\. Load it: program\.load\('out\.json'\)\n", done.err
    )
    assert done.out.startswith(
        "Judged under 'embedded/smollm2-135m': dspy.configure(lm=dspy.LM('openai/smollm2-135m', "
    )
    assert "served by `llama-server -m smollm2-135m.gguf --alias smollm2-135m --api-key any`" in done.out
    assert "force_format" in done.out
    loaded = load_without_us(project.folder, "out.json")
    assert loaded == {"demos": [4], "lms": [None], "answer": "7", "asked": 4, "cascade": False}


def test_a_program_of_one_predictor_loads_without_us(project):
    text = (project.folder / "experiments/letters.py").read_text()
    one = "def made():\n    return dspy.Predict('question -> answer')\n\n\nexperiment ="
    project.write("experiments/letters.py", text.replace("experiment =", one).replace("program=Asks", "program=made"))
    project.cascade("run", "letters", "--no-mlflow")
    assert project.cascade("export", "letters", "--to", "out.json").code == 0
    loaded = load_without_us(project.folder, "out.json", 'dspy.Predict("question -> answer")')
    assert (loaded["demos"], loaded["asked"]) == ([4], 4)


def stage(project, **changes: object) -> str:
    """A run whose best stage has another state or other LMs; returns its id."""
    project.cascade("run", "letters", "--no-mlflow")
    folder = max((project.folder / ".cascade/runs/letters").iterdir())
    for name, change in changes.items():
        path = folder / {"state": "1-demos/program.json", "record": "1-demos/record.json", "run": "run.json"}[name]
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return folder.name


def test_lms_of_predictors_are_written_by_model_and_never_with_an_endpoint(project, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    project.write("pyproject.toml", """[tool.cascade.lm]
near = {model = "openai/near", api_base = "http://secret.example/v1"}
far = {model = "openai/far", temperature = 0.25, extra_headers = {X = "canary-header-1"}}
""")  # fmt: skip
    run = stage(project, record={"lms": {"ask": "openai/far"}})
    assert project.cascade("export", "letters", "--to", "far.json", "--run", run[-4:]).out == ""
    assert load_without_us(project.folder, "far.json", call=False)["lms"] == [["openai/far", 0.25]]
    stage(project, record={"lms": {"ask": "openai/near"}})
    done = project.cascade("export", "letters", "--to", "near.json")
    assert done.out == "ask: give it dspy.LM('openai/near', api_base=…).\n"
    assert load_without_us(project.folder, "near.json", call=False)["lms"] == [None]
    for text in ((project.folder / name).read_text() for name in ("near.json", "far.json")):
        assert "canary" not in text
        assert "secret.example" not in text


def test_trained_weights_are_named_with_how_to_serve_them(project):
    model = "embedded/smollm2-135m-0123456789ab"
    folder = project.folder / ".cascade/models"
    folder.mkdir(parents=True)
    name = model.removeprefix("embedded/")
    (folder / f"{name}.gguf").write_bytes(b"weights")
    (folder / f"{name}.json").write_text("{}")
    stage(project, record={"lms": {"ask": model}})
    done = project.cascade("export", "letters", "--to", "out.json", "--json")
    document = json.loads(done.out)
    assert document["predictors"] == ["ask"]
    assert document["program"].endswith(", 1-demos")
    assert document["notes"][0] == (
        f"ask: give it dspy.LM('openai/{name}', api_base='http://localhost:8080/v1', api_key='any'), served by "
        f"`llama-server -m {folder / name}.gguf --alias {name} --api-key any`."
    )
    assert load_without_us(project.folder, "out.json", call=False)["lms"] == [None]


def test_what_plain_dspy_has_no_program_for_is_refused(project):
    rows = {"rows": [{"question": "1", "answer": "1"}], "inputs": ["question"], "k": 3, "order": "rows", "embedder": "", "vectors": []}  # fmt: skip
    project.cascade("run", "letters", "--no-mlflow", "--recipe", "small")
    folder = max((project.folder / ".cascade/runs/letters").iterdir())
    done = project.cascade("export", "letters", "--to", "out.json", "--run", f"{folder.name}/nearest")
    assert (done.code, done.out) == (3, "")
    assert re.match(
        r"cascade: The predictor 'ask' shows each question the nearest \d+ of \d+ rows, which plain DSPy", done.err
    )
    state = json.loads((folder / "1-nearest/program.json").read_text())
    part = {**state["ask"], "nearest": rows}
    (folder / "1-nearest/program.json").write_text(json.dumps({"members[0].ask": part, "members[1].ask": part}))
    done = project.cascade("export", "letters", "--to", "out.json", "--run", f"{folder.name}/1-nearest")
    assert done.code == 3
    assert "The program is a vote of 2, which plain DSPy cannot load. Load it with" in done.err
    assert not (project.folder / "out.json").exists()


WRONG = [
    (["--to", "out.txt"], 2, "--to out.txt does not end in .json"),
    (["--to", "nowhere/out.json"], 1, "--to nowhere/out.json cannot be written (No such file or directory)"),
    (["--to", "out.json", "--run", "z"], 2, "Experiment 'letters' has no run 'z'. Give one of: "),
    (["--to", "out.json", "--run", "2/nothing"], 2, "has no program of a stage 'nothing'. Found: 0-baseline, 1-demos."),
    (["--to", "out.json", "--run", "2", "--model", "models:/x/1"], 2, "--run 2 and --model models:/x/1 name two"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "told"), WRONG)
def test_what_is_wrong_is_one_line(project, words, code, told):
    project.cascade("run", "letters", "--no-mlflow")
    done = project.cascade("export", "letters", *words)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert told in done.err


def test_without_a_run_there_is_nothing_to_export(project):
    done = project.cascade("export", "letters", "--to", "out.json")
    assert done.code == 2
    assert "Experiment 'letters' has no run that can be shown. Run it: cascade run letters" in done.err


@pytest.mark.usefixtures("store")
def test_what_was_exported_comes_back_and_so_do_runs_and_models(project):
    project.cascade("run", "letters")
    project.cascade("export", "letters", "--to", "old.json")
    run = max((project.folder / ".cascade/runs/letters").iterdir()).name
    seen = {}
    for where in ("old.json", run, f"{run}/demos", run[-4:], "models:/letters@challenger", "models:/letters/1"):
        planned = project.cascade("check", "letters", "--from", where)
        assert (planned.code, "1-start" in planned.out) == (0, True), planned.err
        assert not (project.folder / ".cascade/programs").exists() or seen
        done = project.cascade("run", "letters", "--no-mlflow", "--json", "--from", where)
        assert done.code == 0, done.err
        start = json.loads(done.out)["stages"][1]
        assert (start["stage"], start["dev_score"], start["verdict"]) == ("1-start", 1, "better")
        seen[where] = re.search(r"\n1-start: (.*), at most 30 LM calls\n", done.err)[1]
    assert seen == {
        "old.json": "old.json", run: f"run {run}, 1-demos", f"{run}/demos": f"run {run}, 1-demos",
        run[-4:]: f"run {run}, 1-demos", "models:/letters@challenger": "models:/letters@challenger, version 1",
        "models:/letters/1": "models:/letters/1",
    }  # fmt: skip
    assert project.cascade("export", "letters", "--to", "model.json", "--model", "models:/letters@challenger").code == 0
    assert (project.folder / "model.json").read_text() == (project.folder / "old.json").read_text()
    shown = project.cascade("show", "letters", "--json")
    assert json.loads(shown.out)["params"]["start"] == "models:/letters/1"
    assert re.search(
        r"It began from models:/letters/1 \([0-9a-f]{12}\), judged as 1-start\.",
        " ".join(json.loads(shown.out)["story"]),
    )


FROM = [
    ("nothing", "start = 'nothing' is no file and no model (models:/NAME@ALIAS), and as a run: Experiment 'letters' has no"),
    ("models:/nothing/1", "could not be read: "),
    ("datasets/letters/dataset.toml", "start = 'datasets/letters/dataset.toml' is not JSON"),
]  # fmt: skip


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("where", "told"), FROM)
def test_what_is_no_program_is_one_line(project, where, told):
    for command in ("run", "check"):
        done = project.cascade(command, "letters", "--from", where)
        assert done.code in (1, 2)
        assert told in done.err
        assert done.err.count("\n") == 1
    assert not project.engine.requests


def test_going_on_names_what_it_began_from(project):
    project.cascade("run", "letters", "--no-mlflow")
    project.cascade("export", "letters", "--to", "old.json")
    project.write("experiments/letters.py", (project.folder / "experiments/letters.py").read_text() + "\nmore = 1\n")

    def interrupting(_model, _inputs, _demos):
        raise KeyboardInterrupt

    project.engine.answer = interrupting
    done = project.cascade("run", "letters", "--no-mlflow", "--from", "old.json", "--fresh")
    assert done.err.splitlines()[-1] == "cascade: interrupted; `cascade run NAME --from …` goes on."
    assert "To go on: `cascade run letters --from old.json`. It takes up" in project.cascade("show", "letters").out


def test_mlflow_shows_what_a_run_began_from(project, store):
    from mlflow import MlflowClient

    project.cascade("run", "letters", "--no-mlflow")
    (first,) = (project.folder / ".cascade/runs/letters").iterdir()
    assert project.cascade("run", "letters", "--from", first.name).code == 0
    client = MlflowClient(f"sqlite:///{store}")
    found = client.search_runs(
        [client.get_experiment_by_name("letters").experiment_id],
        "tags.`cascade.stage` = '1-start' AND attributes.status = 'FINISHED'",
    )
    (start,) = [run for run in found if run.data.tags["cascade.verdict"] == "better"]
    assert re.fullmatch(r"run \S+, 1-demos \([0-9a-f]{12}\)", start.data.params["program"])
    assert (start.data.tags["cascade.lever"], start.data.tags["cascade.kept"]) == ("none", "new")
    assert start.data.metrics["dev_score"] == 1
    parent = client.get_run(start.data.tags["mlflow.parentRunId"])
    assert parent.data.params["start"] == first.name
    assert parent.data.tags["cascade.best_stage"] == "1-start"
