"""What is printed so that a person finds a run: a link, or the command that opens the store.

Invariant: every link asks for MLflow's classic view; without that a fresh browser opens on an empty page.
"""

from cascade.mlflow_store.store import redact

_VIEW = "workflowType=machine_learning"


def run_link(uri: str, experiment_id: str, run_id: str) -> str:
    """A run's page, or for a store without a server the command that starts one and the page's path.

    >>> run_link("http://localhost:5000", "1", "ab")
    'http://localhost:5000/#/experiments/1/runs/ab?workflowType=machine_learning'
    >>> run_link("sqlite:///mlflow.db", "1", "ab")
    'cascade ui, then /#/experiments/1/runs/ab?workflowType=machine_learning'
    """
    return _link(uri, f"/#/experiments/{experiment_id}/runs/{run_id}?{_VIEW}")


def view_path(experiment_id: str, view: str, *, charts: bool = False) -> str:
    """An experiment's runs in a saved view, as a table or as charts, as a link inside MLflow's own pages.

    Args:
        view: `cascades` or `stages`, see `cascade.mlflow_store.views`.

    >>> view_path("1", "stages")
    '#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=stages'
    """
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"#/experiments/{experiment_id}/runs?{_VIEW}&viewStateShareKey={view}{mode}"


def views_in_markdown(experiment_id: str) -> str:
    """Links to the saved views, for a description."""
    pages = {
        "Runs": view_path(experiment_id, "cascades"),
        "stages": view_path(experiment_id, "stages"),
        "charts of stages": view_path(experiment_id, "stages", charts=True),
    }
    return " · ".join(f"[{name}]({path})" for name, path in pages.items())


def traces_path(experiment_id: str, run_id: str, incumbent: str = "") -> str:
    """A run's traces, beside those of another run on the same examples, as a link inside MLflow's own pages.

    >>> traces_path("1", "ab", "cd")
    '#/experiments/1/runs/ab/traces?workflowType=machine_learning&compareToRunUuid=cd'
    """
    beside = f"&compareToRunUuid={incumbent}" if incumbent else ""
    return f"#/experiments/{experiment_id}/runs/{run_id}/traces?{_VIEW}{beside}"


def trace_link(uri: str, experiment_id: str, trace_id: str) -> str:
    """A trace's page, as `run_link`.

    >>> trace_link("sqlite:///mlflow.db", "1", "tr-ab")
    'cascade ui, then /#/experiments/1/traces?workflowType=machine_learning&selectedEvaluationId=tr-ab'
    """
    return _link(uri, f"/#/experiments/{experiment_id}/traces?{_VIEW}&selectedEvaluationId={trace_id}")


def _link(uri: str, path: str) -> str:
    if uri.startswith(("http://", "https://")):
        return redact(uri).replace("***@", "").rstrip("/") + path
    return f"cascade ui, then {path}"
