"""GGUF files of llama models: read as torch weights, written back, and made smaller.

It exists because no converter is needed: a fine-tuned model differs from its base in tensor values only.
Invariant: metadata, tensor names and quantisation of trained weights are those of the file they were trained from; a
smaller copy differs from its source in what it was asked to differ in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cascade.errors import ModelError

Array = Any
"""A numpy array; numpy is not imported for a type."""

_BLOCK = 32
"""Values that share a scale in Q8_0; a row must be a multiple of it."""

_LAYER_PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


@dataclass(frozen=True)
class GgufModel:
    """A llama model in a GGUF file, read on first use; that takes seconds, most of them for the vocabulary."""

    path: Path

    @cached_property
    def reader(self) -> Any:
        """gguf's reader; raises `ModelError` if the file is no GGUF file of a llama model."""
        import gguf

        try:
            reader = gguf.GGUFReader(str(self.path))
            architecture = reader.fields["general.architecture"].contents()
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ModelError(
                f"{self.path} is no readable GGUF file ({error}). Delete it and prepare it again."
            ) from None
        if architecture != "llama":
            raise ModelError(f"{self.path} holds a {architecture!r} model; only llama models are supported.")
        return reader

    def value(self, key: str) -> Any:
        """A metadata value, such as `llama.block_count`; raises `ModelError` if there is none."""
        if key not in self.reader.fields:
            raise ModelError(f"{self.path} has no {key!r} in its metadata.")
        return self.reader.fields[key].contents()

    def state_dict(self) -> dict[str, Any]:
        """Float32 torch tensors by their Hugging Face names."""
        import gguf
        import numpy as np
        import torch

        state = {}
        for tensor in self.reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            state[hf_name(tensor.name)] = torch.from_numpy(_unpermute(values, self._heads(tensor.name)))
        return state

    def load(self) -> Any:
        """The model as a `transformers.LlamaForCausalLM` in float32, ready to train."""
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.initialization import no_init_weights

        state = self.state_dict()
        tied = "lm_head.weight" not in state
        with no_init_weights():
            model = LlamaForCausalLM(LlamaConfig(**self._config(), tie_word_embeddings=tied))
        # Without initialisation transformers does not tie the output to the embedding either.
        model.tie_weights()
        missing, unexpected = model.load_state_dict(state, strict=False)
        if unexpected or set(missing) - ({"lm_head.weight"} if tied else set()):
            raise ModelError(f"{self.path} does not fit a llama model: missing {missing}, unexpected {unexpected}.")
        return model

    def _config(self) -> dict[str, Any]:
        heads = int(self.value("llama.attention.head_count"))
        return {
            "vocab_size": len(self.value("tokenizer.ggml.tokens")),
            "hidden_size": int(self.value("llama.embedding_length")),
            "intermediate_size": int(self.value("llama.feed_forward_length")),
            "num_hidden_layers": int(self.value("llama.block_count")),
            "num_attention_heads": heads,
            "num_key_value_heads": int(self.value("llama.attention.head_count_kv")),
            "max_position_embeddings": int(self.value("llama.context_length")),
            "rms_norm_eps": float(self.value("llama.attention.layer_norm_rms_epsilon")),
            "rope_parameters": {"rope_type": "default", "rope_theta": float(self.value("llama.rope.freq_base"))},
            "bos_token_id": int(self.value("tokenizer.ggml.bos_token_id")),
            "eos_token_id": int(self.value("tokenizer.ggml.eos_token_id")),
        }

    def _heads(self, tensor: str) -> int:
        if tensor.endswith("attn_q.weight"):
            return int(self.value("llama.attention.head_count"))
        return int(self.value("llama.attention.head_count_kv")) if tensor.endswith("attn_k.weight") else 0


def hf_name(tensor: str) -> str:
    """The Hugging Face name of a llama.cpp tensor.

    >>> hf_name("blk.3.attn_q.weight")
    'model.layers.3.self_attn.q_proj.weight'
    """
    if tensor in _WHOLE:
        return _WHOLE[tensor]
    block, layer, part, kind = (*tensor.split("."), "", "", "", "")[:4]
    if block != "blk" or part not in _LAYER_PARTS:
        raise ModelError(f"Tensor {tensor!r} belongs to no llama model.")
    return f"model.layers.{layer}.{_LAYER_PARTS[part]}.{kind}"


