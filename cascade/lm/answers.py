"""A model's answer: from DSPy's form into a row of the ledger, and back.

Invariant: what comes back is of a form that DSPy can use, or it counts as not there. Reading runs no code.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from dspy.clients.call_result import CACHE_FORMAT, CallResult, attributes
from dspy.clients.legacy_outputs import plain

COLUMNS = ("kind", "input_tokens", "output_tokens", "cost_usd", "seconds", "answer")
"""Of a row, in the order in which `from_row` takes them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said and what it took.

    Args:
        kind: how DSPy stores it: `lm15`, `litellm` or `json`; the last is no LM's answer.
        record: the answer as JSON values.
        cost_usd: None when the price is not known.
        seconds: from request to answer.
    """

    kind: str
    record: Any
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    seconds: float


def from_dspy(value: Any, seconds: float, *, free: bool) -> Answer:
    """The answer that DSPy hands to its cache.

    Args:
        free: the model costs nothing.
    """
    if isinstance(value, dict) and value.get("_dspy_format") == CACHE_FORMAT:
        kind, record, cost = "lm15", value, value.get("cost")
    elif hasattr(value, "model_dump"):
        kind, record, cost = "litellm", plain(value), getattr(value, "_hidden_params", {}).get("response_cost")
    else:
        kind, record, cost = "json", plain(value), None
    usage = (record.get("usage") if isinstance(record, dict) else None) or {}
    tokens = (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    return Answer(kind, record, *tokens, 0.0 if free else cost, seconds)


def to_dspy(answer: Answer, *, lm: bool) -> Any:
    """What DSPy may be given for it, or None for a record that is none of DSPy's.

    Args:
        lm: an LM is asked; else something that keeps values of its own in DSPy's cache.
    """
    if not lm:
        return answer.record if answer.kind == "json" else None
    try:
        fits = {"lm15": _is_result, "litellm": _is_response}[answer.kind](answer.record)
        if not fits:
            return None
        return answer.record if answer.kind == "lm15" else attributes({**answer.record, "usage": {}})
    except Exception:  # whatever a record that someone made up does to DSPy's reader
        return None


def cut_off(answer: Answer) -> bool:
    """Whether the model was stopped by `max_tokens` before it was done."""
    record = answer.record if isinstance(answer.record, dict) else {}
    said = [*(record.get("responses") or ()), *(record.get("choices") or ())]
    return any(isinstance(one, dict) and one.get("finish_reason") == "length" for one in said)


def usable(answer: Answer) -> bool:
    """Whether DSPy could be given it."""
    return to_dspy(answer, lm=answer.kind != "json") is not None


def from_row(row: Sequence[Any]) -> Answer | None:
    """The answer in a row's `COLUMNS`, or None where they are damaged."""
    kind, input_tokens, output_tokens, cost, seconds, blob = row
    counts = type(input_tokens) is int and type(output_tokens) is int and min(input_tokens, output_tokens) >= 0
    if not (counts and _is_amount(seconds) and (cost is None or _is_amount(cost)) and isinstance(kind, str)):
        return None
    try:
        return Answer(kind, _loads(blob), input_tokens, output_tokens, cost, seconds)
    except (ValueError, TypeError, RecursionError):
        return None


def to_blob(record: Any) -> bytes:
    """A record as JSON; what JSON does not know becomes text."""
    try:
        return orjson.dumps(record, default=str)
    except TypeError:  # half a character, or a number beyond 64 bits
        return json.dumps(record, default=str).encode()


def _loads(blob: Any) -> Any:
    try:
        return orjson.loads(blob)
    except orjson.JSONDecodeError:
        return json.loads(blob)


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _is_result(record: Any) -> bool:
    outputs = record["outputs"]
    whole = record["_dspy_format"] == CACHE_FORMAT and isinstance(outputs, list) and outputs
    if not whole or not all(output is None or isinstance(output, str | dict) for output in outputs):
        return False
    CallResult.load(record)  # raises for parts of a response that are none
    return True


def _is_response(record: Any) -> bool:
    """Chat completions, text completions and the Responses API."""
    if "output" in record:
        return isinstance(record["output"], list) and all(isinstance(item, dict) for item in record["output"])
    choices = record["choices"]
    return isinstance(choices, list) and all(_said(choice) for choice in choices)


def _said(choice: Any) -> bool:
    text = choice["message"].get("content") if "message" in choice else choice["text"]
    return text is None or isinstance(text, str)
