"""A cascade over a real connection: an endpoint that fails now and then changes nothing but the time it takes."""

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.check import prepare
from cascade.experiment import Stage
from cascade.lm.lms import LMs
from cascade.runner import execute
from cascade.settings import LMSpec
from cascade.testing import Reply, ScriptedEndpoint

STAGES = (
    Stage("instructions", dspy.MIPROv2, auto=None, num_candidates=2, num_trials=3, minibatch=False),
    Stage("demos", dspy.BootstrapFewShot),
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any-0123456789")


class Flaky:
    """Fails one request in five, by its content and how often it was asked, and never twice running."""

    def __init__(self) -> None:
        self.sent: Counter[int] = Counter()
        self._asked: Counter[str] = Counter()
        self._failed: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, _number: int, inputs: Mapping[str, str]) -> Reply | None:
        with self._lock:
            content = json.dumps(inputs, sort_keys=True)
            self._asked[content] += 1
            drawn = scripted.luck(content, self._asked[content])
            status = 200 if content in self._failed or drawn > 0.25 else 429 if drawn > 0.125 else 500
            (self._failed.discard if status == 200 else self._failed.add)(content)
            self.sent[status] += 1
            return None if status == 200 else Reply(status, headers={"Retry-After": "0"})


def run(folder: Path, url: str) -> Any:
    made = scripted.settings_in(folder, lm={"default": LMSpec("openai/any", {"api_base": url, "temperature": 0.0})})
    return execute(prepare(scripted.experiment(*STAGES, plateau=scripted.PATIENT), made, LMs(made)))


def outcome(result: Any) -> dict[str, Any]:
    """All that must not depend on the weather."""
    return {
        "dev": {stage.name: [outcome.score for outcome in stage.dev.outcomes] for stage in result.stages},
        "test": [[outcome.score for outcome in side.outcomes] for side in (result.test.baseline, result.test.best)],
        "best": result.best.name,
        "programs": [stage.taken.digest for stage in result.stages],
        "billed": [stage.spent.lm_calls for stage in result.stages],
        "tokens": (result.spent.input_tokens, result.spent.output_tokens),
    }


def test_a_fifth_of_answers_429_or_500_changes_no_score_no_program_and_no_bill(tmp_path: Path) -> None:
    flaky, seconds, outcomes = Flaky(), [], []
    for name, reply in (("calm", lambda _number, _inputs: None), ("flaky", flaky)):
        with ScriptedEndpoint(scripted.answer, reply=reply) as endpoint:
            began = time.monotonic()
            result = run(tmp_path / name, endpoint.url)
            seconds.append(time.monotonic() - began)
            outcomes.append(outcome(result))
            assert result.status == "completed" and not sum(stage.dev.failures for stage in result.stages)
            assert len(endpoint.asked) == result.spent.lm_calls + flaky.sent[429] + flaky.sent[500]
    assert outcomes[0] == outcomes[1]
    assert flaky.sent[429] > 10 and flaky.sent[500] > 10
    assert 0.15 < (flaky.sent[429] + flaky.sent[500]) / flaky.sent.total() < 0.25
    assert seconds[1] < 10 * seconds[0] + 20