def requantise(source: Path, target: Path, *, quantisation: str = "Q8_0", layers: Sequence[int] | None = None) -> Path:
    """Copy a GGUF file with its matrices in another quantisation and some of its layers; returns `target`.

    Args:
        quantisation: one that the `gguf` package can write, such as Q8_0 or Q4_0.
        layers: numbers of those that are kept, in their order; None keeps all.
    """
    import gguf

    model, wanted = GgufModel(source), gguf.GGMLQuantizationType[quantisation]
    kept = range(int(model.value("llama.block_count"))) if layers is None else layers
    return _write(
        model,
        target,
        lambda tensor: gguf.quants.dequantize(tensor.data, tensor.tensor_type),
        lambda _tensor: wanted,
        {layer: number for number, layer in enumerate(kept)},
    )


def write_trained(model: GgufModel, state: Mapping[str, Any], target: Path) -> Path:
    """Write torch weights (Hugging Face names) as a copy of `model`, which they were made from, in its quantisation.

    Returns `target`; raises `ModelError` if a tensor is missing.
    """

    def values(tensor: Any) -> Array:
        name = hf_name(tensor.name)
        if name not in state:
            raise ModelError(f"The trained weights lack {name!r}, which {model.path} has.")
        return _permute(state[name].detach().float().cpu().numpy(), model._heads(tensor.name))

    layers = {number: number for number in range(int(model.value("llama.block_count")))}
    return _write(model, target, values, lambda tensor: tensor.tensor_type, layers)


def chat_template(path: Path) -> str:
    """The Jinja template that turns messages into a prompt."""
    return str(GgufModel(path).value("tokenizer.chat_template"))


def tokenizer(model: GgufModel) -> Any:
    """A `tokenizers.Tokenizer` that encodes as llama.cpp does, built from the metadata.

    Raises:
        ModelError: the model uses another pre-tokenizer than `smollm`, whose rules are not known here.
    """
    from tokenizers import AddedToken, Tokenizer, pre_tokenizers
    from tokenizers import models as token_models

    if (kind := model.value("tokenizer.ggml.pre")) != "smollm":
        raise ModelError(f"{model.path} has the pre-tokenizer {kind!r}; only 'smollm' is supported for training.")
    tokens = model.value("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in model.value("tokenizer.ggml.merges")]
    built = Tokenizer(token_models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    built.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    control = [token for token, kind in zip(tokens, model.value("tokenizer.ggml.token_type"), strict=True) if kind == 3]
    built.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return built


def _write(
    model: GgufModel,
    target: Path,
    values: Callable[[Any], Array],
    kind_of: Callable[[Any], Any],
    layers: Mapping[int, int],
) -> Path:
    """Write the tensors of `layers`, which become those of the numbers beside them, and what belongs to no layer."""
    import gguf
    import numpy as np

    writer, kinds = gguf.GGUFWriter(str(target), "llama"), set()
    for tensor in model.reader.tensors:
        if (name := _renumbered(tensor.name, layers)) is None:
            continue
        array, kind = np.ascontiguousarray(values(tensor), dtype=np.float32), kind_of(tensor)
        if array.ndim == 1 or array.shape[-1] % _BLOCK or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
            kinds.add(kind.name)
    _copy_metadata(model.reader, writer, len(layers))
    writer.add_file_type(int(gguf.LlamaFileType[f"MOSTLY_{kinds.pop()}" if len(kinds) == 1 else "ALL_F32"]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _renumbered(tensor: str, layers: Mapping[int, int]) -> str | None:
    """The tensor's name in a file of `layers`; None where its layer is none of them."""
    parts = tensor.split(".")
    if parts[0] != "blk":
        return tensor
    number = layers.get(int(parts[1]))
    return None if number is None else ".".join([parts[0], str(number), *parts[2:]])


def _copy_metadata(reader: Any, writer: Any, layers: int) -> None:
    import gguf

    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(
            key,
            layers if key == "llama.block_count" else field.contents(),
            kind,
            sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None,
        )


def _permute(weights: Array, heads: int) -> Array:
    """Hugging Face's rotary layout (two halves a head) to llama.cpp's (pairs); 0 heads: unchanged."""
    if not heads:
        return weights
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def _unpermute(weights: Array, heads: int) -> Array:
    """The inverse of `_permute`."""
    if not heads:
        return weights
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, half, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
