"""What is a key, in which forms it is hidden, and what must stay as it is."""

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import scripted

from cascade.errors import EvaluationFailed
from cascade.evaluation import evaluate
from cascade.journal import Journal, RunRecord
from cascade.redaction import Redacting, redacted, secrets_of, told

KEY = "sk-canary/0123+4567=89ab"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_API_KEY", KEY)


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "my_apikey"]
)
def test_a_key_in_the_environment_is_hidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "abc-0123456789")
    assert redacted("it is abc-0123456789.") == "it is ***."


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false-0123456789"),
        ("KEYBOARD", "qwertz-0123456789"),
        ("OPENAI_API_KEY", "EMPTY"),
        ("OPENAI_API_KEY", "not-needed"),
        ("SSH_KEY", "/home/me/.ssh/id_0123456789"),
        ("MAX_TOKENS", "4096000000"),
    ],
)
def test_what_is_no_key_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert redacted(f"it is {value}.") == f"it is {value}."


@pytest.mark.parametrize("form", [KEY, quote(KEY, safe=""), json.dumps({"a": KEY}), "c2stY2FuYXJ5LzAxMjMrNDU2Nz04OWFi"])
def test_every_usual_form_is_hidden(form: str) -> None:
    assert redacted(f"<{form}>") == ('<{"a": "***"}>' if form.startswith("{") else "<***>")


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefghijkl", "hf_abcdefghijklm", "ghp_abcdefghijklmnop", "AKIAABCDEFGHIJKLMNOP", "xoxb-123456789012-abc",
        "Bearer abcdefghijklmnop", "https://me:pw@host/x",
    ],
)  # fmt: skip
def test_what_looks_like_a_key_is_hidden_in_an_error(text: str) -> None:
    hidden = told(ValueError(f"for {text} no"))
    assert hidden in (
        "ValueError: for *** no",
        "ValueError: for Bearer *** no",
        "ValueError: for https://***@host/x no",
    )
    assert redacted(text) == text, "a prompt may speak of it"


def test_an_error_is_one_line_without_advice_for_programmers() -> None:
    assert told(ValueError("a\n b\n\n  To fix:\n    - Wait")) == "ValueError: a b"
    assert len(told(ValueError("x" * 999))) == 500


def test_options_that_are_keys() -> None:
    options = {
        "api_base": "http://h/v1?token=t-0123456789&api-version=2026-01-01",
        "headers": {"A": "Bearer b-0123456789"},
        "temperature": 1,
        "auth_token": "c-0123456789",
    }
    assert list(secrets_of(options)) == ["t-0123456789", "b-0123456789", "c-0123456789"]
    assert list(secrets_of({"api_base": "http://localhost:8000/v1", "model_type": "chat"})) == []


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_stream_hides_and_a_log_is_worth_no_failure() -> None:
    inner = io.StringIO()
    stream = Redacting(inner)
    stream.writelines([f"a {KEY}\n", "b\n"])
    assert (inner.getvalue(), stream.getvalue()) == ("a ***\nb\n", "a ***\nb\n")
    with pytest.raises(OSError, match="No space"):
        Redacting(Full()).write("a\n")
    log = Redacting(Full(), lossy=True)
    log.flush()
    assert log.write("a\n") == 2


def test_nothing_that_is_written_into_a_journal_holds_a_key(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RunRecord("1", "x", hypothesis=KEY, summary=f"failed: {KEY}"))
    journal.write("a.md", KEY)
    journal.write("b.jsonl", [{KEY: KEY}])
    assert {KEY in path.read_text() for path in journal.folder.iterdir()} == {False}
    assert journal.run.summary == "failed: ***"


def test_an_example_s_error_and_what_it_becomes_hold_no_key() -> None:
    def echoes(question: str) -> Any:
        raise ConnectionError(f"you sent {KEY} and Bearer other-than-that-0123")

    with pytest.raises(EvaluationFailed, match=r"ConnectionError: you sent \*\*\* and Bearer \*\*\*$"):
        evaluate(echoes, scripted.split("dev", 20), scripted.right)
