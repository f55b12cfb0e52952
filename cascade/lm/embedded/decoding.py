"""One answer from one server: free, or slot by slot in a form.

It exists for speed: headers are given instead of generated, and a choice ends as soon as only one is possible,
which leaves the answer as the grammar would have made it. Invariant: a filled form holds every slot's header.
"""

import json
from dataclasses import dataclass
from typing import Any

from dspy import lm15

from cascade.lm.embedded.forcing import Slot, value_grammar
from cascade.lm.embedded.servers import Server
from cascade.lm.embedded.vocabulary import Vocabulary

_HEADER_START = "[[ ##"
_FAR = 100.0
"""Added to the logits of the tokens on offer: no other token comes near, and their order stays."""
_VALUE_TOKENS = 64
"""Cap of a value under a grammar; the grammars of numbers end sooner, lists of strings may not."""


@dataclass(frozen=True)
class Sampling:
    """How to draw; temperature 0 is greedy and needs no seed."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None

    def body(self) -> dict[str, Any]:
        """As fields of llama.cpp's request."""
        # Without the server's own cuts temperature 1 is the model's distribution.
        cuts = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
        body: dict[str, Any] = {"temperature": self.temperature, "cache_prompt": True, **cuts}
        return body | {k: v for k, v in (("top_p", self.top_p), ("seed", self.seed)) if v is not None}


class Decoder:
    """Generates one answer and counts its tokens; used once."""

    def __init__(self, server: Server, sampling: Sampling, vocabulary: Vocabulary) -> None:
        self._server, self._sampling, self._vocabulary = server, sampling, vocabulary
        self._prompt_tokens: int | None = None
        self._generated = 0
        self.finish = "stop"

    @property
    def usage(self) -> lm15.Usage:
        """Tokens of the prompt as sent and tokens generated; given headers are neither."""
        return lm15.Usage(input_tokens=self._prompt_tokens or 0, output_tokens=self._generated)

    def free(self, prompt: str, stop: tuple[str, ...]) -> str:
        """Whatever the model says, up to a stop string or the limit."""
        return self._generate(prompt, {"stop": list(stop)}, self._sampling.max_tokens)

    def fill(self, prompt: str, slots: tuple[Slot, ...], stop: tuple[str, ...]) -> str:
        """An answer with a value for every slot, as `dspy.ChatAdapter` reads it; `stop` ends free texts."""
        written = ""
        texts_left = sum(slot.free for slot in slots)
        for slot in slots:
            written += ("\n\n" if written else "") + slot.header
            if slot.free:
                # Free texts share what is left, so that the last field gets its turn.
                limit = max(1, (self._sampling.max_tokens - self._generated) // texts_left)
                texts_left -= 1
                written += self._generate(prompt + written, {"stop": [_HEADER_START, *stop]}, limit).strip()
            else:
                written += self._choose(prompt + written, slot) if slot.choices else self._value(prompt + written, slot)
        return written

    def _value(self, prompt: str, slot: Slot) -> str:
        options = {"grammar": value_grammar(slot), "stop": ["\n"]}
        return self._generate(prompt, options, _VALUE_TOKENS).strip()

    def _choose(self, prompt: str, slot: Slot) -> str:
        """A choice, token by token until the rest is certain."""
        text, finish = "", self.finish
        while (only := slot.settled(text)) is None:
            rests = [choice[len(text) :] or "\n" for choice in slot.choices if choice.startswith(text)]
            offered = self._vocabulary.beginnings(rests)
            if not offered:
                return self._value(prompt, slot)
            options = {"logit_bias": [[token, _FAR] for token in offered]}
            text += self._generate(prompt + text, options, 1)
        self.finish = finish
        return only

    def _generate(self, prompt: str, options: dict[str, Any], limit: int) -> str:
        body = {**self._sampling.body(), **options, "prompt": prompt, "max_tokens": limit}
        reply = self._server.complete(body)
        self._count(reply, reply.get("usage", {}))
        if reply["choices"][0]["finish_reason"] == "length":
            self.finish = "length"
        return _text_of(reply)

    def _count(self, reply: dict[str, Any], usage: dict[str, int]) -> None:
        if "choices" not in reply:
            raise _error(reply)
        timings = reply.get("timings", {})
        prompt = usage.get("prompt_tokens", timings.get("cache_n", 0) + timings.get("prompt_n", 0))
        self._prompt_tokens = prompt if self._prompt_tokens is None else self._prompt_tokens
        self._generated += usage.get("completion_tokens", timings.get("predicted_n", 0))


def _text_of(reply: dict[str, Any]) -> str:
    return str(reply["choices"][0]["text"]) if reply.get("choices") else ""


def _error(reply: dict[str, Any]) -> Any:
    detail = reply.get("error", reply)
    message = str(detail.get("message", json.dumps(reply)[:500]))
    if detail.get("type") == "exceed_context_size_error":
        return lm15.ContextLengthError(
            f"The prompt has {detail.get('n_prompt_tokens')} tokens; an embedded model's context holds "
            f"{detail.get('n_ctx')}. Use fewer or shorter demos, or a shorter input."
        )
    return lm15.ServerError(f"llama.cpp could not answer: {message}.")
