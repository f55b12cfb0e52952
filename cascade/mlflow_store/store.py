"""MLflow's store, reached quickly or not at all.

MLflow waits minutes for a server or database that is down, prints where it has nothing to say, and keeps its state in
globals. Invariant: nothing global of MLflow is set (no tracking URI, no active run), a store that is down is noticed
within seconds, and no password of a URI is ever shown.
"""

import contextlib
import logging
import os
import re
import socket
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cascade.errors import CascadeError, TrackingError
from cascade.redaction import redacted

ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""Defaults for MLflow; what is set outside wins."""
PATIENCE = 5.0
"""Seconds in which a store must show that it is there."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def connect(uri: str, *, ours: bool = True) -> Any:
    """An `MlflowClient` for a store that answers; raises whatever kept it from answering.

    Args:
        ours: whether the process is cascade's, so that `ENVIRONMENT` is what MLflow goes by in it; a service that
            loads a program goes by its own.
    """
    if ours:
        _settle()
    _knock(uri)
    from mlflow import MlflowClient

    # Databricks keeps models in Unity Catalog; its older registry knows no prompts.
    registry = re.sub(r"^databricks(?=$|://)", "databricks-uc", uri)
    return MlflowClient(tracking_uri=uri, registry_uri=registry)


def _settle() -> None:
    """Let MLflow go by `ENVIRONMENT`; it decides on telemetry when it is first imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def reaching(uri: str, doing: str, consequence: str, *, ours: bool = True) -> Iterator[None]:
    """Turn every failure inside into a `TrackingError` of one line, and keep MLflow and its database quiet.

    Args:
        doing: such as `could not be written`.
        consequence: a sentence: what was lost, and what to do.
        ours: as for `connect`.
    """
    if ours:
        _settle()
    try:
        with _QUIET:
            yield
    except CascadeError:
        raise
    except Exception as error:
        reason = redact(redacted(" ".join(str(error).split())) or type(error).__name__)[:300].rstrip(".")
        raise TrackingError(f"MLflow at {redact(uri)!r} {doing}: {reason}. {consequence}") from error


def redact(text: str) -> str:
    """The text without user names and passwords in URIs.

    >>> redact("postgresql://me:secret@db/mlflow")
    'postgresql://***@db/mlflow'
    """
    return re.sub(r"(\w://)[^/\s@]+@", r"\1***@", text)


def sqlite_path(uri: str) -> Path | None:
    """The database file of a SQLite URI, else None."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).resolve()


def experiment_id(client: Any, uri: str, name: str) -> str:
    """The experiment's id; it is created when it is not there, also when another process does so at once."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifacts(uri, name)))
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"Experiment {name!r} was deleted in MLflow at {redact(uri)!r}. "
            f"Bring it back with `mlflow experiments restore -x {found.experiment_id}`."
        )
    return str(found.experiment_id)


def _artifacts(uri: str, name: str) -> str | None:
    """Beside a SQLite database, not in whatever folder this process was started; else as the server decides."""
    path = sqlite_path(uri)
    return (path.parent / "mlruns" / name.strip("/")).as_uri() if path else None


def _knock(uri: str) -> None:
    if uri.startswith(("http://", "https://")):
        import requests

        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=PATIENCE)
        except requests.Timeout:
            raise ConnectionError(f"it did not answer within {PATIENCE:g} s") from None
        except requests.ConnectionError:
            raise ConnectionError("no server answers there") from None
    elif path := sqlite_path(uri):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    else:
        parts = urlsplit(uri)
        port = parts.port or _PORTS.get(parts.scheme.partition("+")[0])
        if parts.hostname and port:
            socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()


class _Quiet:
    """Keeps MLflow and its database from logging and warning, while anyone is inside.

    A run publishes in the background, so nothing here may undo what another thread does: levels come back when the last
    one leaves, and warnings are filtered by module for good, because `warnings.catch_warnings` is not for threads.
    """

    _loggers = ("mlflow", "alembic")
    _warners = r"(mlflow|sqlalchemy|alembic|<sqlalchemy)\b.*"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._levels: list[int] = []

    def __enter__(self) -> None:
        warnings.filterwarnings("ignore", module=self._warners)
        import mlflow.utils.logging_utils  # noqa: F401 - it sets levels when it is first imported, so before ours

        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._levels = [logging.getLogger(name).level for name in self._loggers]
                for name in self._loggers:
                    logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for name, level in zip(self._loggers, self._levels, strict=True):
                    logging.getLogger(name).setLevel(level)


_QUIET = _Quiet()
