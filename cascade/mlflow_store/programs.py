"""Programs out of MLflow, ready to call.

Invariant: a program runs under the LMs it was judged with and under its own context; nothing of DSPy's or MLflow's
global state is set, and two programs in one process share no code, whatever their files are called.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from cascade.discover import import_file
from cascade.ensemble import built
from cascade.errors import ExperimentError, ModelError, TrackingError
from cascade.fields import image_from, plain, typed, types_of
from cascade.lm.bound_program import BoundProgram
from cascade.lm.lms import LMs
from cascade.lm.named import offering
from cascade.mlflow_store.models import CONFIG, STATE
from cascade.mlflow_store.store import connect, reaching
from cascade.nearest import function_in
from cascade.program import Snapshot, fields_of_state, restore
from cascade.redaction import told
from cascade.settings import LMSpec, Settings, load_settings

MakeLMs = Callable[[Settings], LMs]
_FIELDS = {
    "factory": str, "source": str, "inputs": list, "outputs": list, "settings": dict, "predictors": dict, "lms": dict,
    "weights": dict,
}  # fmt: skip
_MODEL = "Give NearestDemos the model string of an embedder, and run the experiment again."
_AGAIN = "Log the program again, or remove the folder to fetch it once more."
_URI = re.compile(r"models:/+(?:(?P<id>m-[0-9a-f]{32})|(?P<name>[^@/]+)(?:@(?P<alias>[^@/]+)|/(?P<version>\d+)))/?")


class Program(BoundProgram):
    """A program out of MLflow, with the LMs it was judged with.

    Args:
        config: as in the model's `config.json`.
    """

    def __init__(self, module: Any, lms: LMs, config: Mapping[str, Any]) -> None:
        super().__init__(module, lms)
        self.config = config

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Output fields for a row, as JSON values; fields of the row that are no inputs are left out.

        Inputs have the types that the program declares; an image is a URL or a data URI.

        Raises:
            ValueError: an input cannot be of its type.
        """
        names, image = self.config["inputs"] or list(row), image_from(Path(), {})  # no file of this machine
        given = {name: row[name] for name in names if name in row}
        types = types_of(self.module)
        prediction = self(**{n: typed(one, types[n], image) if n in types else one for n, one in given.items()})
        found = prediction.toDict() if hasattr(prediction, "toDict") else {"prediction": prediction}
        return dict(plain({name: found[name] for name in self.config["outputs"] if name in found} or found))


def load_program(model_uri: str, settings: Settings | None = None, *, lms: MakeLMs = LMs) -> Program:
    """Load a program from MLflow.

    Its files are kept under `<home>/programs`, its weights in the store of embedded weights; the next time only the
    URI is looked up.

    Args:
        model_uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/MODEL_ID`.
        settings: default: those of the working directory.
        lms: makes its LMs; give a function that shares one engine to hold several programs in one process.

    Raises:
        TrackingError: no such model, or the store cannot be reached.
        SettingsError: an LM that it needs has no key.
        ModelError: its weights do not have the content that their name says, or their base model is missing.
    """
    settings = settings or load_settings()
    with reaching(settings.tracking_uri, "could not be read", f"{model_uri} was not loaded.", ours=False):
        client = connect(settings.tracking_uri, ours=False)
        folder = _download(client, _model_id(client, model_uri)[0], settings)
    return rebuild(folder, settings, lms=lms)


@dataclass(frozen=True)
class Saved:
    """The files of a model, read and not run.

    Args:
        version: of the registered model; "" where the URI names the model itself.
        config: as in its `config.json`.
        state: by predictor, without LMs.
    """

    version: str
    config: Mapping[str, Any]
    state: Mapping[str, Any]


def read_model(model_uri: str, settings: Settings, *, weights: bool) -> Saved:
    """Read a model's files.

    Args:
        model_uri: see `load_program`.
        weights: put its trained weights into the store of embedded weights; False writes nothing anywhere.

    Raises:
        TrackingError: no such model, or the store cannot be reached.
        ModelError: its weights do not have the content that their name says, or their base model is missing.
    """
    with reaching(settings.tracking_uri, "could not be read", f"{model_uri} was not read."):
        client = connect(settings.tracking_uri)
        model_id, version = _model_id(client, model_uri)
        if weights:
            return _saved(_download(client, model_id, settings), version)
        with tempfile.TemporaryDirectory() as scratch:
            _fetch_small(_fetcher(client, model_id, settings), Path(scratch))
            return _saved(Path(scratch), version)


def _saved(folder: Path, version: str) -> Saved:
    state = {name: {**part, "lm": None} for name, part in _read(folder / STATE).items() if isinstance(part, dict)}
    return Saved(version, _config(folder), state)


def rebuild(folder: Path, settings: Settings | None = None, *, lms: MakeLMs = LMs) -> Program:
    """A program from the files of a model; see `load_program`."""
    config = _config(folder)
    made = lms(_as_judged(settings or load_settings(), config))
    for model, name in config["weights"].items():
        _install(model, folder / name, made.models)
    factory = _factory(folder / config["source"], config["factory"])
    try:
        with offering(made):
            taken = Snapshot(_state(folder, factory), config["predictors"])
            module = restore(factory, taken, made.by_model)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrackingError(f"{folder / STATE} does not fit the program: {told(error)}. {_AGAIN}") from error
    return Program(module, made, config)


