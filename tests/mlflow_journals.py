"""Journals written by hand: a run as the runner would leave it, without running anything."""

from pathlib import Path
from typing import Any

from cascade.journal import Journal, RunRecord, StageRecord

STARTED = 1_795_000_000.0
FACTORY = '''"""Does it shout?"""

import dspy


class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)
'''
STAGE_METRICS = {
    "dev_score": 0.61234567, "dev_ci_low": 0.5, "dev_ci_high": 0.7,
    "gain": 0.1, "gain_ci_low": 0.02, "gain_ci_high": 0.18,
    "lm_calls": 120, "lm_calls_cached": 3, "input_tokens": 900, "output_tokens": 80, "cost_usd": 0.0123456,
    "seconds": 3.25, "latency_p50": 0.2, "latency_p95": 0.4,
}  # fmt: skip
RUN_METRICS = {
    "test_score": 0.7, "test_ci_low": 0.6, "test_ci_high": 0.8,
    "baseline_test_score": 0.5, "baseline_test_ci_low": 0.4, "baseline_test_ci_high": 0.6,
    "test_gain": 0.2, "test_gain_ci_low": 0.1, "test_gain_ci_high": 0.3,
}  # fmt: skip
TEST_METRICS = {"test_score": 0.7, "test_ci_low": 0.6, "test_ci_high": 0.8}
SPENT = {
    "lm_calls": 500,
    "lm_calls_cached": 9,
    "input_tokens": 4000,
    "output_tokens": 300,
    "cost_usd": 0.05,
    "seconds": 20.0,
}


def state(instructions: str = "Answer.") -> dict[str, Any]:
    fields = [
        {"prefix": "Question:", "description": "${question}"},
        {"prefix": "Answer:", "description": "${answer}"},
    ]
    demos = [{"question": "1+1?", "answer": "2"}]
    return {
        "answer": {
            "traces": [], "train": [], "demos": demos, "lm": None,
            "signature": {"instructions": instructions, "fields": fields},
        }
    }  # fmt: skip


def run_record(folder: Path, **changes: Any) -> RunRecord:
    source = folder / "experiments" / "qa.py"
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(FACTORY)
    splits = {
        name: {"rows": rows, "fingerprint": f"{name}0123456789"[:12], "fields": ["question", "answer"],
               "source": f"datasets/qa/{name}.jsonl"}
        for name, rows in {"train": 60, "dev": 40, "test": 50}.items()
    }  # fmt: skip
    values: dict[str, Any] = {
        "id": "20261122-022000-4f2a",
        "experiment": "qa",
        "hypothesis": "Does it shout?",
        "signature": "9f2c1ab0",
        "dataset": "qa@0123456789ab",
        "splits": splits,
        "factory": {"name": "Answer", "source": str(source)},
        "inputs": ("question",),
        "outputs": ("answer",),
        "lms": {"task": "openai/fake", "prompt": "openai/fake", "teacher": "openai/fake", "student": "openai/fake"},
        "params": {
            "seed": "1",
            "plateau.patience": "2",
            "budget.lm_calls": "5000",
            "lm.task": "openai/fake",
            "rows.dev": "40",
        },
        "git_sha": "0" * 40,
        "started": STARTED,
        "spent": SPENT,
    }
    return RunRecord(**{**values, **changes})


def stage_record(number: int, name: str, lever: str = "prompt", status: Any = "done", **changes: Any) -> StageRecord:
    done = {
        "params": {"optimizer": "MIPROv2", "auto": "light"} if number else {"optimizer": "none"},
        "metrics": STAGE_METRICS,
        "verdict": "better" if number else "",
        "kept": "new" if number else "",
        "next": "continue",
        "reason": "dev rose from 50.0% to 61.2%.",
    }
    values: dict[str, Any] = {"started": STARTED + 10 * number, "ended": STARTED + 10 * number + 9}
    return StageRecord(number, name, lever, status, **{**values, **(done if status == "done" else {}), **changes})


def write_stage(journal: Journal, record: StageRecord, program: dict[str, Any] | None = None) -> None:
    folder = record.folder
    if record.status == "done":
        journal.write(f"{folder}/program.json", program or state(f"Answer {record.name}."))
        journal.write(f"{folder}/prompts.md", "# answer\n")
        journal.write(f"{folder}/prompts.diff.md", "```diff\n- a\n+ b\n```\n")
        table = {"input": ["1+1?", "2+2?"], "predicted": ["two", "five"], "score": [1.0, 0.0],
                 "expected": ["two", "four"], "feedback": ["", "no"], "id": ["dev-0001", "dev-0002"], "error": ["", ""],
                 "tokens": [9, 9],
                 "latency": [0.1, 0.2]}  # fmt: skip
        journal.write(f"{folder}/examples.json", table)
        journal.write(f"{folder}/decision.json", {"verdict": record.verdict, "kept": record.kept})
    if record.status == "done" and record.number:
        steps = [{"step": step, "score": 0.3 + step / 10, "n": 20, "state": state()} for step in range(3)]
        journal.write(f"{folder}/candidates.jsonl", steps)
    journal.write_stage(record)


def completed(folder: Path, **changes: Any) -> Journal:
    """Baseline, two done stages, one skipped, one failed; best is `2-together`."""
    values: dict[str, Any] = {
        "status": "completed", "ended": STARTED + 60, "best_stage": "2-together", "proven": True,
        "metrics": RUN_METRICS, "summary": "2-together is better: +20 points on test.",
        "spent_by_stage": {"4-weights": {"lm_calls": 7, "seconds": 2.0}},
    }  # fmt: skip
    journal = Journal.create(folder / ".cascade", run_record(folder, **{**values, **changes}))
    write_stage(journal, stage_record(0, "baseline", "none", test_metrics={"test_score": 0.5}))
    write_stage(
        journal, stage_record(1, "instructions", metrics={**STAGE_METRICS, "dev_score": 0.55}, kept="incumbent")
    )
    best = stage_record(2, "together", "both", metrics={**STAGE_METRICS, "dev_score": 0.8}, test_metrics=TEST_METRICS)
    write_stage(journal, best)
    write_stage(journal, stage_record(3, "demos", status="skipped", reason="plateau", started=0.0, ended=0.0))
    write_stage(journal, stage_record(4, "weights", "weights", "failed", reason="ValueError: no rows"))
    journal.write("decisions.json", [{"stage": "1-instructions", "verdict": "better"}])
    return journal


def unfinished(folder: Path, status: str, **changes: Any) -> Journal:
    """Baseline and one stage, then `status`."""
    values = {"id": f"20261122-030000-{status[:4]}", "status": status, "best_stage": "1-instructions", **changes}
    journal = Journal.create(folder / ".cascade", run_record(folder, **values))
    write_stage(journal, stage_record(0, "baseline", "none"))
    write_stage(journal, stage_record(1, "instructions"))
    return journal
