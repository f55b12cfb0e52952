"""Where programs that exist are found: in files, in journals, in MLflow.

Invariant: nothing is decided here; what stands where is read by the room that knows it.
"""

from pathlib import Path

from cascade.errors import ExperimentError
from cascade.journal import Journal
from cascade.mlflow_store.programs import read_model
from cascade.program import Snapshot
from cascade.report.finding import Warn, named, newest
from cascade.settings import Settings
from cascade.warm import Existing, best_of, read_file

MODEL = "models:/"


def find(where: str | Path, experiment: str, settings: Settings, *, weights: bool = True) -> Existing:
    """A program that exists.

    Args:
        where: a file that DSPy's `program.save` wrote or a run's folder (relative to the working directory, else to the
            project), `models:/NAME@ALIAS` or `models:/NAME/VERSION`, or a run's id, with `/STAGE` for a stage of it.
        experiment: whose runs ids are looked for in.
        weights: bring the trained weights of a model of MLflow here; False writes nothing.

    Raises:
        ExperimentError: there is nothing, or it is no program.
        TrackingError: no such model, or MLflow cannot be reached.
    """
    text = str(where)
    if text.startswith(MODEL):
        return read_from_mlflow(text, settings, weights=weights)
    for folder in (Path.cwd(), settings.project):
        path = (folder / text).absolute()
        if path.exists():
            inside = path.is_relative_to(settings.project)
            return read_file(path.relative_to(settings.project) if inside else path, settings.project, settings.home)
    try:
        return find_run(text, experiment, settings)
    except ExperimentError as error:
        raise ExperimentError(
            f"start = {text!r} is no file and no model (models:/NAME@ALIAS), and as a run: {error}"
        ) from None


def of_newest_run(experiment: str, settings: Settings, warn: Warn) -> Existing:
    """The best program of the newest run that judged one.

    Raises:
        ExperimentError: there is none.
    """
    run = newest(settings.home, experiment, 1, warn, judged=True)[0]
    return best_of(Journal(run.folder), run.id)


def find_run(run: str, experiment: str, settings: Settings) -> Existing:
    """The best program of a run, or that of a stage.

    Args:
        run: its id, or the beginning or the end of it; with `/STAGE`, the name or the folder of a stage.

    Raises:
        ExperimentError: there is no such run, or it has no program.
    """
    wanted, _, stage = run.partition("/")
    found = named(settings.home, experiment, [wanted])[0]
    return best_of(Journal(found.folder), f"{found.id}/{stage}" if stage else found.id, stage)


def read_from_mlflow(uri: str, settings: Settings, *, weights: bool = True) -> Existing:
    """The program of a model; see `cascade.mlflow_store.programs.read_model`.

    Raises:
        TrackingError: no such model, or MLflow cannot be reached.
    """
    saved = read_model(uri, settings, weights=weights)
    version = f", version {saved.version}" if saved.version and not uri.endswith(f"/{saved.version}") else ""
    return Existing(
        uri,
        f"{uri}{version}",
        Snapshot(saved.state, saved.config["predictors"]),
        saved.config["lms"],
        coming=frozenset() if weights else frozenset(saved.config["weights"]),
        factory=saved.config["factory"],
    )
