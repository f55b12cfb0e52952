"""Loading a program runs its source file and nothing else, whatever somebody put into the model."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow_journals as by_hand
import pytest

from cascade.errors import CascadeError, ExperimentError, TrackingError
from cascade.lm.lms import LMs
from cascade.mlflow_store import MlflowTracker, load_program
from cascade.mlflow_store.programs import rebuild
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs


class Touches:
    """What a pickle can do to who loads it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def scripted(made: Settings) -> LMs:
    return ScriptedLMs(made, ScriptedEngine(lambda _model, inputs, _demos: {"answer": inputs["question"].upper()}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[Path, str]:
    """A project whose program is in MLflow and was loaded once, and the name of its model's folder."""
    folder = tmp_path_factory.mktemp("whole")
    made = Settings(folder, folder / "elsewhere", f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}")
    MlflowTracker(made.tracking_uri).publish(by_hand.unfinished(folder, "completed"))
    load_program("models:/qa/1", made, lms=scripted)
    (model,) = (made.home / "programs").iterdir()
    return folder, model.name


@pytest.fixture
def made(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path / "elsewhere", "")


@pytest.fixture
def model(whole: tuple[Path, str], made: Settings) -> Path:
    """A copy of the model's files."""
    folder, name = whole
    return Path(shutil.copytree(folder / "elsewhere" / "programs" / name, made.home / "programs" / name))


@pytest.fixture
def evil(tmp_path: Path) -> str:
    return f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_other_files_of_a_model_are_not_run(model: Path, made: Settings, evil: str, tmp_path: Path) -> None:
    for name in (
        "json.py",
        "dspy.py",
        "cascade.py",
        "sitecustomize.py",
        "__init__.py",
        "conftest.py",
        "loader.py",
        "usercustomize.pth",
    ):
        (model / name).write_text(evil)
    (model / "program.pkl").write_bytes(pickle.dumps(Touches(tmp_path / "ran")))
    assert rebuild(model, made, lms=scripted)(question="trusted").answer == "TRUSTED"
    assert not (tmp_path / "ran").exists()


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "LM of another class and endpoint": lambda part: {
        **part, "lm": {"_dspy_lm_class": "os.system", "model": "openai/x", "api_base": "http://evil.invalid"}
    },
    "options of each call": lambda part: {**part, "config": {"api_base": "http://evil.invalid", "api_key": "x"}},
    "methods": lambda part: {**part, "forward": "x", "__call__": "x", "dump_state": 1, "__class__": "os.system"},
    "jsonpickle": lambda part: {**part, "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["true"]}]},
    "callbacks": lambda part: {**part, "callbacks": [{"py/object": "x"}], "_compiled": True, "stage": "y"},
}  # fmt: skip


@pytest.mark.parametrize("tamper", STATES.values(), ids=STATES.keys())
def test_a_state_sets_only_what_the_program_saves(
    model: Path, made: Settings, tamper: Callable[[dict[str, Any]], Any]
) -> None:
    whole = rebuild(model, made, lms=scripted)
    state = json.loads((model / "state.json").read_text())
    (name,) = state
    (model / "state.json").write_text(json.dumps({name: tamper(state[name]), "another": {"lm": {"model": "openai/x"}}}))
    program = rebuild(model, made, lms=scripted)
    ours, theirs = (vars(loaded.module.answer) for loaded in (program, whole))
    assert ours.keys() == theirs.keys()
    assert (program.module.answer.lm, ours["config"]) == (None, theirs["config"])
    assert program(question="trusted").answer == "TRUSTED"


BROKEN: dict[str, bytes] = {
    "a pickle": pickle.dumps(Touches(Path("/nonexistent/ran"))),
    "a list": b"[]",
    "nothing": b"",
    "deep nesting": b"[" * 100_000,
    "no signature": b'{"answer": {"demos": [], "lm": null}}',
    "a predictor that is none": b'{"answer": 5}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_state_is_one_line(model: Path, made: Settings, content: bytes) -> None:
    (model / "state.json").write_bytes(content)
    with pytest.raises(
        TrackingError, match=r"state\.json (is damaged|does not fit the program): .* Log the program again"
    ) as caught:
        rebuild(model, made, lms=scripted)
    assert "\n" not in str(caught.value)


CONFIGS: list[dict[str, Any]] = [
    {"source": "../../evil.py"}, {"source": "{folder}/evil.py"}, {"source": ".."}, {"source": ""}, {"source": 5},
    {"factory": "subprocess.getoutput"}, {"factory": "dspy.settings"}, {"factory": "__builtins__"}, {"factory": None},
    {"weights": {"embedded/x": "../../evil.py"}}, {"weights": []}, {"lms": None}, {"predictors": "x"},
]  # fmt: skip


@pytest.mark.parametrize("values", CONFIGS, ids=str)
def test_a_config_leads_to_no_other_code(
    model: Path, made: Settings, evil: str, tmp_path: Path, values: dict[str, Any]
) -> None:
    (tmp_path / "evil.py").write_text(evil)
    change(model / "config.json", **json.loads(json.dumps(values).replace("{folder}", str(tmp_path))))
    with pytest.raises(CascadeError, match=r"config\.json is damaged|is no factory|defines no") as caught:
        rebuild(model, made, lms=scripted)
    assert isinstance(caught.value, TrackingError | ExperimentError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_model_in_the_store_fetches_nothing_but_its_own_files(
    whole: tuple[Path, str], evil: str, tmp_path: Path
) -> None:
    folder, name = whole
    (shipped,) = (path for path in (folder / "mlruns").rglob("config.json") if name in path.parts)
    (shipped.parents[1] / "evil.py").write_text(evil)
    change(shipped, source="../evil.py")
    made = Settings(folder, tmp_path / "fresh", f"sqlite:///{folder / 'mlflow.db'}")
    with pytest.raises(TrackingError, match=r"'\.\./evil\.py' is no file of the model"):
        load_program("models:/qa/1", made, lms=scripted)
    assert not (tmp_path / "ran").exists()
