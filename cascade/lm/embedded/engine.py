"""The engine behind `embedded/…` models: DSPy's engine contract on llama.cpp in this process.

It exists to answer without key and network, the same at every run. Invariant: with `deterministic=True` an answer
depends on the weights, the request and the form of its adapter only, not on order or concurrency (measured:
no differences where eight slots gave 7 in 60).
"""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import dspy
from dspy import lm15

from cascade.errors import ModelError
from cascade.lm.embedded.decoding import Decoder, Sampling
from cascade.lm.embedded.forcing import Form, current_form
from cascade.lm.embedded.models import PREFIX, Models
from cascade.lm.embedded.prompts import render
from cascade.lm.embedded.servers import Pool, Shape, cores
from cascade.lm.embedded.vocabulary import Vocabulary
from cascade.spending import ROLLOUT

_IN_MEMORY = 2
"""Models kept loaded unless more are asked for: a student and its teacher."""


class EmbeddedEngine:
    """Answers requests with weights of a `Models` store, chosen by `request.model`; thread-safe.

    Args:
        models: where weights are found by name, with or without `embedded/`.
        deterministic: single-slot servers with one thread each. False: one server with eight slots, faster
            under concurrency, and answers may differ between runs, because what is batched together changes
            the arithmetic.
        threads: CPU threads to use in all; None: one a core.

    Weights are loaded on first use; `in_memory` models stay (2), the least recently used goes first.
    """

    def __init__(self, models: Models, *, deterministic: bool = True, threads: int | None = None) -> None:
        self.models = models
        self.deterministic = deterministic
        self.threads = threads
        self.in_memory = _IN_MEMORY
        self._pools: OrderedDict[str, tuple[Pool, str, Vocabulary]] = OrderedDict()
        self._lock = threading.Lock()

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request; inside a `FormatForcingAdapter` call, in the form of its signature.

        Raises:
            dspy.lm15.ContextLengthError: the prompt does not fit into 4096 tokens.
            dspy.lm15.UnsupportedModelError: there are no such weights, or they cannot be loaded.
            dspy.lm15.UnsupportedFeatureError: the request holds tools, images or a response format.
            dspy.lm15.ServerError: llama.cpp refused it for another reason.
        """
        _refuse_unsupported(request)
        form = current_form()
        pool, template, vocabulary = self._model(request.model)
        messages = _messages(request)
        prompt, start = render(template, messages), render(template, messages[:-1], answering=False)
        start = start if prompt.startswith(start) else ""
        with pool.lease(start) as server:
            server.read(start)
            decoder = Decoder(server, _sampling(request, form), vocabulary)
            stop = request.config.stop
            text = decoder.fill(prompt, form.slots, stop) if form else decoder.free(prompt, stop)
        # DSPy refuses an empty part; a space parses like nothing.
        message = lm15.Message.assistant([lm15.TextPart(text or " ")])
        return lm15.Response(
            id=None, model=request.model, message=message, finish_reason=decoder.finish, usage=decoder.usage
        )

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        """The answer of `complete` as DSPy's stream events, all at once."""
        return iter(lm15.response_to_events(self.complete(request)))

    def close(self) -> None:
        """Free all weights in memory; the engine stays usable and loads them again."""
        with self._lock:
            self._pools.clear()

    def kill(self, model: str) -> None:
        """Free one model's weights in memory; nothing happens if they are not there."""
        with self._lock:
            self._pools.pop(model.removeprefix(PREFIX), None)

    def launch(self, model: str) -> None:
        """Load a model's weights now, while others are asked; nothing happens if they are there."""
        name = model.removeprefix(PREFIX)
        if name not in self._pools:
            pool = self._load(name)
            with self._lock:
                self._pools.setdefault(name, pool)
        self._model(name)

    def identity(self, model: str) -> str:
        """What a request does not show of its answer: weights and mode, for a cache's key; raises `ModelError`."""
        return f"{self.models.identity(model)}-{'det' if self.deterministic else 'fast'}"

    def dump_state(self) -> dict[str, Any]:
        """What `load_state` needs; no path and no secret."""
        return {"deterministic": self.deterministic, "threads": self.threads}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> "EmbeddedEngine":
        """An engine on the store of the project around the working directory, or of `CASCADE_HOME`."""
        from cascade.settings import load_settings

        return cls(Models(load_settings().home), **state)

    def __deepcopy__(self, memo: dict[int, Any]) -> "EmbeddedEngine":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).load_state, (self.dump_state(),)

    def _model(self, model: str) -> tuple[Pool, str, Vocabulary]:
        name = model.removeprefix(PREFIX)
        with self._lock:
            if name not in self._pools:
                self._pools[name] = self._load(name)
            self._pools.move_to_end(name)
            while len(self._pools) > self.in_memory:
                self._pools.popitem(last=False)
            return self._pools[name]

    def _load(self, name: str) -> tuple[Pool, str, Vocabulary]:
        shape = Shape.of(deterministic=self.deterministic, threads=self.threads or cores())
        try:
            template = self.models.facts(name)["chat_template"]
            return Pool(self.models.path(name), shape), template, Vocabulary(self.models.vocabulary(name))
        except ModelError as error:
            raise lm15.UnsupportedModelError(str(error)) from error


class AsyncEmbeddedEngine:
    """The same engine for `acall`: each call runs in a worker thread, with the caller's context."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """As `EmbeddedEngine.complete`."""
        return await asyncio.to_thread(self.engine.complete, request)

    async def stream(self, request: lm15.Request) -> Any:
        """As `EmbeddedEngine.stream`."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Nothing: the weights belong to the engine behind."""

    def dump_state(self) -> dict[str, Any]:
        """As `EmbeddedEngine.dump_state`."""
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> "AsyncEmbeddedEngine":
        """As `EmbeddedEngine.load_state`."""
        return cls(EmbeddedEngine.load_state(state))

    def __deepcopy__(self, memo: dict[int, Any]) -> "AsyncEmbeddedEngine":
        return self


def _messages(request: lm15.Request) -> list[dict[str, str]]:
    messages = [{"role": message.role, "content": message.text or ""} for message in request.messages]
    if request.system is None:
        return messages
    system = request.system
    text = system if isinstance(system, str) else "".join(part.text for part in system)
    return [{"role": "system", "content": text}, *messages]


def _sampling(request: lm15.Request, form: Form | None) -> Sampling:
    config = request.config
    temperature = config.temperature or 0.0
    seed = config.seed
    if temperature and seed is None:
        # The same request gives the same answer; another rollout or candidate of it gives another one.
        turn = (form.rollout, next(form.turns)) if form else (None, 0)
        rollout = dspy.settings.get(ROLLOUT)
        drawn = (request, turn, rollout) if rollout else (request, turn)
        seed = int.from_bytes(hashlib.sha256(repr(drawn).encode()).digest()[:4]) >> 1
    return Sampling(config.max_tokens or 256, temperature, config.top_p, seed)


def _refuse_unsupported(request: lm15.Request) -> None:
    parts = [part for message in request.messages for part in message.parts]
    asked = {
        "tools": bool(request.tools),
        "response_format": request.config.response_format is not None,
        "logprobs": request.config.logprobs is not None,
        "images, audio or files": any(not isinstance(part, lm15.TextPart) for part in parts),
    }
    for feature, wanted in asked.items():
        if wanted:
            raise lm15.UnsupportedFeatureError(
                f"Embedded models answer text with text; the request asks for {feature}."
            )
