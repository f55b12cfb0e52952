"""Facts about an experiment, for its checklist.

Invariant: looking calls no LM and writes nothing.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.checks import examine
from cascade.dataset import Data, load
from cascade.development.checklist import Facts
from cascade.development.naming import factories
from cascade.development.rating import judged_by, notes
from cascade.discover import discover, judging_parts, names
from cascade.errors import CascadeError, DefinitionError, MetricError
from cascade.experiment import NO_LEVER, Experiment
from cascade.lm.lms import LMs
from cascade.report.finding import runs
from cascade.running import ready
from cascade.settings import Settings
from cascade.sources import unwritten


def facts(name: str, settings: Settings, lms: LMs | None = None) -> Facts:
    """What is there.

    Raises:
        ExperimentError: there is no experiment of this name.
    """
    try:
        experiment = discover(name, settings.project)
    except DefinitionError as error:
        if name not in names(settings.project):
            raise
        return Facts(name, broken=_line(error), metric=("metric", False))
    metric = (experiment.metric.name, not unwritten(experiment.metric.judge))
    found = Facts(name, metric=metric, programs=tuple(factories(experiment)))
    try:
        data = load(experiment.dataset, settings.project)
    except DefinitionError as error:
        return replace(found, no_data=_line(error))
    units = {split.name: len(set(split.groups or split.ids)) for split in data}
    found = replace(
        found, units=units, grouped=data.dev.groups is not None, **_figures(experiment, data, settings.home)
    )
    try:
        prepared = ready(experiment, settings, lms, write=False)
    except MetricError:  # told of already
        return found
    except CascadeError as error:
        return replace(found, no_program=_line(error))
    return replace(found, errors=[str(one) for one in examine(prepared) if one.severity == "error"])


def _figures(experiment: Experiment, data: Data, home: Path) -> dict[str, Any]:
    """Scores that were made on today's rows by today's metric, and the newest comparison on them."""
    today = judged_by(judging_parts(experiment, data))
    ours = [run for run in runs(home, experiment.name, _quiet) if judged_by(dict(run.record.parts)) == today]
    told = [note for note in notes(home, experiment.name) if note["judged_by"] == today]
    different = [note for note in told if any(one != other for one, other in note["pairs"])]
    baseline = [
        run.baseline.metrics["dev_score"] for run in ours if run.baseline and "dev_score" in run.baseline.metrics
    ]
    best = [
        run.best.metrics.get("dev_score")
        for run in ours
        if run.best and any(stage.number and stage.lever != NO_LEVER and stage.status == "done" for stage in run.stages)
    ]
    return {
        "baseline": next(iter(baseline), None),
        "best": next(iter(best), None),
        "compared": different[-1]["says"] if different else "",
    }  # fmt: skip


def _line(error: CascadeError) -> str:
    return " ".join(str(error).split())


def _quiet(_: str) -> None:
    """Damaged journals are told of by `cascade show`."""
