"""The real model, prepared once: in `CASCADE_HOME`, or in `.cascade` of the repository."""

import os
from pathlib import Path

import pytest

from cascade.lm.embedded import EmbeddedEngine, Models


@pytest.fixture(scope="session")
def models() -> Models:
    home = Path(os.environ.get("CASCADE_HOME") or Path(__file__).parents[3] / ".cascade")
    store = Models(home)
    store.prepare()
    return store


@pytest.fixture(scope="session")
def engine(models):
    engine = EmbeddedEngine(models)
    yield engine
    engine.close()


@pytest.fixture
def scratch_models(models, tmp_path) -> Models:
    """A store of its own that shares the base weights by a hard link, so that training leaves nothing behind."""
    store = Models(tmp_path / "home")
    store.folder.mkdir(parents=True)
    base = models.path("smollm2-135m")
    try:
        os.link(base, store.folder / base.name)
    except OSError:
        (store.folder / base.name).symlink_to(base)
    (store.folder / "smollm2-135m.json").write_bytes(base.with_suffix(".json").read_bytes())
    return store
