"""`cascade.run`: settings, runner, report and MLflow put together.

Invariant: nothing is decided here; a caller that wants other parts puts them together in the same few lines.
"""

from dataclasses import replace
from pathlib import Path

from cascade.check import Prepared, prepare
from cascade.discover import source_file
from cascade.existing import find
from cascade.experiment import Experiment
from cascade.journal import Tracker
from cascade.lm.lms import LMs
from cascade.mlflow_store import MlflowTracker
from cascade.progress import Progress
from cascade.report.tracker import ReportTracker
from cascade.result import Result
from cascade.runner import execute
from cascade.settings import Settings, load_settings


def run(
    experiment: Experiment,
    *,
    start: str | Path | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    new: bool = False,
    fresh: bool = False,
) -> Result:
    """Run an experiment and log it to MLflow.

    Args:
        start: a program that exists, which is judged as the first stage, `start`, and takes part like any that is kept:
            a file that DSPy's `program.save` wrote, the id of an earlier run (with `/STAGE` for one of its stages) or
            its folder, or `models:/NAME@ALIAS`. Default: what the experiment says.
        settings: default: those of the project around the working directory.
        progress: is told what happens; default: nobody.
        new: start over although an interrupted run of the same definition exists.
        fresh: ask the models again, whatever the ledger holds.

    Raises:
        DefinitionError: something is wrong that was found before anything was spent.
        CascadeError: the baseline cannot be judged, or the experiment runs elsewhere already.
        Interrupted: Ctrl-C or SIGTERM; running again goes on.
    """
    settings = settings or load_settings()
    prepared = ready(replace(experiment, start=start) if start else experiment, settings)
    return execute(prepared, tracker=tracker(settings, prepared.lms), progress=progress, new=new, fresh=fresh)


def ready(experiment: Experiment, settings: Settings, lms: LMs | None = None, *, write: bool = True) -> Prepared:
    """An experiment that can run, with the program that it begins from.

    Args:
        lms: default: those that settings name.
        write: False leaves weights that would come with that program where they are: to look and not to run.

    Raises:
        DefinitionError: the first thing that is wrong; nothing was spent.
        TrackingError: the program stands in MLflow and could not be read.
    """
    name = experiment.name or source_file(experiment).stem
    return prepare(experiment, settings, lms, lambda where: find(where, name, settings, weights=write))


def tracker(settings: Settings, lms: LMs, *, log: bool = True) -> Tracker:
    """Writes the report into the journal, then shows it to the MLflow that settings name.

    Args:
        lms: know where embedded weights are.
        log: False leaves MLflow out.
    """
    mlflow = MlflowTracker(
        settings.tracking_uri,
        weights=lms.weights,
        model_prefix=settings.model_prefix,
        experiment_prefix=settings.experiment_prefix,
    )
    return ReportTracker(mlflow if log else None)
