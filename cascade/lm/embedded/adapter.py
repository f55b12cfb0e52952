"""A `dspy.ChatAdapter` that makes embedded models keep the format.

It exists to be switched off: forcing hides format failures that another model would show. Invariant: an LM that
is not embedded gets exactly what `dspy.ChatAdapter` would send; only a program's `max_tokens`, which is of values,
leaves it room for what it writes beside them.
"""

from typing import Any

import dspy

from cascade.lm.embedded.engine import EmbeddedEngine
from cascade.lm.embedded.forcing import Form, current_form, forcing, grammar, slots

__all__ = ["FormatForcingAdapter", "grammar"]

_HEADER = 8


class FormatForcingAdapter(dspy.ChatAdapter):  # type: ignore[misc]
    """Forces the output fields of a signature on embedded models, and shortens their prompt.

    Under force the format reminder at the end of a prompt is useless and is left out (292 to 210 tokens,
    measured). Fine-tuning data have the short form too: a model is trained on what it will be served.

    Args:
        options: of `dspy.ChatAdapter`; there is no fallback to JSON unless asked for.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"use_json_adapter_fallback": False, **options})

    def __call__(
        self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """As `dspy.ChatAdapter`, with the form of `signature` forced if the LM is embedded."""
        with forcing(_form(lm, lm_kwargs, signature)):
            return list(super().__call__(lm, _roomy(lm, lm_kwargs, signature), signature, demos, inputs))

    async def acall(
        self, lm: Any, lm_kwargs: dict[str, Any], signature: Any, demos: list[Any], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """As `__call__`, awaited."""
        with forcing(_form(lm, lm_kwargs, signature)):
            return list(await super().acall(lm, _roomy(lm, lm_kwargs, signature), signature, demos, inputs))

    def user_message_output_requirements(self, signature: Any) -> str | None:
        """No reminder of the format where the format is forced."""
        return None if current_form() else super().user_message_output_requirements(signature)

    def format_finetune_data(
        self, signature: Any, demos: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> dict[str, list[Any]]:
        """One training row, `{"messages": [...]}`, in the short form that embedded models are served."""
        with forcing(Form(slots(signature))):
            return dict(super().format_finetune_data(signature, demos, inputs, outputs))


def training_adapter(lm: Any) -> Any:
    """The adapter that makes training rows for an LM: the run's, but the short form only for embedded models."""
    adapter = dspy.settings.adapter
    return dspy.ChatAdapter() if isinstance(adapter, FormatForcingAdapter) and not _embedded(lm) else adapter


def _embedded(lm: Any) -> bool:
    return isinstance(getattr(lm, "engine", None), EmbeddedEngine)


def _roomy(lm: Any, lm_kwargs: dict[str, Any], signature: Any) -> dict[str, Any]:
    """A program's options for an LM: its `max_tokens` is of values, because embedded models are given the headers.

    Others write the headers too, and one that reasons first may spend any limit on that: it has its own from settings.
    """
    if _embedded(lm) or not lm_kwargs.get("max_tokens"):
        return lm_kwargs
    if lm.supports_reasoning:
        return {name: value for name, value in lm_kwargs.items() if name != "max_tokens"}
    # `[[ ## name ## ]]` with the line ends around it has 7 tokens beside the name's in the tokenizers of GPT-4 and 4o.
    headers = sum(_HEADER + len(name) // 2 for name in (*signature.output_fields, "completed"))
    return {**lm_kwargs, "max_tokens": lm_kwargs["max_tokens"] + headers}


def _form(lm: Any, lm_kwargs: dict[str, Any], signature: Any) -> Form | None:
    if not _embedded(lm):
        return None
    return Form(slots(signature), lm_kwargs.get("rollout_id", lm.kwargs.get("rollout_id")))
