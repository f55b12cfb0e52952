import shutil
from pathlib import Path
from typing import Any

import pytest

from cascade.mlflow_store import store


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks MLflow's global store instead of the one that was given finds no server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def client(uri: str) -> Any:
    with store.reaching(uri, "could not be opened", ""):
        return store.connect(uri)