def _config(folder: Path) -> dict[str, Any]:
    """A model's config; it names files of its own folder only."""
    config = _read(folder / CONFIG)
    if missing := [name for name, kind in _FIELDS.items() if not isinstance(config.get(name), kind)]:
        raise TrackingError(f"{folder / CONFIG} is damaged: {missing[0]!r} is missing or of another kind. {_AGAIN}")
    for name in (config["source"], *config["weights"].values()):
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).suffix:
            raise TrackingError(f"{folder / CONFIG} is damaged: {name!r} is no file of the model. {_AGAIN}")
    return config


def _state(folder: Path, factory: Callable[[], Any]) -> dict[str, Any]:
    """A model's state, as far as the program has such fields, and without LMs.

    DSPy sets every field that it finds, and builds the LMs that it finds: one that was added could send the key
    elsewhere. An embedder that is a function could be any function.
    """
    state = {name: part for name, part in _read(folder / STATE).items() if isinstance(part, dict)}
    for part in state.values():
        if refused := function_in(part):
            raise TrackingError(
                f"{folder / STATE} has the function {refused!r} as embedder, which is not run. {_MODEL}"
            )
    own = {name: fields_of_state(parameter) for name, parameter in built(factory, state).named_parameters()}
    return {
        name: {field: None if field == "lm" else value for field, value in part.items() if field in own[name]}
        for name, part in state.items()
        if name in own
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TrackingError(f"{path} is damaged: {told(error)}. {_AGAIN}") from None
    if not isinstance(value, dict):
        raise TrackingError(f"{path} is damaged: it holds no object. {_AGAIN}")
    return value


def _model_id(client: Any, uri: str) -> tuple[str, str]:
    """The id of a logged model, and its version in the registry or ""."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise TrackingError(
            f"{uri!r} is no model. Give models:/NAME@champion, models:/NAME/VERSION or models:/MODEL_ID."
        )
    if match["id"]:
        return match["id"], ""
    if match["alias"]:
        version = client.get_model_version_by_alias(match["name"], match["alias"])
    else:
        version = client.get_model_version(match["name"], match["version"])
    found = version.tags.get("cascade.model_id")
    if not found:
        raise TrackingError(f"{uri!r} was not registered by cascade: it has no tag cascade.model_id.")
    return str(found), str(version.version)


def _download(client: Any, model_id: str, settings: Settings) -> Path:
    """A folder with the model's small files; weights go straight into the store of weights, unless they are there."""
    folder, fetch = settings.home / "programs" / model_id, _fetcher(client, model_id, settings)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        draft = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        _fetch_small(fetch, draft)
        with contextlib.suppress(OSError):
            draft.rename(folder)
        shutil.rmtree(draft, ignore_errors=True)
    weights, models = _config(folder)["weights"], LMs(settings).models
    for model in [model for model in weights if not _stored(models, model)]:
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as scratch:
            fetch(weights[model], Path(scratch))
            _install(model, Path(scratch) / weights[model], models)
    return folder


def _fetcher(client: Any, model_id: str, settings: Settings) -> Callable[[str, Path], None]:
    """What fetches a file of a model into a folder."""
    from mlflow.artifacts import download_artifacts

    root = f"{client.get_logged_model(model_id).artifact_location.rstrip('/')}/artifacts"

    def fetch(name: str, into: Path) -> None:
        download_artifacts(artifact_uri=f"{root}/{name}", dst_path=str(into), tracking_uri=settings.tracking_uri)

    return fetch


def _fetch_small(fetch: Callable[[str, Path], None], into: Path) -> None:
    fetch(CONFIG, into)
    for name in (STATE, _config(into)["source"]):
        fetch(name, into)


def _as_judged(settings: Settings, config: Mapping[str, Any]) -> Settings:
    """Settings under which every name means the model it meant when the program was judged.

    Options, such as an endpoint, are taken from whatever name has the same model today.
    """
    specs = dict(settings.lm)
    for name, model in config["lms"].items():
        if settings.lm_named(name).model != model:
            specs[name] = next((spec for spec in settings.lm.values() if spec.model == model), LMSpec(model))
    return replace(settings, lm=specs, **config["settings"])


def _factory(source: Path, name: str) -> Callable[[], Any]:
    """The factory, from its file under a name made from the content: no other program's file has that name."""
    module = f"cascade_program_{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    found = sys.modules.get(module) or import_file(source, module)
    try:
        factory: Callable[[], Any] = attrgetter(name)(found)
    except AttributeError:
        raise ExperimentError(f"{source} defines no {name!r}, the factory of the program.") from None
    if not callable(factory) or getattr(factory, "__module__", module) != module:
        raise ExperimentError(f"{name!r} is no factory that {source} defines.")
    return factory


def _stored(models: Any, model: str) -> bool:
    try:
        models.path(model)
    except ModelError:
        return False
    return True


def _install(model: str, file: Path, models: Any) -> None:
    """Put weights into the local store under the name that their content gives them."""
    if _stored(models, model):
        return
    with file.open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()[:12]
    wanted = model.removeprefix("embedded/")
    base, _, expected = wanted.rpartition("-")
    if digest != expected:
        raise ModelError(f"The weights {file} of {model!r} are damaged: they are {digest}. Train them again.")
    models.folder.mkdir(parents=True, exist_ok=True)
    copy = models.folder / f".{file.name}.{os.getpid()}"
    shutil.copyfile(file, copy)
    if (name := models.add(copy, base=base, recipe=f"loaded-{digest}")) != wanted:
        raise ModelError(f"Weights {model!r} were stored as {name!r}. Train them again.")
