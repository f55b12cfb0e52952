"""Answers into rows and back: what was written comes back, and whatever else stands there counts as not there."""

import json
from typing import Any

import orjson
import pytest
from dspy.clients.call_result import CallResult
from dspy.lm15 import Message, Response, TextPart
from dspy.lm15 import Usage as ModelUsage
from hypothesis import given
from hypothesis import strategies as st

from cascade.lm.answers import COLUMNS, Answer, cut_off, from_dspy, from_row, to_blob, to_dspy, usable


def said(text: str) -> dict[str, Any]:
    """What DSPy keeps of a response."""
    message = Message.assistant([TextPart(text)])
    usage = ModelUsage(input_tokens=3, output_tokens=2)
    response = Response(id=None, model="m", message=message, finish_reason="stop", usage=usage)
    return dict(CallResult.native(response).dump())


RECORD = said("é")
CHAT = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
WHOLE = {
    "kind": "lm15",
    "input_tokens": 3,
    "output_tokens": 2,
    "cost_usd": 0.25,
    "seconds": 1.5,
    "answer": to_blob(RECORD),
}


def row(**changes: Any) -> list[Any]:
    return [{**WHOLE, **changes}[name] for name in COLUMNS]


@given(st.text())
def test_what_a_model_said_comes_back(text: str) -> None:
    record = said(text)
    answer = from_dspy(record, 1.5, free=False)
    assert (answer.kind, answer.input_tokens, answer.output_tokens, answer.cost_usd) == ("lm15", 3, 2, None)
    read = from_row(row(cost_usd=None, answer=to_blob(answer.record)))
    assert read == answer
    assert CallResult.load(to_dspy(read, lm=True)).outputs == [text]


@pytest.mark.parametrize(
    ("record", "cut"),
    [
        ({**RECORD, "responses": [{**RECORD["responses"][0], "finish_reason": "length"}]}, True),
        ({"choices": [{"message": {"content": "h"}, "finish_reason": "length"}]}, True),
        (RECORD, False), (CHAT, False), ({"output": []}, False), ({"choices": ["text"]}, False), ("text", False),
    ],
)  # fmt: skip
def test_an_answer_that_was_cut_off_is_known(record: Any, cut: bool) -> None:
    assert cut_off(Answer("lm15", record, 1, 1, None, 0.1)) is cut


def test_an_embedded_answer_costs_nothing() -> None:
    assert from_dspy(RECORD, 0.1, free=True).cost_usd == 0.0


def test_a_chat_completion_comes_back_with_attributes_and_without_usage() -> None:
    back = to_dspy(Answer("litellm", CHAT, 1, 0, None, 0.1), lm=True)
    assert back.choices[0].message.content == "hi"
    assert back.usage == {}


def test_what_else_is_kept_in_dspy_s_cache_comes_back_to_who_kept_it_only() -> None:
    answer = from_dspy({"answers": {"a": 1}}, 0.1, free=False)
    assert to_dspy(answer, lm=False) == {"answers": {"a": 1}}
    assert to_dspy(answer, lm=True) is None
    assert to_dspy(Answer("lm15", RECORD, 1, 1, None, 0.1), lm=False) is None


@pytest.mark.parametrize("text", ["half \ud83d of a character", "\x00", "\u2028"])
def test_text_that_json_can_hardly_hold_comes_back(text: str) -> None:
    assert from_row(row(answer=to_blob({"text": text}))).record == {"text": text}  # type: ignore[union-attr]


def test_a_number_of_more_than_64_bits_comes_back() -> None:
    assert from_row(row(answer=to_blob({"seed": 2**70}))).record == {"seed": 2**70}  # type: ignore[union-attr]


DAMAGED: list[dict[str, Any]] = [
    *({"answer": value} for value in (b"{", b"", b"\xff\xfe", "{half", None, 5, b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000)),
    *({"input_tokens": value} for value in ("3", -1, 1.5, None, b"\xff")),
    *({"output_tokens": value} for value in ("many", -7, None)),
    *({"cost_usd": value} for value in ("free", -0.1, float("inf"), b"")),
    *({"seconds": value} for value in ("soon", None, -1.0, float("nan"), float("inf"))),
    *({"kind": value} for value in (None, 5, b"lm15")),
]  # fmt: skip


@pytest.mark.parametrize("changes", DAMAGED, ids=lambda changes: " ".join(f"{k}={v!r:.20}" for k, v in changes.items()))
def test_a_damaged_row_is_no_answer(changes: dict[str, Any]) -> None:
    assert from_row(row()) is not None
    assert from_row(row(**changes)) is None


SHAPES: list[tuple[str, Any]] = [
    *(("lm15", value) for value in ({}, [], "text", 5, None, [RECORD])),
    *(("lm15", {**RECORD, name: value}) for name, value in (
        ("_dspy_format", "other"), ("outputs", "text"), ("outputs", []), ("outputs", [5]), ("outputs", None),
        ("responses", [5]), ("responses", [{}]), ("responses", 5), ("responses", [{**RECORD["responses"][0], "message": "hi"}]),
    )),
    *(("lm15", {name: value for name, value in RECORD.items() if name != left}) for left in ("responses", "outputs", "cost", "response_model")),
    *(("litellm", value) for value in (
        {}, [], "text", 5, None, {"choices": 5}, {"choices": [5]}, {"choices": [{}]}, {"choices": [{"message": 5}]},
        {"choices": [{"message": {"content": 5}}]}, {"output": 5}, {"output": ["text"]}, {"usage": {}},
    )),
    ("pickle", RECORD), ("", RECORD), ("json", RECORD),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "record"), SHAPES, ids=lambda value: json.dumps(value, default=str)[:50])
def test_json_of_another_shape_is_no_lm_s_answer(kind: str, record: Any) -> None:
    assert to_dspy(Answer(kind, record, 1, 1, None, 0.1), lm=True) is None


def test_nesting_that_python_cannot_follow_is_no_answer() -> None:
    deep = orjson.loads(b'{"a":' * 1000 + b"1" + b"}" * 1000)
    for kind, record in (("lm15", {**RECORD, "outputs": [deep]}), ("litellm", {**CHAT, "more": deep})):
        assert not usable(Answer(kind, record, 1, 1, None, 0.1))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "output", "outputs", "responses", "text", "a"]), inner, max_size=3
    ),
)  # fmt: skip


@given(st.sampled_from(["lm15", "litellm", "json", "x"]), _JSON, st.booleans())
def test_any_json_is_an_answer_that_dspy_can_load_or_none(kind: str, record: Any, lm: bool) -> None:
    shaped = {**RECORD, "outputs": record} if kind == "lm15" else record
    back = to_dspy(Answer(kind, shaped, 1, 1, None, 0.1), lm=lm)
    if back is not None and kind == "lm15":
        assert CallResult.load(back).outputs == record


@given(
    st.lists(
        st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3), min_size=6, max_size=6
    )
)
def test_any_row_is_an_answer_or_none(values: list[Any]) -> None:
    answer = from_row(values)
    assert answer is None or isinstance(answer, Answer)
