"""The promotion log in MLflow: a run of the experiment for each entry, so that every machine knows all of them.

Invariant: an entry is there when its run has the tag `cascade.promotion`, which is set last; the entry itself is the
artifact `promotion.json`.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cascade.mlflow_store.entry import milliseconds
from cascade.mlflow_store.store import experiment_id

KIND = "promotion"
FILE = "promotion.json"
_TAG = "cascade.promotion"


def push(client: Any, uri: str, experiment: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Send the entries that MLflow does not have.

    Args:
        experiment: its name in MLflow.
        entries: plain values, of which `id`, `at`, `event`, `version`, `who`, `reason` and `figures` are shown.
    """
    place = experiment_id(client, uri, experiment)
    there = _runs(client, place)
    for entry in entries:
        if entry["id"] not in there:
            _send(client, place, entry)


def pull(client: Any, uri: str, experiment: str, known: Iterable[str]) -> list[Any]:
    """The entries that MLflow has beyond the `known` ids, as plain values.

    Raises:
        ValueError: an entry's file is no JSON.
    """
    wanted = _runs(client, experiment_id(client, uri, experiment))
    for id_ in known:
        wanted.pop(id_, None)
    with tempfile.TemporaryDirectory() as folder:
        return [
            json.loads(Path(client.download_artifacts(run, FILE, folder)).read_text("utf-8")) for run in wanted.values()
        ]


def _runs(client: Any, experiment: str) -> dict[str, str]:
    """Run id by entry id."""
    found: dict[str, str] = {}
    token = None
    while True:
        page = client.search_runs(
            [experiment], filter_string=f"tags.`cascade.kind` = '{KIND}'", max_results=1000, page_token=token
        )
        found |= {run.data.tags[_TAG]: run.info.run_id for run in page if _TAG in run.data.tags}
        if not (token := page.token):
            return found


def _send(client: Any, experiment: str, entry: Mapping[str, Any]) -> None:
    from mlflow.entities import Metric, RunTag

    at = milliseconds(entry["at"])
    shown = {
        "cascade.kind": KIND,
        "cascade.event": entry["event"],
        "cascade.version": entry["version"],
        "cascade.who": entry["who"],
        "mlflow.note.content": entry["reason"],
    }
    run = client.create_run(
        experiment, at, tags=shown, run_name=f"{entry['event'].replace('_', '-')}-v{entry['version'] or 'none'}"
    ).info.run_id
    client.log_text(run, json.dumps(entry, indent=1, ensure_ascii=False) + "\n", FILE)
    numbers = {key: value for key, value in entry["figures"].items() if isinstance(value, int | float)}
    metrics = [Metric(_METRICS.get(key, key), float(value), at, 0) for key, value in numbers.items()]
    client.log_batch(run, metrics=metrics, tags=[RunTag(_TAG, entry["id"])])
    client.set_terminated(run, "FINISHED", at)


_METRICS = {
    "score": "test_score",
    "reference_score": "baseline_test_score",
    "gain": "test_gain",
    "gain_ci_low": "test_gain_ci_low",
    "gain_ci_high": "test_gain_ci_high",
}
"""Figures of a look that have a name in the runs of cascades."""
