"""A stage's program as a model in MLflow: JSON, the factory's source file, and weights that a stage has trained.

Invariant: no pickle, and LMs by model string only. What a model does depends on nothing that is not in it, but for
installed packages and the LMs that it names; a program that needs another file of its project is refused.
"""

import hashlib
import importlib.metadata
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cascade.errors import ExperimentError
from cascade.journal import Journal, RunRecord, StageRecord
from cascade.mlflow_store.content import params
from cascade.sources import siblings, statements

CONFIG, STATE = "config.json", "state.json"
PROGRAM_TAG = "cascade.program"
_OPTIMIZERS_ONLY = ("prompt", "teacher", "student")
"""LMs that a program does not call when it serves."""
_TRAINED = re.compile(r"^embedded/.+-[0-9a-f]{12}$")
"""Weights that a stage has trained are named after their content; the base model is installed with cascade."""
_ENTRY = Path(__file__).with_name("loader.py")


@dataclass(frozen=True)
class Package:
    """The files of a model.

    Args:
        config: see `_config`.
        state: what `program.load_state` takes.
        source: file of the factory.
        weights: GGUF file by model string.
        params: optimizer and options.
    """

    name: str
    config: Mapping[str, Any]
    state: Mapping[str, Any]
    source: Path
    weights: Mapping[str, Path]
    params: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """12 hex digits of what the program does; equal digits mean the same program.

        What its file defines counts, and not the stages that `experiment = …` there may have today.
        """
        text = json.dumps([self.config, self.state, statements(self.source)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def package(journal: Journal, stage: StageRecord, weights: Callable[[str], Path | None]) -> Package:
    """Collect what a stage's program needs to be loaded elsewhere.

    Raises:
        ExperimentError: its source is gone, or imports a file that would not be there.
        ModelError: its weights are gone.
    """
    run = journal.run
    source = _source(journal, run)
    if not all(part.isidentifier() for part in run.factory["name"].split(".")):
        raise ExperimentError(f"program = {run.factory['name']} has no name in {source.name}. Write it as a function.")
    if missing := siblings(source, Path(run.factory["source"])):
        raise ExperimentError(
            f"{source.name} imports {missing[0]!r}, a file of the project that is not there when the program is loaded "
            "elsewhere. Put what it needs into the same file, or install it as a package."
        )
    state, own = journal.read(f"{stage.folder}/program.json"), stage.lms
    if not isinstance(state, dict):
        raise ExperimentError(f"{journal.folder / stage.folder} holds no program.json.")
    if function := _function_in(state):
        raise ExperimentError(
            f"Its embedder is the function {function!r}, which a loaded program does not run. Give NearestDemos the "
            "model string of an embedder."
        )
    serving = serving_lms(run.lms)
    needed = dict.fromkeys((*own.values(), *serving.values()))
    trained = {model: file for model in needed if _TRAINED.search(model) and (file := weights(model)) is not None}
    names = {model: file.name for model, file in trained.items()}
    config = _config(run, source, {"predictors": own, "lms": serving, "weights": names})
    return Package(stage.folder, config, _without_lms(state), source, trained, stage.params)


def _function_in(state: Mapping[str, Any]) -> str:
    from cascade.nearest import function_in

    return next(filter(None, map(function_in, state.values())), "")


def serving_lms(lms: Mapping[str, str]) -> dict[str, str]:
    """Of model strings by name, those that a program may call when it serves."""
    return {name: model for name, model in lms.items() if name not in _OPTIMIZERS_ONLY}


def log(client: Any, experiment_id: str, run_id: str, package: Package, note: str) -> Any:
    """The LoggedModel of a stage's run: the one that is there if it holds this program, else a new one."""
    from mlflow.entities import LoggedModelOutput

    model = _existing(client, experiment_id, run_id, package)
    if model is None:
        model = client.create_logged_model(
            experiment_id,
            name="".join("_" if character in "/:.%\"'" else character for character in package.name),
            source_run_id=run_id,
            tags={"cascade.stage": package.name, PROGRAM_TAG: package.digest, "mlflow.note.content": note},
            params=params(package.params),
            model_type="dspy.Module",
        )
    if str(model.status) != "READY":
        outputs = client.get_run(run_id).outputs
        if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        with tempfile.TemporaryDirectory() as folder:
            _save(package, Path(folder) / "model", model, run_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        model = client.finalize_logged_model(model.model_id, "READY")
    elif model.tags.get("mlflow.note.content") != note:
        client.set_logged_model_tags(model.model_id, {"mlflow.note.content": note})
    return model


def requirements(models: Mapping[str, str]) -> list[str]:
    """Pip requirements of a model: ours, with the embedded engine where an embedded LM is named, and DSPy's."""
    extra = "[embedded]" if any(model.startswith("embedded/") for model in models.values()) else ""
    try:
        ours = f"dspy-cascade{extra}=={importlib.metadata.version('dspy-cascade')}"
    except importlib.metadata.PackageNotFoundError:
        ours = f"dspy-cascade{extra}"
    return [ours, *(f"{name}=={importlib.metadata.version(name)}" for name in ("dspy", "mlflow"))]


def _config(run: RunRecord, source: Path, models: Mapping[str, Any]) -> dict[str, Any]:
    """What a loader must know; nothing of the run that made it, so that equal programs have equal configs."""
    forced = run.params.get("force_format")
    return {
        "format": 1,
        "experiment": run.experiment,
        "factory": run.factory["name"],
        "source": source.name,
        "inputs": list(run.inputs),
        "outputs": list(run.outputs),
        "settings": {} if forced is None else {"force_format": forced.lower() == "true"},
        **models,
    }


def _source(journal: Journal, run: RunRecord) -> Path:
    """The journal's copy if there is one, else the file where it was."""
    path = Path(run.factory.get("source", ""))
    for candidate in (journal.folder / path.name, journal.folder / "source.py", path):
        if candidate.is_file():
            return candidate
    raise ExperimentError(f"The program's source {str(path)!r} is not there any more.")


def _without_lms(state: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot has none; a state from anywhere else might hold a header or an endpoint."""
    bare = {name: {**part, "lm": None} for name, part in state.items() if isinstance(part, dict) and part.get("lm")}
    return {**state, **bare}


def _existing(client: Any, experiment_id: str, run_id: str, package: Package) -> Any:
    found = client.search_logged_models([experiment_id], filter_string=f"source_run_id = '{run_id}'")
    same = None
    for model in found:
        if model.tags.get(PROGRAM_TAG) == package.digest and same is None:
            same = model
        else:
            client.delete_logged_model(model.model_id)
    return same


def _save(package: Package, folder: Path, model: Any, run_id: str) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    def schema(names: list[str]) -> Any:
        return Schema([ColSpec(AnyType(), name, required=False) for name in names])

    with tempfile.TemporaryDirectory() as scratch:
        written = {CONFIG: package.config, STATE: package.state}
        for name, value in written.items():
            (Path(scratch) / name).write_text(json.dumps(value, indent=1) + "\n", "utf-8")
        files = [*(Path(scratch) / name for name in written), package.source, *package.weights.values()]
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(_ENTRY),
            artifacts={file.name: str(file) for file in files},
            signature=ModelSignature(schema(package.config["inputs"]), schema(package.config["outputs"])),
            pip_requirements=requirements({**package.config["predictors"], **package.config["lms"]}),
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                model_uuid=model.model_id,
                run_id=run_id,
                model_id=model.model_id,
                metadata={"factory": package.config["factory"], PROGRAM_TAG: package.digest},
            ),
        )
