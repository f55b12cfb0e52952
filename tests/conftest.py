"""What all tests share: no test reads the settings, the keys or the MLflow store of who runs it."""

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-seconds", type=float, default=20.0, help="how long a server is kept under load")
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/cli anew")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CASCADE_") and name != "CASCADE_HOME":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once because making them takes seconds; copy it."""
    from cascade.mlflow_store import store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with store.reaching(f"sqlite:///{path}", "could not be made", ""):
        store.connect(f"sqlite:///{path}").search_experiments()
    return path
