"""LMs by name, made once from settings: `task`, `prompt`, `teacher`, `student`, and any that a program asks for.

Invariant: what cannot be called is found out here, before anything is spent: an unknown model, a missing key.
"""

import copy
import os
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import dspy

from cascade.errors import ModelError, SettingsError
from cascade.lm.call import RoleCallback
from cascade.lm.meter import Meter
from cascade.lm.pace import Pace
from cascade.lm.remote import RemoteLM
from cascade.redaction import hide, secrets_of
from cascade.settings import EMBEDDED, LMSpec, Settings
from cascade.spending import Price

TIMEOUT, RETRIES = 180.0, 3
"""For remote models, unless an LM's options say otherwise: seconds without a byte of the answer, and how often a call
that ended by that, by a 429 or by a 5xx is sent again, after 1, 2 and 4 seconds or as `Retry-After` says. DSPy's own
time-out is 600 seconds or, through LiteLLM, 6000."""

_TRAINED = re.compile(r"-[0-9a-f]{12}$")


class LMs(Mapping[str, Any]):
    """`dspy.LM`s by name.

    Raises:
        SettingsError: on first use of a name whose model is unknown or has no key.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._made: dict[str, Any] = {}
        self._prices: dict[str, Price | None] = {}
        self._sizes: dict[str, float] = {}
        self._paces: dict[tuple[str, str], Pace] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(self.settings.lm_named(name), name)
        return self._made[name]

    def __iter__(self) -> Any:
        return iter(self.settings.describe())

    def __len__(self) -> int:
        return len(self.settings.describe())

    def model(self, name: str) -> str:
        """Model string of a name."""
        return self.settings.lm_named(name).model

    @property
    def own_teacher(self) -> bool:
        """Whether the teacher is another model than the task's, or the same one asked otherwise."""
        return self.settings.lm_named("teacher") != self.settings.lm_named("task")

    def by_model(self, model: str) -> Any:
        """An LM for a model string: one that settings name, or weights that a stage has trained.

        Those answer under the options of the LM that they were trained from, as they did when they were judged.
        """
        if name := next((name for name in self if self.model(name) == model), None):
            return self[name]
        parent = next((name for name in self if _base(self.model(name)) == _base(model)), None)
        return self._make(LMSpec(model, self.settings.lm_named(parent).options if parent else {}), parent or "task")

    def under(self, settings: Settings) -> "LMs":
        """LMs of other settings that share this one's embedded engine: weights are in memory once."""
        twin = copy.copy(self)
        twin.settings, twin._made = settings, {}
        twin.__dict__.pop("adapter", None)
        if any(one.lm_named(name).embedded for one in (self.settings, settings) for name in one.describe()):
            twin.__dict__["engine"] = self.engine
        return twin

    def priced(self, name: str) -> bool:
        """Whether what a call to this LM costs can be known; embedded models cost nothing where settings do not say."""
        model = self.model(name)
        return self._price_of(model) is not None or model.startswith("embedded/") or _price_known(model)

    def price(self, model: str, input_tokens: int, output_tokens: int) -> float | None:
        """Dollars of a call at the price that settings name; None where they name none."""
        price = self._price_of(model)
        return price.of(input_tokens, output_tokens) if price else None

    def weights_gb(self, model: str) -> float | None:
        """Gigabytes of an embedded model's file, all of which each token passes; None for others."""
        if not model.startswith("embedded/"):
            return None
        if model not in self._sizes:
            self._sizes[model] = self.models.path(model).stat().st_size / 1e9
        return self._sizes[model]

    def _price_of(self, model: str) -> Price | None:
        """Of a model that settings name, or of the one that it was trained from."""
        if model not in self._prices:
            specs = [spec for spec in map(self.settings.lm_named, self) if spec.price]
            of = {spec.model: spec.price for spec in reversed(specs)}
            self._prices[model] = of.get(model) or of.get(_base(model))
        return self._prices[model]

    def identity(self, model: str) -> str:
        """What a request to `model` does not show of its answers; part of the ledger's key."""
        if model.startswith("embedded/"):
            return str(self.engine.identity(model))
        return next(
            (str(spec.options.get("api_base", "")) for spec in self.settings.lm.values() if spec.model == model), ""
        )

    @cached_property
    def adapter(self) -> Any:
        """The adapter of the run: forces formats where the task's model is embedded and settings say so."""
        if self.settings.force_format and self.settings.lm_named("task").embedded:
            from cascade.lm.embedded import FormatForcingAdapter

            return FormatForcingAdapter()
        return dspy.ChatAdapter()

    @cached_property
    def models(self) -> Any:
        """The store of embedded weights."""
        from cascade.lm.embedded import Models

        return Models(self.settings.home)

    def weights(self, model: str) -> Path | None:
        """The file of weights that a stage has trained; None for models that others can get elsewhere."""
        name = model.removeprefix("embedded/")
        trained = model.startswith("embedded/") and name != EMBEDDED.removeprefix("embedded/")
        return Path(self.models.path(name)) if trained else None

    @cached_property
    def engine(self) -> Any:
        """The engine that all embedded LMs share."""
        from cascade.lm.embedded import EmbeddedEngine

        return EmbeddedEngine(self.models, deterministic=self.settings.deterministic)

    @cached_property
    def provider(self) -> Any:
        """What trains embedded weights."""
        from cascade.lm.embedded import EmbeddedProvider

        return EmbeddedProvider(self.engine)

    def watch(self, meter: Meter, on_step: Callable[[int, int, float], None]) -> None:
        """Let trainings stop when the meter says so, and tell of their steps."""
        if any(self.settings.lm_named(name).embedded for name in self):
            self.provider.should_stop = lambda: meter.stopping
            self.provider.on_step = on_step

    @property
    def threads(self) -> int:
        """Examples at once: as settings say, else 8 for remote models, and for embedded ones one more than cores."""
        # A core that reads prompts should not wait for the Python of the answer before.
        return self.settings.threads or ((os.cpu_count() or 1) + 1 if self.settings.lm_named("task").embedded else 8)

    def close(self) -> None:
        """Free the weights in memory, and connections; who calls again opens new ones."""
        for lm in self._made.values():
            lm.close()
        if "engine" in self.__dict__:
            self.engine.close()

    def _make(self, spec: LMSpec, role: str) -> Any:
        hide(secrets_of(spec.options))
        if spec.embedded:
            from cascade.lm.embedded import embedded_lm

            try:
                self.models.path(spec.model.removeprefix("embedded/"))
            except ModelError as error:
                raise SettingsError(f"LM {role!r}: {error}") from None
            callbacks = [RoleCallback(role)]
            return embedded_lm(spec.model, self.engine, self.provider, callbacks=callbacks, **spec.options)
        _refuse_uncallable(spec, role)
        return self._remote(spec, role)

    def _remote(self, spec: LMSpec, role: str) -> Any:
        endpoint = (spec.model, str(spec.options.get("api_base", "")))
        pace = self._paces.setdefault(endpoint, Pace())
        options = {"timeout": TIMEOUT, **spec.options}
        retries = options.pop("num_retries", RETRIES)
        return RemoteLM(spec.model, pace=pace, retries=retries, callbacks=[RoleCallback(role, pace)], **options)


def _base(model: str) -> str:
    """What weights were trained from: embedded ones are called `BASE-` and 12 hex digits, OpenAI's `ft:BASE:…`."""
    if model.startswith("ft:"):
        return f"openai/{model.split(':')[1]}"
    return re.sub(_TRAINED, "", model) if model.startswith("embedded/") else model


def _price_known(model: str) -> bool:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    try:
        return bool(litellm.get_model_info(model).get("input_cost_per_token"))
    except Exception:
        return False


def _refuse_uncallable(spec: LMSpec, role: str) -> None:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True

    try:
        litellm.get_llm_provider(spec.model, api_base=spec.options.get("api_base"))
    except Exception:
        raise SettingsError(
            f"LM {role!r}: {spec.model!r} names no provider that DSPy knows. Write it as provider/model, such as "
            "openai/gpt-5-mini, or embedded/smollm2-135m for the model that needs no key."
        ) from None
    if "api_base" in spec.options:
        return
    missing = litellm.validate_environment(spec.model).get("missing_keys") or []
    if missing:
        raise SettingsError(
            f"LM {role!r}: {spec.model!r} needs {missing[0]}, which is not set. Set it in the environment."
        )
