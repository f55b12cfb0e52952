"""Facts about an experiment, for its checklist.

Invariant: looking calls no LM and writes nothing.
"""

from pathlib import Path
from typing import Any

from cascade.check import Prepared, prepare
from cascade.checks import examine
from cascade.dataset import load
from cascade.development.checklist import Facts
from cascade.development.naming import factories
from cascade.development.rating import judged_by, notes
from cascade.discover import discover
from cascade.errors import CascadeError, DefinitionError, MetricError
from cascade.experiment import Experiment
from cascade.journal import RunRecord
from cascade.lm.lms import LMs
from cascade.report.finding import runs
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
        if not (settings.project / "experiments" / f"{name}.py").exists():
            raise
        return Facts(name, broken=_line(error), metric=("metric", False), no_data="not looked at")
    found = Facts(
        name,
        metric=(experiment.metric.name, not unwritten(experiment.metric.judge)),
        programs=tuple(factories(experiment)),
        **_rows(experiment, settings.project),
    )
    if not found.units:
        return found
    try:
        prepared = prepare(experiment, settings, lms)
    except MetricError:  # told of already
        return found
    except DefinitionError as error:
        return Facts(**{**vars(found), "no_program": _line(error)})
    errors = [str(one) for one in examine(prepared) if one.severity == "error"]
    return Facts(**{**vars(found), "errors": errors, **_figures(prepared, settings.home)})


def _rows(experiment: Experiment, project: Path) -> dict[str, Any]:
    try:
        data = load(experiment.dataset, project)
    except DefinitionError as error:
        return {"no_data": _line(error)}
    units = {split.name: len(set(split.groups or split.ids)) for split in data}
    return {"units": units, "grouped": data.dev.groups is not None}


def _figures(prepared: Prepared, home: Path) -> dict[str, Any]:
    """Scores that were made on today's rows by today's metric, and the newest comparison on them."""
    ours = [run for run in runs(home, prepared.name, _quiet) if _same(run.record, prepared)]
    told = [note for note in notes(home, prepared.name) if note["judged_by"] == judged_by(prepared.parts)]
    different = [note for note in told if any(one != other for one, other in note["pairs"])]
    baseline = [
        run.baseline.metrics["dev_score"] for run in ours if run.baseline and "dev_score" in run.baseline.metrics
    ]
    best = [
        run.best.metrics.get("dev_score")
        for run in ours
        if run.best and any(stage.number and stage.status == "done" for stage in run.stages)
    ]
    return {
        "baseline": next(iter(baseline), None),
        "best": next(iter(best), None),
        "compared": different[-1]["says"] if different else "",
    }  # fmt: skip


def _same(record: RunRecord, prepared: Prepared) -> bool:
    return judged_by(dict(record.parts)) == judged_by(prepared.parts)


def _line(error: CascadeError) -> str:
    return " ".join(str(error).split())


def _quiet(_: str) -> None:
    """Damaged journals are told of by `cascade show`."""
