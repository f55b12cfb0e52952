"""What may name a person is gone, and ordinary figures stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.production.incoming.personal import impersonal


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("ask ann.lee+work@mail.example.org today", "ask <email> today"),
        ("call +49 30 1234567 or 0049-171-2345678", "call <phone> or <phone>"),
        ("call (030) 1234567", "call <phone>"),
        ("call 555-123-4567", "call <phone>"),
        ("card 4111 1111 1111 1111 please", "card <card> please"),
        ("card 4111-1111-1111-1112 is none", "card 4111-1111-1111-1112 is none"),
        ("to DE89 3704 0044 0532 0130 00", "to <iban>"),
        ("my pc is 192.168.0.17", "my pc is <ip>"),
        ("error 0x80070005 on 2026-11-27 at 10:30, 1,234,567 rows, version 3.4.1, 3 - 2 = 1", ...),
        ("page 12 of 250; ticket 48213; 99.5 %; 2.5 kg", ...),
    ],
)
def test_cases(text: str, left: object) -> None:
    assert impersonal(text) == (text if left is ... else left)


def test_all_texts_of_a_row() -> None:
    row = {"a": "x@y.org", "b": [1, "x@y.org", {"c": "x@y.org"}], "d": 4111111111111111, "e": None}
    assert impersonal(row) == {"a": "<email>", "b": [1, "<email>", {"c": "<email>"}], "d": 4111111111111111, "e": None}


@given(st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.[a-z]{2,3}", fullmatch=True), st.text(alphabet="abc \n.,", max_size=20))
def test_an_address_never_stays(address: str, around: str) -> None:
    assert address not in impersonal(f"{around} {address} {around}")


@given(st.text())
def test_doing_it_again_changes_nothing(text: str) -> None:
    once = impersonal(text)
    assert impersonal(once) == once


def test_keys_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789abcdef")
    assert "canary" not in impersonal("it says sk-canary-0123456789abcdef")
