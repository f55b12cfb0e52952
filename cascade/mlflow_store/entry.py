"""One MLflow run, read once and changed only where it differs from what it should be.

Invariant: writing the same values again sends nothing, so that publishing may be repeated at any time.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Values = Mapping[str, float]
_METRICS, _PARAMS = 1000, 100
"""What MLflow takes in one batch."""


class Entry:
    """A run in MLflow.

    Args:
        client: an `MlflowClient`.
        run: as it stands in the store.
    """

    def __init__(self, client: Any, run: Any) -> None:
        self.client = client
        self.id = str(run.info.run_id)
        self._run = run
        self._status = run.info.status

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        changed = [RunTag(key, value) for key, value in tags.items() if self._run.data.tags.get(key) != value]
        if changed:
            self.client.log_batch(self.id, tags=changed)
            self._run.data.tags.update({tag.key: tag.value for tag in changed})

    def params(self, params: Mapping[str, str]) -> None:
        """Log params. MLflow never changes one; what changed since is said in the tag `cascade.changed_params`."""
        from mlflow.entities import Param

        known = self._run.data.params
        new = [Param(key, value) for key, value in params.items() if key not in known]
        for start in range(0, len(new), _PARAMS):
            self.client.log_batch(self.id, params=new[start : start + _PARAMS])
        changed = {key: value for key, value in params.items() if known.get(key, value) != value}
        if changed:
            self.tags({"cascade.changed_params": json.dumps(changed)[:5000]})

    def metrics(self, metrics: Values) -> None:
        """Log metrics whose value is not the one that is shown."""
        known = self._run.data.metrics
        self._log((key, value, 0, {}) for key, value in metrics.items() if known.get(key) != value)

    def linked(self, metrics: Values, model: Any, dataset: Any) -> None:
        """Log metrics as this run's and as those of a model on a dataset."""
        known = {metric.key: metric.value for metric in model.metrics or () if metric.dataset_name == dataset.name}
        link = {"model_id": model.model_id, "dataset_name": dataset.name, "dataset_digest": dataset.digest}
        self._log((key, value, 0, link) for key, value in metrics.items() if known.get(key) != value)

    def steps(self, key: str, values: Mapping[int, float]) -> None:
        """Log one metric by step."""
        if not values:
            return
        logged = self.client.get_metric_history(self.id, key) if key in self._run.data.metrics else ()
        known = {metric.step: metric.value for metric in sorted(logged, key=lambda metric: metric.timestamp)}
        self._log((key, value, step, {}) for step, value in values.items() if known.get(step) != value)

    def inputs(self, datasets: Mapping[str, Any]) -> None:
        """Log datasets by context."""
        from mlflow.entities import DatasetInput, InputTag

        logged = self._run.inputs.dataset_inputs if self._run.inputs else ()
        known = {(given.dataset.name, given.dataset.digest) for given in logged}
        new = [
            DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", context)])
            for context, dataset in datasets.items()
            if (dataset.name, dataset.digest) not in known
        ]
        if new:
            self.client.log_inputs(self.id, datasets=new)

    def files(self, paths: Iterable[Path]) -> None:
        """Log files under their names; one of the same name is replaced."""
        for path in paths:
            self.client.log_artifact(self.id, str(path))

    def table(self, path: Path, columns: Any) -> None:
        """Log a table of columns so that MLflow shows it as one.

        `log_table` would append to the table of an earlier attempt; this writes the same form, whole.
        """
        names = list(columns)
        text = json.dumps({"columns": names, "data": [list(row) for row in zip(*columns.values(), strict=True)]})
        self.client.log_text(self.id, text, path.name)
        tables = json.loads(self._run.data.tags.get("mlflow.loggedArtifacts", "[]"))
        if (table := {"path": path.name, "type": "table"}) not in tables:
            self.tags({"mlflow.loggedArtifacts": json.dumps([*tables, table])})

    def status(self, status: str, ended: float | None) -> None:
        """End the run at `ended` (seconds), or take it up again."""
        if status == self._status:
            return
        self._status = status
        if status == "RUNNING":
            self.client.update_run(self.id, status=status)
        else:
            self.client.set_terminated(self.id, status, milliseconds(ended or time.time()))

    def _log(self, points: Iterable[tuple[str, float, int, Mapping[str, str]]]) -> None:
        from mlflow.entities import Metric

        now = milliseconds(time.time())
        batch: Sequence[Any] = [Metric(key, value, now, step, **link) for key, value, step, link in points]
        for start in range(0, len(batch), _METRICS):
            self.client.log_batch(self.id, metrics=batch[start : start + _METRICS])


def milliseconds(seconds: float) -> int:
    """MLflow's clock."""
    return round(seconds * 1000)
