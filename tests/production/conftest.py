import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from asking import Asked, Asking
from by_hand_versions import Shop


@pytest.fixture
def no_cache() -> Iterator[None]:
    """A script that changes must be asked: DSPy keeps answers over processes."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    yield
    dspy.cache = before


@pytest.fixture
def shop(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch, no_cache: None) -> Shop:
    """A project with an MLflow database; whoever asks MLflow's global store finds no server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Shop(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def asking(shop: Shop) -> Iterator[Asked]:
    """Makes applications of the shop's champion."""
    made: list[Asking] = []

    def make(**options: Any) -> Asking:
        made.append(Asking(shop, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
