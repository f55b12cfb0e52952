"""Journals written by hand: runs as the runner leaves them, with every figure chosen."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cascade.comparison import compare, score_interval
from cascade.journal import Journal, RunRecord, StageRecord

STARTED = 1_795_000_000.0
N = 24
SOURCE = '''"""Does it know its letters?"""


LIMIT = 1


def right(example, prediction):
    """Whether they agree."""
    return len(set(example.answer) - set(prediction.answer)) < LIMIT


def program():
    return None
'''
FIELDS = {"instructions": "Answer.", "fields": [{"prefix": "Question:", "description": "${question}"}]}
SPENT = {
    "lm_calls": 24,
    "lm_calls_cached": 3,
    "input_tokens": 2400,
    "output_tokens": 48,
    "cost_usd": 0.012,
    "seconds": 12.5,
}
TOTAL = {
    "lm_calls": 1200,
    "lm_calls_cached": 9,
    "input_tokens": 90_000,
    "output_tokens": 800,
    "cost_usd": 0.3,
    "seconds": 95.0,
}


def scores(right: Collection[int]) -> list[float]:
    """1 for the examples `right`."""
    return [float(number in right) for number in range(N)]


def table(right: Collection[int], **columns: Any) -> dict[str, list[Any]]:
    """`examples.json` of a program that is right on these examples."""
    given = {
        "input": [f"Which letter is number {number}?" for number in range(N)],
        "predicted": [chr(97 + number) if number in right else "?" for number in range(N)],
        "score": scores(right),
        "expected": [chr(97 + number) for number in range(N)],
        "feedback": ["" if number in right else "look again" for number in range(N)],
        "id": [f"dev-{number:04}" for number in range(N)],
        "error": [""] * N,
        "tokens": [100] * N,
        "latency": [0.5] * N,
    }  # fmt: skip
    return {**given, **columns}


def run_record(**changes: Any) -> RunRecord:
    splits = {
        name: {"rows": rows, "fingerprint": f"{name}0123456789"[:12], "fields": ["question", "answer"], "source": f"datasets/qa/{name}.jsonl"}
        for name, rows in {"train": 60, "dev": N, "test": N}.items()
    }  # fmt: skip
    values: dict[str, Any] = {
        "id": "20261118-110640-4f2a",
        "experiment": "qa",
        "hypothesis": "Does it know its letters?\n\nIt starts with none.",
        "signature": "9f2c1ab0",
        "parts": {"data": "d1", "metric": "m1", "source": "s1", "stages": "t1", "lms": "l1"},
        "dataset": "qa@0123456789ab",
        "splits": splits,
        "lms": {"task": "openai/fake", "prompt": "openai/fake"},
        "params": {"metric": "right", "seed": "1", "plateau.confidence": "0.9", "plateau.equivalence_margin": "0.03"},
        "git_sha": "0" * 40,
        "pid": 0,
        "started": STARTED,
        "spent": TOTAL,
        "spent_by_stage": {"0-baseline": SPENT, "1-words": {**SPENT, "lm_calls": 200}, "test": SPENT},
        **changes,
    }
    return RunRecord(**values)


def stage(journal: Journal, number: int, name: str, right: Collection[int], **changes: Any) -> None:
    """Write a stage that was judged on dev; `changes` are of its record."""
    anchor = changes.pop("anchor", None)
    instructions, serving = (
        changes.pop("instructions", f"Answer {name}."),
        changes.pop("serving", {"input_tokens": 90 + 10 * number, "output_tokens": 10, "cost_usd": 0.001}),
    )
    interval = score_interval(scores(right), confidence=0.9)
    metrics = {"dev_score": sum(scores(right)) / N, "dev_ci_low": interval.low, "dev_ci_high": interval.high}
    decision: dict[str, Any] = {}
    if anchor is not None:
        told = compare(scores(right), scores(anchor), confidence=0.95, margin=0.03)
        metrics |= {"gain": told.gain, "gain_ci_low": told.interval.low, "gain_ci_high": told.interval.high}
        decision = {"verdict": str(told.verdict), "gain": told.gain, "interval": [told.interval.low, told.interval.high],
                    "confidence": 0.95, "n": N, "minimum_detectable_gain": told.minimum_detectable_gain,
                    "skipped": changes.pop("skipped", [])}  # fmt: skip
    values = {
        "lever": "prompt" if number else "none", "status": "done", "metrics": metrics, "serving": serving,
        "params": {"optimizer": "MIPROv2" if number else "none", "auto": "light"} if number else {"optimizer": "none"},
        "verdict": decision.get("verdict", ""), "kept": "new", "next": "continue",
        "reason": f"Stage {name!r} was judged; goes on." if number else "",
        "started": STARTED + 10 * number, "ended": STARTED + 10 * number + 9, **changes,
    }  # fmt: skip
    record = StageRecord(number, name, **values)
    state = {
        "answer": {"demos": [{"right": list(right)}], "lm": None, "signature": {**FIELDS, "instructions": instructions}}
    }
    journal.write(f"{record.folder}/program.json", state)
    journal.write(f"{record.folder}/prompts.md", f"# answer\n\n## Instructions\n\n{instructions}\n\n## Demos (0)\n")
    journal.write(f"{record.folder}/examples.json", table(right))
    if number:
        journal.write(f"{record.folder}/decision.json", decision)
    journal.write_stage(record)


def other_stage(journal: Journal, number: int, name: str, status: Any, reason: str) -> None:
    """Write a stage without a program."""
    journal.write_stage(StageRecord(number, name, "prompt", status, reason=reason, params={"optimizer": "GEPA"}))


def look(journal: Journal, before: Collection[int], after: Collection[int], looks: int = 1) -> None:
    """Write the look at test."""
    told = compare(scores(after), scores(before), confidence=0.9, margin=0.03)
    bounds = told.interval.low, told.interval.high
    figures: dict[str, float] = {"test_gain": told.gain, "test_gain_ci_low": bounds[0], "test_gain_ci_high": bounds[1]}
    for name, right in (("baseline_test", before), ("test", after)):
        interval = score_interval(scores(right), confidence=0.9)
        figures |= {
            f"{name}_score": sum(scores(right)) / N,
            f"{name}_ci_low": interval.low,
            f"{name}_ci_high": interval.high,
        }
    document = {"gain": told.gain, "interval": bounds, "confidence": 0.9, "n": N, "proven": bounds[0] > 0, "looks": looks,
                "minimum_detectable_gain": told.minimum_detectable_gain}  # fmt: skip
    ids = [f"test-{number:04}" for number in range(N)]
    journal.write("test.json", {"id": ids, "baseline": scores(before), "best": scores(after)})
    journal.update(test=document, proven=bounds[0] > 0, metrics={**TOTAL, **figures})


def begun(home: Path, **changes: Any) -> Journal:
    """A run that has only begun."""
    journal = Journal.create(home, run_record(**changes))
    journal.write("source.py", SOURCE)
    journal.write("groups.json", {})
    return journal


def completed(
    home: Path, *, before: Sequence[int] = range(6), best: Sequence[int] = range(2, 22), **changes: Any
) -> Journal:
    """Baseline, one stage kept and better, one not kept, one skipped, one failed; looked at on test."""
    journal = begun(home, **changes)
    stage(journal, 0, "baseline", before)
    stage(journal, 1, "words", best, anchor=before, reason="Dev rose; kept; goes on with 'more'.")
    stage(
        journal,
        2,
        "more",
        range(5, 20),
        anchor=best,
        kept="incumbent",
        next="escalate",
        skipped=["again"],
        reason="Not kept; a plateau.",
    )
    other_stage(journal, 3, "again", "skipped", "skipped by an earlier decision")
    other_stage(
        journal,
        4,
        "weights",
        "failed",
        "Stage 'weights' failed (ValueError: no rows); the incumbent is kept; no stage is left.",
    )
    journal.write("headroom.json", {"sentence": "40 examples of train: room to climb."})
    journal.update(status="completed", ended=STARTED + 95, best_stage="1-words", summary="Best: 1-words.")
    look(journal, before, best)
    return journal


def hostile(journal: Journal, text: str) -> None:
    """Put `text` wherever a model, a user or a library may write."""
    record = journal.run
    journal.update(
        hypothesis=text, summary=f"failed: {text}", git_sha=text, signature=text, dataset=text, lms={text: text},
        params={**record.params, "note": text}, parts={**record.parts, text: text},
        splits={**record.splits, "dev": {**record.splits["dev"], "source": text}},
    )  # fmt: skip
    for one in journal.stages():
        journal.write_stage(
            StageRecord(**{**vars(one), "reason": text, "params": {"optimizer": text, text: text}, "lms": {text: text}})
        )
        if one.status == "done":
            columns = {name: [text] * N for name in ("input", "predicted", "expected", "feedback", "error")}
            path = journal.folder / one.folder / "examples.json"
            path.write_text(
                json.dumps(
                    {**json.loads(path.read_text()), **columns, "id": [f"{text}{number}" for number in range(N)]}
                )
            )
            (journal.folder / one.folder / "prompts.md").write_text(
                f"{one.folder}\n{text}\n", "utf-8", errors="surrogatepass"
            )
    journal.write("headroom.json", {"sentence": text})
