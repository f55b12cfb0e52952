"""Saved views of MLflow's runs page: without them it shows no metric and no tag, and a chart of every metric.

The form is the page's own and undocumented (read from MLflow 3.17.2); a view that a later page does not understand is
ignored by it. Invariant: a view's text depends on nothing but this file, so that writing it again changes nothing.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
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
_LINE: dict[str, Any] = {
    "lineSmoothness": 0,
    "scaleType": "linear",
    "xAxisScaleType": "linear",
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "range": {},
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}
_CHARTS_OF_CASCADES = {
    "Scores": ("test_score", "baseline_test_score", "test_gain", "best_dev_score by step"),
    "Cost": ("lm_calls", "seconds", "cost_usd"),
}
_CHARTS_OF_STAGES = {
    "Scores": ("dev_score", "gain", "candidate_score by step"),
    "Cost": ("lm_calls", "seconds", "dev_score by lm_calls"),
}
"""Charts by section: a bar a run, a line by step, or a point a run by another metric."""
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
        "mlflow.sharedViewState.cascades": _view(
            "Cascades", cascades, "cascade.status", {**_NEWEST_FIRST, **_charts(_CHARTS_OF_CASCADES)}
        ),
        "mlflow.sharedViewState.stages": _view(
            "Stages", stages, "cascade.stage", {**_STAGES_IN_ORDER, **_charts(_CHARTS_OF_STAGES)}
        ),
    }


def _columns(kind: str, *names: str) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _charts(sections: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The charts of a view in their order, in place of one of each metric."""
    charts = [_chart(name, section) for section, names in sections.items() for name in names]
    shown = [
        {
            "uuid": section,
            "name": section,
            "display": True,
            "isReordered": False,
            "deleted": False,
            "isGenerated": False,
        }
        for section in sections
    ]
    # Without having been reordered, MLflow sorts sections by name.
    return {"compareRunCharts": charts, "compareRunSections": shown, "isAccordionReordered": True}


def _chart(name: str, section: str) -> dict[str, Any]:
    metric, _, by = name.partition(" by ")
    chart = {
        "uuid": f"{section} {name}",
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": name.replace("_", " "),
        "runsCountToCompare": 20,
    }
    if by == "step":
        return {**chart, "type": "LINE", "metricKey": metric, **_LINE}
    if by:
        axes = {axis: {"key": key, "type": "METRIC"} for axis, key in (("xaxis", by), ("yaxis", metric))}
        return {**chart, "type": "SCATTER", **axes}
    return {**chart, "type": "BAR", "metricKey": metric}


def _view(name: str, columns: list[str], tag: str, more: dict[str, Any]) -> str:
    """A view of the runs that have a tag."""
    runs = f"tags.{tag} LIKE '%'"
    state = {**_STATE, **more, "searchFilter": runs, "selectedColumns": columns, "columnOrder": columns}
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": _WRITTEN, "updatedAt": _WRITTEN, "state": f"deflate;{packed}"})
