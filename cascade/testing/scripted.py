"""Fakes for tests, yours and ours: a language model that answers by rule, and a trainer that trains nothing real.

Invariant: nothing here is used by a run that a user starts; answers depend on the request alone.
"""

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.provider import Provider
from dspy.lm15 import Message, Response, TextPart, Usage, response_to_events

from cascade.lm.call import RoleCallback
from cascade.lm.lms import LMs
from cascade.settings import Settings

Answerer = Callable[[str, Mapping[str, str], int], Mapping[str, str] | str]
"""`answer(model, inputs, demos)` gives the output fields, or a text that is sent as it is, in no format."""


class ScriptedEngine:
    """An LM engine that answers in the chat format by a function of model, inputs and number of demos.

    >>> engine = ScriptedEngine(lambda model, inputs, demos: {"answer": inputs["question"].upper()})
    >>> lm = dspy.LM("scripted/base", engine=engine, cache=False)
    >>> with dspy.context(lm=lm):
    ...     dspy.Predict("question -> answer")(question="hi").answer
    'HI'

    Args:
        latency: seconds that every answer takes.
    """

    def __init__(self, answer: Answerer, *, latency: float = 0.0) -> None:
        self.answer = answer
        self.latency = latency
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "ScriptedEngine":
        return self

    def digest(self, request: Any) -> str:
        """Hash of a request's model and texts, as it stands in `requests`."""
        return hashlib.sha256("\0".join([request.model, *_texts(request)]).encode()).hexdigest()

    def complete(self, request: Any) -> Response:
        """Answer a request."""
        if self.latency:
            time.sleep(self.latency)
        system, *texts = _texts(request)
        told = self.answer(request.model, fields(texts[-1]), sum(m.role == "assistant" for m in request.messages))
        text = told if isinstance(told, str) else formatted(told, output_fields(system))
        with self._lock:
            self.requests.append(self.digest(request))
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant([TextPart(text)]),
            finish_reason="stop",
            usage=Usage(
                input_tokens=len(system.split()) + sum(len(t.split()) for t in texts), output_tokens=len(text.split())
            ),
        )

    def stream(self, request: Any) -> Any:
        """The answer as events."""
        return response_to_events(self.complete(request))

    def close(self) -> None:
        """Nothing to free."""

    def dump_state(self) -> dict[str, Any]:
        """Nothing to save."""
        return {}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> "ScriptedEngine":  # noqa: ARG003
        """An engine that says nothing: a script cannot be saved."""
        return cls(lambda _model, _inputs, _demos: {})


class AsyncScriptedEngine:
    """The same script for programs that are awaited."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine

    def __deepcopy__(self, memo: dict[int, Any]) -> "AsyncScriptedEngine":
        return self

    async def complete(self, request: Any) -> Response:
        """Answer a request, letting others run meanwhile."""
        return await asyncio.to_thread(self.engine.complete, request)

    async def close(self) -> None:
        """Nothing to free."""


class ScriptedProvider(Provider):  # type: ignore[misc]
    """A trainer that writes its rows to a file and names the result by its model and their hash."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.finetunable = True
        self.folder = folder
        self.trainings = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "ScriptedProvider":
        return self

    def launch(self, lm: Any, launch_kwargs: Any = None) -> None:
        """Nothing to launch."""

    def kill(self, lm: Any, launch_kwargs: Any = None) -> None:
        """Nothing to end."""

    def finetune(self, job: Any, model: str, train_data: Any, train_data_format: Any, train_kwargs: Any = None) -> str:  # noqa: ARG002
        """Pretend to train; the same rows give the same name."""
        digest = hashlib.sha256(json.dumps([model, train_data], sort_keys=True, default=str).encode()).hexdigest()[:12]
        path = self.folder / f"{digest}.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(train_data, default=str))
            self.trainings += 1
        kind = "" if model == "scripted/base" else f"{model.removeprefix('scripted/')}-"
        return f"scripted/{kind}trained-{digest}"


class ScriptedLMs(LMs):
    """LMs by name that all answer by one script.

    Args:
        usd_a_token: what every token costs, in and out, or that by what a model's name begins with; None is unknown.
    """

    def __init__(
        self, settings: Settings, engine: ScriptedEngine, *, usd_a_token: "float | Mapping[str, float] | None" = None
    ) -> None:
        super().__init__(settings)
        self.usd_a_token = usd_a_token
        self.script = engine
        self._trainer = ScriptedProvider(settings.home / "trained")

    def model(self, name: str) -> str:
        """`scripted/base`, or what settings say where they name a scripted model."""
        spec = self.settings.lm.get(name)
        return spec.model if spec and spec.model.startswith("scripted/") else "scripted/base"

    def by_model(self, model: str) -> Any:
        """An LM of the script under any name."""
        return self._scripted(model, "task")

    def priced(self, name: str) -> bool:
        """Whether it was given a price."""
        return self.price(self.model(name), 1, 1) is not None

    def price(self, model: str, input_tokens: int, output_tokens: int) -> float | None:
        """The tokens times the price, else what settings say."""
        by_name = self.usd_a_token if isinstance(self.usd_a_token, Mapping) else {"": self.usd_a_token}
        known = max((name for name in by_name if model.startswith(name)), key=len, default="")
        usd = by_name.get(known)
        return (
            super().price(model, input_tokens, output_tokens) if usd is None else usd * (input_tokens + output_tokens)
        )

    def identity(self, model: str) -> str:
        """Nothing is hidden in a script."""
        return model

    @property
    def adapter(self) -> Any:
        """DSPy's own."""
        return dspy.ChatAdapter(use_json_adapter_fallback=False)

    def watch(self, meter: Any, on_step: Any) -> None:
        """A scripted training takes no time."""

    def close(self) -> None:
        """Nothing to free."""

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._scripted(self.model(name), name)
        return self._made[name]

    def _scripted(self, model: str, role: str) -> Any:
        return dspy.LM(
            model,
            engine=self.script,
            async_engine=AsyncScriptedEngine(self.script),
            provider=self._trainer,
            temperature=0.0,
            num_retries=0,
            callbacks=[RoleCallback(role)],
        )


def _texts(request: Any) -> list[str]:
    """The system's text, then the messages'."""
    system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
    return [system, *(message.text or "" for message in request.messages)]


def formatted(fields: Mapping[str, str], wanted: list[str]) -> str:
    """An answer in the chat format."""
    answered = {name: fields.get(name, f"some {name}") for name in wanted} if wanted else dict(fields)
    lines = [f"[[ ## {name} ## ]]\n{value}" for name, value in answered.items()]
    return "\n\n".join([*lines, "[[ ## completed ## ]]"])


def fields(message: str) -> dict[str, str]:
    """Input fields of a message in the chat format."""
    found: dict[str, str] = {}
    name = ""
    for line in message.splitlines():
        if line.startswith("[[ ## ") and line.rstrip().endswith(" ## ]]"):
            name = line.strip()[6:-6]
        elif name:
            found[name] = f"{found[name]}\n{line}" if name in found else line
    return {name: value.split("\n\nRespond with")[0].strip() for name, value in found.items()}


def output_fields(system: str) -> list[str]:
    """Names of the output fields that a system prompt asks for."""
    block = system.partition("Your output fields are:")[2].partition("All interactions")[0]
    return [line.split("`")[1] for line in block.splitlines() if line[:1].isdigit() and line.count("`") >= 2]
