"""Fine-tuning at OpenAI through DSPy's provider, against a fake that keeps to the protocol."""

import gc
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dspy
import openai
import pytest
import scripted
from dspy.clients.openai import OpenAIProvider

from cascade.check import prepare
from cascade.experiment import Stage
from cascade.journal import journals
from cascade.lm.lms import LMs
from cascade.program import restore
from cascade.runner import execute
from cascade.settings import LMSpec
from cascade.testing import ScriptedEndpoint, ScriptedJobs

pytestmark = pytest.mark.filterwarnings("ignore")
"""DSPy leaves the file that it uploads open, and LiteLLM, which calls `ft:` models, warns on its own account."""

KEY, BASE = "sk-any-0123456789", "gpt-4o-mini-2024-07-18"
DEFINED = scripted.experiment(Stage("weights", dspy.BootstrapFinetune), train=24, dev=24, test=24)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("DSPY_FINETUNEDIR", str(tmp_path / "rows"))
    polled = staticmethod(
        partial(OpenAIProvider.wait_for_job, poll_frequency=0.01)
    )  # DSPy's, else 20 seconds each time
    monkeypatch.setattr(OpenAIProvider, "wait_for_job", polled)
    yield
    openai._reset_client()
    gc.collect()


def settings(folder: Path, endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch) -> Any:
    openai._reset_client()
    monkeypatch.setattr(openai, "base_url", f"{endpoint.url}/")
    spec = LMSpec(f"openai/{BASE}", {"api_base": endpoint.url, "temperature": 0.0})
    return scripted.settings_in(folder, lm={"default": spec})


def test_a_stage_trains_at_openai_and_goes_on_with_the_new_model(tmp_path: Path, monkeypatch: Any) -> None:
    with ScriptedEndpoint(scripted.answer, key=KEY) as endpoint:
        made = settings(tmp_path, endpoint, monkeypatch)
        result = execute(prepare(DEFINED, made, LMs(made)))
        (job,), (rows,) = endpoint.jobs.jobs.values(), endpoint.jobs.files.values()
        assert (job["model"], job["status"]) == (BASE, "succeeded")
        trained = job["fine_tuned_model"]
        assert trained.startswith(f"ft:{BASE}:")
        assert 0 < len(rows) < 24 and [message["role"] for message in rows[0]["messages"]][-1] == "assistant"
        assert endpoint.jobs.looked > 4
        weights = result.stages[1]
        assert (weights.status, weights.error) == ("done", "")
        assert weights.taken.lms == {"ask": trained}
        assert weights.dev.mean > result.baseline.dev.mean
        assert result.best is weights
        assert result.spent.lm_calls == len(endpoint.asked) == 24 + 24 + 24 + 48
        again = restore(scripted.Asks, weights.taken, LMs(made).by_model)
        with dspy.context(adapter=dspy.ChatAdapter()):
            assert again(question="dev 0").answer == weights.program(question="dev 0").answer
        state = json.dumps([dict(weights.taken.state), [p.read_text() for p in Path(result.journal).rglob("*.json")]])
        assert KEY not in state


def test_a_job_that_fails_is_a_stage_that_failed(tmp_path: Path, monkeypatch: Any) -> None:
    with ScriptedEndpoint(scripted.answer, jobs=ScriptedJobs(error="too few rows")) as endpoint:
        made = settings(tmp_path, endpoint, monkeypatch)
        result = execute(prepare(DEFINED, made, LMs(made)))
        assert result.stages[1].status == "failed" and result.best is result.baseline
        assert "failed" in result.stages[1].error
        assert next(journals(made.home, "x"))
