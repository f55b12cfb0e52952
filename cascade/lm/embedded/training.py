"""Supervised fine-tuning of small llama weights on the CPU.

It exists so that a weight stage is real on any machine: about 45 s for 100 short rows on two cores. Invariant:
the same file, rows and options give the same weights on the same machine.

Recipe: top layers only (LoRA was twice as slow a token here), bfloat16 autocast, loss on the completion only. Nothing
is computed twice: what the frozen layers make of a row never changes and is kept for all epochs, and what all rows
begin with, their instructions, passes the trained layers once a step instead of once a row.
"""

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cascade.errors import DefinitionError, ModelError
from cascade.lm.embedded.checkpoint import Checkpoint
from cascade.lm.embedded.gguf_file import GgufModel, tokenizer
from cascade.lm.embedded.prompts import render

OnStep = Callable[[int, int, float], None]
"""Called after each step with its number from 1, the number of steps, and the batch's loss in nats a token."""

_IGNORED = -100
_REMEMBERED = ("exp_avg", "exp_avg_sq")
"""Of a weight by AdamW, beside the number of steps."""


@dataclass(frozen=True)
class TrainingOptions:
    """What `train_kwargs` may set.

    Args:
        epochs: passes over the rows.
        learning_rate: of AdamW, after a warm-up of a tenth of the steps, falling to a tenth.
        batch_size: rows a step.
        layers: layers trained, from the top.
        max_length: tokens a row; longer prompts lose their start.
        seed: of the order of rows.
    """

    epochs: int = 2
    learning_rate: float = 2e-4
    batch_size: int = 8
    layers: int = 10
    max_length: int = 1024
    seed: int = 0

    @classmethod
    def parse(cls, train_kwargs: Mapping[str, Any] | None) -> "TrainingOptions":
        """Options from DSPy's `train_kwargs`; raises `DefinitionError` for an unknown name or a bad value.

        >>> TrainingOptions.parse({"epochs": 1}).epochs
        1
        """
        given = dict(train_kwargs or {})
        known = [option.name for option in fields(cls)]
        if unknown := [name for name in given if name not in known]:
            raise DefinitionError(f"Unknown training option {unknown[0]!r}. Known: {', '.join(known)}.")
        for name, value in given.items():
            kind = float if name == "learning_rate" else int
            lowest = 0 if name == "seed" else 1e-12
            if isinstance(value, bool) or not isinstance(value, (int, kind)) or value < lowest:
                raise DefinitionError(f"Training option {name} = {value!r} must be a positive {kind.__name__}.")
        return cls(**given)


@dataclass(frozen=True)
class Row:
    """Token ids of a prompt and its completion; the first `context` of them are the prompt's.

    Args:
        below: what the frozen layers make of it, tokens × width in bfloat16.
    """

    ids: list[int]
    context: int
    below: Any = None


def finetune(
    gguf: Path | GgufModel,
    rows: Sequence[Mapping[str, Any]],
    options: TrainingOptions,
    *,
    on_step: OnStep | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Any]:
    """Train the weights in a GGUF file on chat rows; returns torch tensors by Hugging Face name.

    Args:
        gguf: the weights to start from, a file or one that is open; they are not changed.
        rows: `{"messages": [...]}` each, the last message being the assistant's.
        options: epochs, learning rate and so on.
        on_step: told of each step.
        should_stop: asked before each step.
        checkpoint: where an earlier attempt at the same training stands, and where this one notes it.

    Raises:
        ModelError: no rows, a row without an assistant's answer, or `should_stop` said so.
    """
    if not rows:
        raise ModelError("There are no rows to train on. Give demos or traces that the metric accepts.")
    source = gguf if isinstance(gguf, GgufModel) else GgufModel(gguf)
    encoded = _encode(source, rows, options.max_length)
    prefix, encoded = _shared(encoded)
    steps = math.ceil(len(encoded) / options.batch_size) * options.epochs
    trainer = _Trainer(source.load(), prefix, options, steps)
    encoded = [row for batch in _in_order(encoded, options.batch_size) for row in trainer.read(batch)]
    done = trainer.resume(checkpoint) if checkpoint else 0
    order = random.Random(options.seed)
    batches = (batch for _ in range(options.epochs) for batch in _batches(encoded, options.batch_size, order))
    for step, batch in enumerate(batches):
        if step < done:
            continue
        stopped = should_stop()
        if checkpoint and (stopped or checkpoint.due):
            checkpoint.save(step, trainer.state())
        if stopped:
            kept = "what was learned is kept" if checkpoint else "nothing was stored"
            raise ModelError(f"training stopped after {step} of {steps} steps, as asked; {kept}.")
        loss = trainer.step(batch, step)
        if on_step:
            on_step(step + 1, steps, loss)
    return trainer.weights


