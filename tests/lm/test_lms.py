"""LMs by name: made once, found wrong before anything is spent."""

import os
from pathlib import Path

import dspy
import pytest
import scripted

from cascade.errors import SettingsError
from cascade.lm.call import RoleCallback
from cascade.lm.lms import LMs
from cascade.settings import EMBEDDED, LMSpec
from cascade.spending import Price

LOCAL = {"api_base": "http://localhost:1/v1"}


def lms(folder: Path, threads: int | None = None, **specs: LMSpec) -> LMs:
    return LMs(scripted.settings_in(folder, lm=specs, threads=threads))


def test_an_lm_is_made_once_with_its_options_and_role(tmp_path: Path) -> None:
    named = lms(tmp_path, default=LMSpec("openai/a", {**LOCAL, "temperature": 0.25}))
    lm = named["teacher"]
    assert lm is named["teacher"] is not named["task"]
    assert (lm.model, lm.kwargs["temperature"], lm.kwargs["api_base"]) == ("openai/a", 0.25, LOCAL["api_base"])
    assert [callback.role for callback in lm.callbacks if isinstance(callback, RoleCallback)] == ["teacher"]
    assert [callback.role for callback in lm.copy().callbacks] == ["teacher"]


def test_names_are_those_of_settings(tmp_path: Path) -> None:
    named = lms(tmp_path, cloud=LMSpec("openai/c", LOCAL))
    assert set(named) == {"task", "prompt", "teacher", "student", "cloud"}
    assert len(named) == 5
    assert (named.model("cloud"), named.model("task")) == ("openai/c", EMBEDDED)
    assert named.by_model("openai/c") is named["cloud"]


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("embedded/small-0123456789ab", 300),
        ("embedded/small-ffffffffffff", 300),
        ("embedded/other-0123456789ab", 128),
    ],
)
def test_trained_weights_answer_under_the_options_of_what_they_were_trained_from(
    tmp_path: Path, model: str, tokens: int
) -> None:
    folder = tmp_path / ".cascade" / "models"
    folder.mkdir(parents=True)
    for ending in ("json", "gguf"):
        (folder / f"{model.removeprefix('embedded/')}.{ending}").touch()
    named = lms(tmp_path, task=LMSpec("embedded/small", {"max_tokens": 300}), prompt=LMSpec("openai/a", LOCAL))
    assert named.by_model(model).kwargs["max_tokens"] == tokens


@pytest.mark.parametrize(
    ("threads", "model", "expected"),
    [(None, EMBEDDED, (os.cpu_count() or 1) + 1), (None, "openai/a", 8), (5, EMBEDDED, 5), (1, "openai/a", 1)],
)
def test_threads_are_as_settings_say_else_as_the_model_can(
    tmp_path: Path, threads: int | None, model: str, expected: int
) -> None:
    assert lms(tmp_path, threads, default=LMSpec(model)).threads == expected


def test_the_endpoint_is_part_of_an_identity(tmp_path: Path) -> None:
    named = lms(tmp_path, task=LMSpec("openai/a", LOCAL), prompt=LMSpec("openai/b"))
    assert named.identity("openai/a") == LOCAL["api_base"]
    assert named.identity("openai/b") == named.identity("openai/unknown") == ""


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("nowhere/x", ["LM 'task'", "'nowhere/x'", "names no provider", "embedded/smollm2-135m"]),
        (
            "anthropic/claude-x",
            ["LM 'task'", "'anthropic/claude-x' needs ANTHROPIC_API_KEY", "Set it in the environment"],
        ),
        ("embedded/none", ["LM 'task'", "none"]),
    ],
)
def test_what_cannot_be_called_is_refused_on_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, told: list[str]
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(SettingsError) as caught:
        lms(tmp_path, task=LMSpec(model))["task"]
    assert [part for part in told if part not in str(caught.value)] == []


PRICED = LMSpec("openai/mine", LOCAL, Price(0.5, 2.0))


@pytest.mark.parametrize(
    ("spec", "model", "usd"),
    [
        (PRICED, "openai/mine", 0.5e-3 + 2e-3),
        (PRICED, "openai/other", None),
        (LMSpec("openai/gpt-4o-mini-2024-07-18", LOCAL, Price(0.5, 2.0)), "ft:gpt-4o-mini-2024-07-18:us:x:1", 2.5e-3),
        (LMSpec(EMBEDDED, {}, Price(0.5, 2.0)), f"{EMBEDDED}-0123456789ab", 2.5e-3),
        (LMSpec(EMBEDDED), EMBEDDED, None),
        (LMSpec("openai/gpt-4o", LOCAL), "openai/gpt-4o", None),
    ],
)
def test_a_price_holds_for_its_model_and_for_what_is_trained_from_it(
    tmp_path: Path, spec: LMSpec, model: str, usd: float | None
) -> None:
    assert lms(tmp_path, default=LMSpec("openai/b", LOCAL), student=spec).price(model, 1000, 1000) == usd


def test_a_price_makes_an_lm_s_cost_known(tmp_path: Path) -> None:
    named = lms(tmp_path, default=LMSpec("openai/unheard-of", LOCAL), cloud=PRICED, here=LMSpec(EMBEDDED))
    assert {name: named.priced(name) for name in ("task", "cloud", "here")} == {
        "task": False,
        "cloud": True,
        "here": True,
    }


def test_embedded_weights_are_weighed(tmp_path: Path) -> None:
    folder = tmp_path / ".cascade" / "models"
    folder.mkdir(parents=True)
    (folder / "mine.json").touch()
    (folder / "mine.gguf").write_bytes(b"0" * 2_000_000)
    named = lms(tmp_path)
    assert (named.weights_gb("embedded/mine"), named.weights_gb("openai/a")) == (0.002, None)


def test_a_remote_model_has_dspy_s_own_adapter_and_no_weights(tmp_path: Path) -> None:
    named = lms(tmp_path, default=LMSpec("openai/a", LOCAL))
    assert type(named.adapter) is dspy.ChatAdapter
    assert named.weights("openai/a") is None
    named.close()
