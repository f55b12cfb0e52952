"""Three SIGKILLs over a cascade on the real embedded model, one of them inside a training, after a checkpoint."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kill_embedded import STAGES, EmbeddedProject
from kill_points import THREADS

from cascade.lm.embedded import Models

pytestmark = [pytest.mark.embedded, pytest.mark.slow, pytest.mark.timeout(1800)]


def killed(project: EmbeddedProject, happened: Callable[[], Any]) -> None:
    process, deadline = project.start(), time.monotonic() + project.patience
    while not happened() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, project.said[-2000:]


def test_three_kills_of_the_embedded_cascade(
    tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Models(EmbeddedProject.home()).prepare()
    whole = EmbeddedProject(tmp_path / "whole", empty_store)
    whole.finish()
    calls, steps = len(whole.asked), len(whole.steps)
    assert steps == max(whole.steps)

    project, lines = EmbeddedProject(tmp_path / "killed", empty_store), list[str]()
    lost, recorded, repeated = Counter[str](), set[str](), 0

    def died(moment: str) -> None:
        nonlocal repeated, recorded
        new = project.asked[sum(seen) :]
        repeated += sum(one["key"] in recorded for one in new)
        recorded = project.recorded
        gone = [one["question"] for one in new if one["key"] not in recorded]
        lines.append(f"| {moment} | {len(recorded)} | {len(gone)} | {len(project.steps)} | {project.checkpoint} |")
        lost.update(gone)
        seen.append(len(new))
        assert len(gone) <= THREADS

    seen = list[int]()

    killed(project, lambda: len(project.asked) > 30)
    died("answering")
    killed(project, lambda: 0 < project.checkpoint < len(project.steps))
    died("training")
    (run,) = [journal.run.id for journal in project.journals]
    kept, made = project.checkpoint, len(project.steps)
    assert 0 < kept < made < steps
    killed(project, lambda: project.weights and len(project.asked) > calls - 20)
    died("judging")
    project.finish()
    died("finished")

    with capsys.disabled():
        print(f"\n3 kills of an embedded cascade of {calls} calls and {steps} training steps: {repeated} answered")
        print(
            f"calls repeated, {sum(lost.values())} in flight asked again, {len(project.steps) - steps} steps made again\n"
        )
        print(
            "| killed while | recorded | in flight | steps made | checkpoint |\n|---|---|---|---|---|", *lines, sep="\n"
        )
    assert project.steps == [*range(1, made + 1), *range(kept + 1, steps + 1)]
    assert project.weights == whole.weights and len(whole.weights) == 1
    assert Counter(one["question"] for one in project.asked) == Counter(one["question"] for one in whole.asked) + lost
    assert repeated == 0
    assert [journal.run.id for journal in project.journals] == [run]
    assert project.said.count(f"Going on with run {run}, interrupted at") == 3
    assert project.outcome == whole.outcome
    assert whole.outcome["mlflow"]["nested"] == [(stage, "FINISHED") for stage in STAGES]
    assert calls - 4 <= project.journals[0].run.spent["lm_calls"] <= len(project.asked)
