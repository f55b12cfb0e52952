"""Calls over a real connection end: by an answer, by a time-out, or after a few attempts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import prepare
from cascade.errors import EvaluationFailed, SettingsError
from cascade.lm.lms import RETRIES, TIMEOUT, LMs
from cascade.runner import execute
from cascade.settings import LMSpec, Settings
from cascade.testing import Reply, ScriptedEndpoint

DEFINED = scripted.experiment(train=20, dev=20, test=20)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any-0123456789")


def settings(folder: Path, endpoint: str, **options: Any) -> Settings:
    return scripted.settings_in(folder, lm={"default": LMSpec("openai/any", {"api_base": endpoint, **options})})


def run(folder: Path, endpoint: str, **options: Any) -> Any:
    made = settings(folder, endpoint, **options)
    return execute(prepare(DEFINED, made, LMs(made)))


def test_every_remote_call_has_a_time_out_and_attempts_that_settings_may_change(tmp_path: Path) -> None:
    plain, own = (
        LMs(settings(tmp_path, "http://localhost:1", **more))["task"] for more in ({}, {"timeout": 7, "num_retries": 0})
    )
    assert (plain.kwargs["timeout"], plain.retries) == (TIMEOUT, RETRIES) == (180.0, 3)
    assert (own.kwargs["timeout"], own.retries) == (7, 0)


def test_another_time_out_asks_nothing_again(tmp_path: Path) -> None:
    with ScriptedEndpoint(scripted.answer) as endpoint:
        run(tmp_path, endpoint.url, timeout=7, num_retries=0)
        asked = len(endpoint.asked)
        assert run(tmp_path, endpoint.url, timeout=9.5, num_retries=2).spent.lm_calls == 0
        assert len(endpoint.asked) == asked == 40


def test_an_endpoint_that_never_answers_ends_the_run(tmp_path: Path) -> None:
    with ScriptedEndpoint(scripted.answer, reply=lambda _number, _inputs: Reply(hang=True)) as endpoint:
        with pytest.raises(EvaluationFailed, match=r"of 'dev' failed.*no bytes for 0\.2s"):
            run(tmp_path, endpoint.url, timeout=0.2, num_retries=0)
        assert len(endpoint.asked) <= 20


@pytest.mark.parametrize(("status", "attempts"), [(429, 3), (500, 3), (503, 3), (400, 1), (401, 1), (404, 1)])
def test_what_may_pass_is_tried_again_and_what_cannot_is_not(status: int, attempts: int) -> None:
    def reply(_number: int, _inputs: Mapping[str, str]) -> Reply:
        return Reply(status, headers={"Retry-After": "0"})

    with ScriptedEndpoint(scripted.answer, reply=reply) as endpoint:
        lm = dspy.LM("openai/any", api_base=endpoint.url, cache=False, num_retries=2)
        with dspy.context(lm=lm), pytest.raises(Exception, match=f"status {status}"):
            dspy.Predict("question -> answer")(question="hi")
        assert len(endpoint.asked) == attempts


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": "60"},
        {"timeout": True},
        {"timeout": float("inf")},
        {"num_retries": -1},
        {"num_retries": 1.5},
    ],
)
def test_a_time_out_that_is_none_is_refused(options: dict[str, Any]) -> None:
    (name, value) = next(iter(options.items()))
    with pytest.raises(SettingsError, match=rf"lm\.task has {name} = {value!r}\. Write "):
        LMSpec.parse({"model": "openai/any", **options}, place="lm.task")


def test_a_scripted_endpoint_wants_its_key_and_keeps_what_it_was_asked() -> None:
    with ScriptedEndpoint(
        lambda _model, inputs, demos: {"answer": f"{inputs['question']} {demos}"}, key="k"
    ) as endpoint:
        answers = []
        for key in ("k", "other"):
            program = dspy.Predict("question -> answer")
            program.demos = [dspy.Example(question="q", answer="a")]
            with dspy.context(lm=dspy.LM("openai/any", api_base=endpoint.url, api_key=key, cache=False)):
                try:
                    answers.append(program(question="hi").answer)
                except Exception as error:
                    answers.append(type(error).__name__)
        assert answers == ["hi 1", "LMAuthError"]
        assert [asked["question"] for asked in endpoint.asked] == ["hi", "hi"]
