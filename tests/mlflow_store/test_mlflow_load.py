"""Programs out of MLflow: elsewhere, without pickle, with their own code, weights and LMs."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dspy
import mlflow
import mlflow_journals as by_hand
import pytest

import cascade
from cascade.errors import ExperimentError, ModelError, TrackingError
from cascade.lm.lms import LMs
from cascade.mlflow_store import MlflowTracker, load_program
from cascade.mlflow_store.programs import rebuild
from cascade.program import snapshot
from cascade.settings import LMSpec, Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

CANARY = "sk-canary-0123456789"
SCRIPT = """
import json, os, sys
import mlflow
from cascade.mlflow_store import load_program
uri = sys.argv[1]
program = load_program(uri)
loaded = mlflow.pyfunc.load_model(uri)
rows = [{"question": "one"}, {"question": "two"}]
print(json.dumps({
    "called": [program(**row).answer for row in rows],
    "predicted": loaded.predict(rows),
    "columns": [loaded.metadata.get_input_schema().input_names(), loaded.metadata.get_output_schema().input_names()],
}))
"""


class Loud(BaseHTTPRequestHandler):
    """An OpenAI endpoint that shouts the question back, politely if it was told to and shown the row nearest to "two"."""

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        question = messages[-1]["content"].partition("[[ ## question ## ]]")[2].strip().splitlines()[0]
        told = "Answer instructions." in messages[0]["content"] and any("two, too" in m["content"] for m in messages)
        polite = ", please" if told else ""
        content = f"[[ ## answer ## ]]\n{question.upper()}{polite}\n\n[[ ## completed ## ]]"
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "fake",
            "choices": [choice],
            "usage": usage,
        }
        answer = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Loud)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def settings(folder: Path, uri: str) -> Settings:
    return Settings(folder, folder / "elsewhere", uri)


def scripted(made: Settings) -> LMs:
    return ScriptedLMs(
        made, ScriptedEngine(lambda model, inputs, demos: {"answer": f"{inputs} from {model}, {demos} demos"})
    )


def test_a_program_runs_in_a_fresh_process_without_pickle(tmp_path: Path, uri: str, endpoint: str) -> None:
    journal = by_hand.unfinished(tmp_path, "completed")
    shown = {**by_hand.state("Answer instructions.")["answer"], "nearest": rows("one", "two, too", "three")}
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions"), {"answer": shown})
    MlflowTracker(uri).publish(journal)
    (tmp_path / "experiments" / "qa.py").unlink()
    there = tmp_path / "there"
    there.mkdir()
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(cascade.__file__).parents[1]),
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "CASCADE_LM": "openai/another",
        "OPENAI_API_KEY": CANARY,
        "OPENAI_API_BASE": endpoint,
        "DSPY_CACHEDIR": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "models:/qa@challenger"],
        cwd=there, env=environ, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "called": ["ONE, please", "TWO, please"],
        "predicted": [{"answer": "ONE, please"}, {"answer": "TWO, please"}],
        "columns": [["question"], ["answer"]],
    }


def test_a_loaded_program_runs_under_its_own_lms_and_changes_no_global_setting(tmp_path: Path, uri: str) -> None:
    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed"))
    before = dspy.settings.lm, dspy.settings.adapter
    program = load_program("models:/qa/1", settings(tmp_path, uri), lms=scripted)
    with dspy.context(lm=None):
        assert program(question="hi").answer == "{'question': 'hi'} from scripted/base, 1 demos"
    assert (dspy.settings.lm, dspy.settings.adapter) == before
    assert program.fields({"question": "hi", "id": "7"}) == {"answer": "{'question': 'hi'} from scripted/base, 1 demos"}
    assert program.module.answer.signature.instructions == "Answer instructions."


def rows(*questions: str) -> dict[str, Any]:
    """The state of an index of the nearest demos."""
    shown = [{"question": question, "answer": "…"} for question in questions]
    return {"rows": shown, "inputs": ["question"], "k": 2, "order": "last", "embedder": "", "vectors": []}


def test_nearest_demos_and_votes_come_out_of_the_store(tmp_path: Path, uri: str) -> None:
    one, other = by_hand.state()["answer"], {**by_hand.state()["answer"], "nearest": rows("one", "two", "three")}
    states = {"20261122-01": {"answer": other}, "20261122-02": {"members[0].answer": one, "members[1].answer": other}}
    for run, program in states.items():
        journal = by_hand.unfinished(tmp_path, "completed", id=run)
        by_hand.write_stage(journal, by_hand.stage_record(1, "instructions"), program)
        MlflowTracker(uri).publish(journal)
    nearest, vote = (load_program(f"models:/qa/{version}", settings(tmp_path, uri), lms=scripted) for version in (1, 2))
    assert nearest(question="hi").answer.endswith("from scripted/base, 3 demos")
    assert [member.answer.demos for member in vote.module.members] == [one["demos"]] * 2
    assert vote(question="hi").answer.endswith("1 demos")


def test_an_embedder_that_is_a_function_is_not_run_when_a_program_is_loaded(tmp_path: Path, uri: str) -> None:
    journal = by_hand.unfinished(tmp_path, "completed")
    run = {**rows("one", "two"), "embedder": "subprocess:call", "vectors": [[1.0], [1.0]]}
    shown = {**by_hand.state()["answer"], "nearest": run}
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions"), {"answer": shown})
    MlflowTracker(uri).publish(journal)
    client = mlflow.MlflowClient(uri)
    (stage,) = client.search_runs(["1"], filter_string="tags.`cascade.stage` = '1-instructions'")
    assert "the function 'subprocess:call'" in stage.data.tags["cascade.no_model"]

    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed", id="20261122-02"))
    load_program("models:/qa@challenger", settings(tmp_path, uri), lms=scripted)
    (state,) = (tmp_path / "elsewhere" / "programs").glob("*/state.json")
    state.write_text(json.dumps({"answer": shown}))
    with pytest.raises(TrackingError, match=r"has the function 'subprocess:call' as embedder, which is not run\. Give"):
        load_program("models:/qa@challenger", settings(tmp_path, uri), lms=scripted)


def test_names_mean_the_models_that_were_judged(tmp_path: Path, uri: str) -> None:
    lms = {"task": "openai/fake", "prompt": "openai/dear", "local": "openai/near"}
    params = {"force_format": "False"}
    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed", lms=lms, params=params))
    near = LMSpec("openai/near", {"api_base": "http://localhost:1"})
    today = replace(settings(tmp_path, uri), lm={"default": LMSpec("openai/new"), "somewhere": near})
    program = load_program("models:/qa@challenger", today, lms=scripted)
    used = program.lms.settings
    assert used.lm_named("task").model == "openai/fake"
    assert used.lm_named("local") == near
    assert used.lm_named("prompt").model == "openai/new"
    assert used.force_format is False


def test_two_programs_in_one_process_do_not_share_code(tmp_path: Path, uri: str) -> None:
    tracker = MlflowTracker(uri)
    tracker.publish(by_hand.unfinished(tmp_path, "completed", id="20261122-01"))
    source = tmp_path / "experiments" / "qa.py"
    source.write_text(source.read_text().replace("question=question)", "question=question + '!')"))
    tracker.publish(by_hand.unfinished(tmp_path, "completed", id="20261122-02"))
    made = settings(tmp_path, uri)
    champion, challenger = (load_program(f"models:/qa/{version}", made, lms=scripted) for version in (1, 2))
    assert champion(question="hi").answer.startswith("{'question': 'hi'}")
    assert challenger(question="hi").answer.startswith("{'question': 'hi!'}")
    assert champion(question="hi").answer.startswith("{'question': 'hi'}")
    assert type(champion.module) is not type(challenger.module)


@pytest.mark.parametrize(
    ("uri_", "message"),
    [
        ("models:/qa@champion", "could not be read: .*champion.*was not loaded"),
        ("models:/nothing/1", "could not be read: .*nothing.*was not loaded"),
        ("runs:/123/model", "'runs:/123/model' is no model. Give models:/NAME@champion"),
    ],
)
def test_what_cannot_be_found_is_said(tmp_path: Path, uri: str, uri_: str, message: str) -> None:
    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed"))
    with pytest.raises(TrackingError, match=message):
        load_program(uri_, settings(tmp_path, uri))


def test_a_source_without_its_factory_is_said(tmp_path: Path, uri: str) -> None:
    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed", factory={
        "name": "Anser", "source": str(tmp_path / "experiments" / "qa.py")
    }))  # fmt: skip
    with pytest.raises(ExperimentError, match="defines no 'Anser', the factory"):
        load_program("models:/qa/1", settings(tmp_path, uri), lms=scripted)


@pytest.fixture
def tuned(tmp_path: Path, uri: str) -> tuple[Settings, str]:
    """A published program with weights of its own, and settings of a machine that has the base model only."""
    weights = b"weights of a stage"
    name = f"tiny-{hashlib.sha256(weights).hexdigest()[:12]}"
    (tmp_path / f"{name}.gguf").write_bytes(weights)
    journal = by_hand.unfinished(tmp_path, "completed")
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions", lms={"answer": f"embedded/{name}"}))
    MlflowTracker(uri, weights={f"embedded/{name}": tmp_path / f"{name}.gguf"}.get).publish(journal)
    (tmp_path / f"{name}.gguf").unlink()
    made = settings(tmp_path, uri)
    store = made.home / "models"
    store.mkdir(parents=True)
    (store / "tiny.gguf").write_bytes(b"base")
    facts = {
        "sha256": hashlib.sha256(b"base").hexdigest(),
        "quantisation": "Q8_0",
        "chat_template": "x",
        "licence": "y",
    }
    (store / "tiny.json").write_text(json.dumps(facts))
    return made, name


def test_weights_come_along_and_are_stored_under_their_name(tuned: tuple[Settings, str]) -> None:
    made, name = tuned
    program = load_program("models:/qa/1", made, lms=scripted)
    assert (made.home / "models" / f"{name}.gguf").read_bytes() == b"weights of a stage"
    assert program(question="hi").answer.endswith(f"from embedded/{name}, 1 demos")
    load_program("models:/qa/1", made, lms=scripted)
    assert len(list((made.home / "models").glob("*.gguf"))) == 2
    assert not list((made.home / "programs").rglob("*.gguf"))


def test_damaged_weights_are_refused(tuned: tuple[Settings, str]) -> None:
    made, name = tuned
    shipped = next((made.project / "mlruns").rglob(f"{name}.gguf"))
    shipped.write_bytes(b"other weights")
    with pytest.raises(ModelError, match="are damaged"):
        load_program("models:/qa/1", made, lms=scripted)
    shipped.write_bytes(b"weights of a stage")
    assert load_program("models:/qa/1", made, lms=scripted)


def test_a_program_is_rebuilt_from_its_folder_without_a_store(tmp_path: Path, uri: str) -> None:
    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed"))
    made = settings(tmp_path, uri)
    load_program("models:/qa/1", made, lms=scripted)
    (folder,) = (made.home / "programs").iterdir()
    (tmp_path / "mlflow.db").unlink()
    assert rebuild(folder, made, lms=scripted)(question="hi").answer


def test_no_secret_reaches_the_store(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    lm = dspy.LM(
        "openai/fake", api_key=CANARY, extra_headers={"Authorization": CANARY}, api_base=f"http://me:{CANARY}@x"
    )
    program = dspy.Predict("question -> answer")
    program.lm = lm
    taken = snapshot(program)
    splits = {
        "dev": {
            "rows": 1,
            "fingerprint": "abc",
            "fields": ["question"],
            "source": f"https://me:{CANARY}@x/dev?{CANARY}",
        }
    }
    journal = by_hand.unfinished(tmp_path, "completed", splits=splits)
    by_hand.write_stage(journal, by_hand.stage_record(1, "instructions", lms=taken.lms), dict(taken.state))
    MlflowTracker(uri).publish(journal)
    files = [tmp_path / "mlflow.db", *(path for path in (tmp_path / "mlruns").rglob("*") if path.is_file())]
    assert len(files) > 10
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
