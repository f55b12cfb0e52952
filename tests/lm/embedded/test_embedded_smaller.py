"""A smaller model made of the base: fewer layers, another quantisation, trained and stored as what it is."""

import hashlib
import threading

import pytest
import tiny_llama

from cascade.errors import ModelError, SettingsError
from cascade.lm.embedded import EmbeddedEngine, EmbeddedProvider
from cascade.lm.embedded.models import BASE, SMALLER, Models, write_json
from cascade.lm.lms import LMs
from cascade.settings import EMBEDDED, LMSpec, Settings

gguf = pytest.importorskip("gguf")
pytest.importorskip("torch")

from cascade.lm.embedded.gguf_file import GgufModel, requantise, write_trained  # noqa: E402

SMALL = "tiny-small"
MADE = {SMALL: {"quantisation": "Q4_0", "layers": (0, 2)}}
ROWS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n % 3}"}]}
    for n in range(8)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    return requantise(tiny_llama.write(folder / "f32.gguf"), folder / "base.gguf")


@pytest.fixture
def store(tmp_path, base):
    """A store whose base model is there."""
    models = Models(tmp_path / ".cascade", smaller=MADE)
    models.folder.mkdir(parents=True)
    (models.folder / f"{BASE}.gguf").write_bytes(base.read_bytes())
    facts = {"sha256": hashlib.sha256(base.read_bytes()).hexdigest(), "quantisation": "Q8_0"}
    write_json(models.folder / f"{BASE}.json", {**facts, "licence": "mine", "chat_template": tiny_llama.TEMPLATE})
    return models


def kinds(file):
    return {tensor.tensor_type.name for tensor in GgufModel(file).reader.tensors}


def values(file, name):
    (tensor,) = [tensor for tensor in GgufModel(file).reader.tensors if tensor.name == name]
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.mark.parametrize(("quantisation", "size"), [("Q8_0", 1.0), ("Q4_0", 0.53)])
@pytest.mark.parametrize("layers", [None, (0, 2), (2,)])
def test_a_copy_has_the_quantisation_and_the_layers_that_were_asked_for(base, tmp_path, quantisation, size, layers):
    file = requantise(base, tmp_path / "copy.gguf", quantisation=quantisation, layers=layers)
    model, kept = GgufModel(file), layers or range(tiny_llama.LAYERS)
    assert model.value("llama.block_count") == len(kept)
    assert model.value("general.file_type") == int(gguf.LlamaFileType[f"MOSTLY_{quantisation}"])
    assert kinds(file) == {"F32", quantisation}
    assert len(model.reader.tensors) == 2 + 9 * len(kept)
    for number, layer in enumerate(kept):
        ours, theirs = values(file, f"blk.{number}.ffn_up.weight"), values(base, f"blk.{layer}.ffn_up.weight")
        assert abs(ours - theirs).max() <= (0.0 if quantisation == "Q8_0" else 0.05)
    assert model.value("tokenizer.ggml.tokens") == GgufModel(base).value("tokenizer.ggml.tokens")
    network = model.load()
    assert (network.config.num_hidden_layers, len(network.model.layers)) == (len(kept), len(kept))
    if layers is None:
        matrices = sum(t.n_bytes for t in model.reader.tensors) / sum(t.n_bytes for t in GgufModel(base).reader.tensors)
        assert matrices == pytest.approx(size, abs=0.03)


@pytest.mark.parametrize("quantisation", ["Q8_0", "Q4_0"])
def test_weights_that_learned_nothing_are_written_as_they_were(base, tmp_path, quantisation):
    model = GgufModel(requantise(base, tmp_path / "small.gguf", quantisation=quantisation, layers=(0, 2)))
    again = GgufModel(write_trained(model, model.load().state_dict(), tmp_path / "again.gguf"))
    pairs = list(zip(model.reader.tensors, again.reader.tensors, strict=True))
    assert all(one.name == two.name and one.tensor_type == two.tensor_type for one, two in pairs)
    assert all((one.data == two.data).all() for one, two in pairs)
    assert model.value("general.file_type") == again.value("general.file_type")


def test_it_is_made_on_first_use_once_and_not_by_looking(store):
    store.find(f"embedded/{SMALL}")
    assert store.names() == [BASE]
    threads = [threading.Thread(target=store.path, args=(f"embedded/{SMALL}",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.names() == [BASE, SMALL]
    assert not list(store.folder.glob(".prepare-*"))
    made = store.path(SMALL).stat().st_mtime_ns
    facts = store.facts(SMALL)
    assert (facts["source"], facts["quantisation"], facts["licence"]) == (f"made of {BASE}", "Q4_0", "mine")
    assert store.identity(SMALL) != store.identity(BASE)
    assert store.vocabulary(SMALL) == store.vocabulary(BASE)
    assert store.prepare(SMALL).stat().st_mtime_ns == made


@pytest.mark.parametrize("name", ["large", "../x", ""])
def test_what_cannot_be_prepared_says_what_can(store, name):
    with pytest.raises(ModelError, match=rf"^{name!r} cannot be prepared\. There are: {BASE}, {SMALL};"):
        store.prepare(name)


def test_without_the_base_there_is_none_of_it(tmp_path):
    models = Models(tmp_path, smaller=MADE)
    with pytest.raises(ModelError, match=rf"No embedded model '{SMALL}' in .*Run `cascade models prepare {SMALL}`"):
        models.path(SMALL)


def test_it_is_trained_from_its_own_weights_and_stored_in_its_own_quantisation(store):
    engine = EmbeddedEngine(store)
    provider = EmbeddedProvider(engine)
    options = {"epochs": 1, "layers": 1, "learning_rate": 1e-3}
    name = provider.finetune(provider.TrainingJob(), f"embedded/{SMALL}", ROWS, "chat", options)
    assert name.startswith(f"embedded/{SMALL}-")
    assert kinds(store.path(name)) == {"F32", "Q4_0"}
    assert GgufModel(store.path(name)).value("llama.block_count") == 2
    facts = store.facts(name)
    assert (facts["root"], facts["quantisation"], facts["base"]) == (SMALL, "Q4_0", store.facts(SMALL)["sha256"])
    trained, before = values(store.path(name), "blk.1.ffn_up.weight"), values(store.path(SMALL), "blk.1.ffn_up.weight")
    assert (trained != before).any()
    frozen = [values(store.path(one), "blk.0.ffn_up.weight") for one in (name, SMALL)]
    assert (frozen[0] == frozen[1]).all()
    assert store.path(name).stat().st_size == store.path(SMALL).stat().st_size


def test_lms_know_it_as_cheaper_and_only_what_was_trained_as_weights(store, tmp_path):
    named = LMs(Settings(tmp_path, tmp_path / ".cascade", "", lm={"student": LMSpec(f"embedded/{SMALL}")}))
    named.__dict__["models"] = store
    assert named["student"].model == f"embedded/{SMALL}"
    assert store.names() == [BASE]  # an LM that is made loads nothing
    small, large = named.weights_gb(f"embedded/{SMALL}"), named.weights_gb(EMBEDDED)
    assert small and large and small < large
    assert (named.weights(f"embedded/{SMALL}"), named.weights(EMBEDDED)) == (None, None)
    with pytest.raises(SettingsError, match="LM 'x': No embedded model 'none'"):
        named._make(LMSpec("embedded/none"), "x")


def test_what_ships_can_be_made():
    for made in SMALLER.values():
        assert gguf.GGMLQuantizationType[made["quantisation"]]
        assert list(made["layers"]) == sorted(set(made["layers"]))
