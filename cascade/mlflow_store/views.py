"""Saved views of MLflow's runs page: without them it shows no metric and no tag.

The form is the page's own and undocumented (read from MLflow 3.17.2); a view that a later page does not understand is
ignored by it. Invariant: a view's text depends on nothing but this file, so that writing it again changes nothing.
"""

import base64
import json
import zlib
from typing import Any

_STATE: dict[str, Any] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "columnWidths": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "FIRST_20_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    "runsExpanded": {},
}
_NEWEST_FIRST = {"orderByKey": "attributes.start_time", "orderByAsc": False}
_STAGES_IN_ORDER = {"orderByKey": "tags.`cascade.stage`", "orderByAsc": True}
"""By when a run began, the page folds stages into their cascades; by anything else it lists them."""
_WRITTEN = 1_760_000_000_000
"""When these views were written, in ms."""


def experiment_tags() -> dict[str, str]:
    """Tags of an experiment: its kind, the metric it is about, and the views `cascades` and `stages`."""
    cascades = _columns(
        "metrics", "baseline_test_score", "test_score", "test_gain", "best_dev_score", "lm_calls", "seconds"
    )
    cascades += _columns("tags", "cascade.status", "cascade.best_stage", "cascade.proven", "cascade.kind")
    stages = _columns("tags", "cascade.verdict", "cascade.kept", "cascade.next")
    stages += _columns("metrics", "dev_score", "gain", "lm_calls", "seconds") + _columns("params", "optimizer")
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "dev_score",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
        "mlflow.sharedViewState.cascades": _view("Cascades", cascades, "cascade.status", _NEWEST_FIRST),
        "mlflow.sharedViewState.stages": _view("Stages", stages, "cascade.stage", _STAGES_IN_ORDER),
    }


def _columns(kind: str, *names: str) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _view(name: str, columns: list[str], tag: str, order: dict[str, Any]) -> str:
    """A view of the runs that have a tag."""
    runs = f"tags.{tag} LIKE '%'"
    state = {**_STATE, **order, "searchFilter": runs, "selectedColumns": columns, "columnOrder": columns}
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": _WRITTEN, "updatedAt": _WRITTEN, "state": f"deflate;{packed}"})