class _Trainer:
    """A model in two: frozen layers, and those above that learn, with their optimizer and its schedule.

    Args:
        prefix: token ids that every row begins with; rows come without them.
    """

    def __init__(self, model: Any, prefix: Sequence[int], options: TrainingOptions, steps: int) -> None:
        import torch

        self.steps, self._rate = steps, options.learning_rate
        self.weights = dict(model.requires_grad_(False).state_dict())
        layers = model.model.layers
        split = max(0, len(layers) - options.layers)
        self._below = copy.copy(model.model)
        self._below._modules = {**model.model._modules, "layers": layers[:split], "norm": torch.nn.Identity()}
        self._above = model
        model.model.layers = layers[split:].requires_grad_(True)
        for number, layer in enumerate(model.model.layers):
            layer.self_attn.layer_idx = number  # its place in the cache of what was read before
        self._trained = list(model.model.layers.parameters())
        self._optimizer = torch.optim.AdamW(self._trained, lr=self._rate, weight_decay=0.0)
        with torch.no_grad(), _autocast():
            self._read = self._below(input_ids=torch.tensor([[*prefix]]), use_cache=True) if prefix else None

    def state(self) -> dict[str, Any]:
        """All that changes from step to step: trained weights and what AdamW remembers of their gradients."""
        kept = {f"{number}.weight": weights.detach() for number, weights in enumerate(self._trained)}
        for number, weights in enumerate(self._trained):
            remembered = self._optimizer.state.get(weights, {})
            kept |= {f"{number}.{name}": remembered[name] for name in _REMEMBERED if name in remembered}
        return kept

    def resume(self, checkpoint: Checkpoint) -> int:
        """Take the checkpoint's state; returns the steps that it holds, 0 if it is of no use."""
        import torch

        step, kept = checkpoint.load()
        wanted = {f"{n}.{name}": one.shape for n, one in enumerate(self._trained) for name in ("weight", *_REMEMBERED)}
        if not 0 < step < self.steps or {name: values.shape for name, values in kept.items()} != wanted:
            return 0
        for number, weights in enumerate(self._trained):
            weights.data.copy_(kept[f"{number}.weight"])
            remembered = {name: kept[f"{number}.{name}"].clone() for name in _REMEMBERED}
            self._optimizer.state[weights] = {"step": torch.tensor(float(step)), **remembered}
        return step

    def read(self, batch: list[Row]) -> list[Row]:
        """The rows with what the frozen layers make of them."""
        import torch

        ids = _padded([torch.tensor(row.ids) for row in batch])
        before = _repeated(copy.deepcopy(self._read.past_key_values), len(batch)) if self._read else None
        # Padding stands on the right, where a causal model does not look: no mask is needed.
        with torch.no_grad(), _autocast():
            hidden = self._below(input_ids=ids, past_key_values=before).last_hidden_state.bfloat16()
        return [replace(row, below=one[: len(row.ids)].clone()) for row, one in zip(batch, hidden, strict=True)]

    def step(self, batch: list[Row], step: int) -> float:
        """One update; returns the loss before it, in nats a token."""
        import torch

        labels, first = _labels(batch)
        hidden = _padded([row.below for row in batch]).float()
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * _schedule(step, self.steps)
        # Logits over 49,152 tokens are the largest array here: only those of completions are made.
        wanted = torch.arange(first - 1, hidden.shape[1] - 1)
        with _autocast():
            before = None
            if self._read:
                read = self._above.model(inputs_embeds=self._read.last_hidden_state, use_cache=True)
                before = _repeated(read.past_key_values, len(batch))
            logits = self._above(inputs_embeds=hidden, past_key_values=before, logits_to_keep=wanted).logits
        flat = logits.float().reshape(-1, logits.shape[-1])
        loss = torch.nn.functional.cross_entropy(flat, labels[:, first:].reshape(-1), ignore_index=_IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())


def _encode(source: GgufModel, rows: Sequence[Mapping[str, Any]], max_length: int) -> list[Row]:
    encoder, template = tokenizer(source), source.value("tokenizer.chat_template")
    end = source.value("tokenizer.ggml.tokens")[source.value("tokenizer.ggml.eos_token_id")]
    encoded = []
    for number, row in enumerate(rows, start=1):
        *before, answer = row.get("messages") or [{}]
        if answer.get("role") != "assistant" or not before:
            raise ModelError(f"Row {number} does not end with an assistant's answer to something: {str(row)[:200]}")
        prompt = render(template, before)
        context = len(encoder.encode(prompt).ids)
        ids = encoder.encode(prompt + answer["content"].strip() + end + "\n").ids
        # At least one token of context stays, which the first label is predicted from.
        cut = min(max(0, len(ids) - max_length), context - 1)
        encoded.append(Row(ids[cut:][:max_length], context - cut))
    return encoded


def _batches(rows: list[Row], size: int, order: random.Random) -> list[list[Row]]:
    """Batches of similar length, shuffled: padding costs as much as text."""
    shuffled = order.sample(rows, len(rows))
    window = size * 4
    sorted_rows = [
        row
        for start in range(0, len(shuffled), window)
        for row in sorted(shuffled[start : start + window], key=lambda row: len(row.ids))
    ]
    return _in_order(sorted_rows, size)


def _shared(rows: list[Row]) -> tuple[list[int], list[Row]]:
    """What all rows begin with, and the rows without it; a token of context stays with each."""
    first, most = rows[0].ids, min(row.context for row in rows) - 1
    length = next((n for n in range(most) if any(row.ids[n] != first[n] for row in rows)), most)
    return first[:length], [Row(row.ids[length:], row.context - length) for row in rows]


def _autocast() -> Any:
    import torch

    return torch.autocast("cpu", dtype=torch.bfloat16)


def _repeated(cache: Any, times: int) -> Any:
    cache.batch_repeat_interleave(times)
    return cache


def _in_order(rows: list[Row], size: int) -> list[list[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _padded(rows: list[Any], value: float = 0) -> Any:
    import torch

    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def _labels(batch: list[Row]) -> tuple[Any, int]:
    """Token ids of the completions, all else ignored, and the first labelled position."""
    import torch

    labels = [torch.tensor([_IGNORED] * row.context + row.ids[row.context :]) for row in batch]
    return _padded(labels, _IGNORED), min(row.context for row in batch)


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1, steps // 10)) * (1 - 0.9 * step / steps)
