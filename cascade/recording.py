"""From results to the journal: the figures under the names that MLflow and other tools read.

Invariant: this is the only place where a result gets its logged names.
"""

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.bounds import Bound
from cascade.check import Prepared
from cascade.comparison import score_interval
from cascade.dataset import Data, Dataset
from cascade.decision import Decision, proof
from cascade.discover import source_file
from cascade.evaluation import Evaluation
from cascade.experiment import Stage
from cascade.fields import shortened
from cascade.journal import Journal, RunRecord, StageRecord, new_id
from cascade.program import Snapshot, prompts, prompts_diff
from cascade.redaction import plain_source
from cascade.result import StageResult, Test
from cascade.spending import Spent
from cascade.stage import Candidate

_OTHER = re.compile(r"[^A-Za-z0-9_.-]+")
"""What stands in no key of a metric, where a slash would also make a section of its own in MLflow."""


def begin_journal(prepared: Prepared, started: float, kind: str = "cascade", *, place: str = "runs") -> Journal:
    """A journal of a run that begins, with the program's source as it is now and the groups of its examples.

    The run's record is written last: a journal that is found has them all.

    Args:
        place: folder of the state.
    """
    record = run_record(prepared, started, kind)
    journal = Journal.at(prepared.settings.home, record, place)
    journal.write("source.py", source_file(prepared.experiment).read_text("utf-8"))
    journal.write("groups.json", groups(prepared.data))
    journal.write_run(record)
    return journal


def run_record(prepared: Prepared, started: float, kind: str = "cascade") -> RunRecord:
    """The record of a run that begins; `started` in seconds since 1970."""
    experiment, data = prepared.experiment, prepared.data
    splits = {
        split.name: {
            "rows": len(split),
            "fingerprint": split.fingerprint,
            "fields": sorted(split.rows[0]),
            "source": _origin(experiment.dataset, split.name),
        }
        for split in data
    }
    return RunRecord(
        id=new_id(started),
        experiment=prepared.name,
        kind=kind,
        hypothesis=experiment.hypothesis,
        signature=prepared.signature,
        parts=prepared.parts,
        dataset=f"{data.name}@{data.fingerprint}",
        splits=splits,
        factory={"name": experiment.program.__qualname__, "source": str(source_file(experiment))},
        inputs=data.train.inputs,
        outputs=prepared.outputs,
        lms=prepared.settings.describe(),
        params=prepared.params(),
        git_sha=prepared.git_sha,
        started=started,
    )


def _origin(dataset: Dataset, split: str) -> str:
    """Where a split's rows come from: a path or URL as it was given, without its secrets, or the type of what was."""
    source = dataset.source(split)
    if source is None:
        return f"datasets/{dataset.name}/{split}.jsonl"
    return plain_source(str(source)) if isinstance(source, str | Path) else type(source).__name__


def write_stage(  # noqa: PLR0913 - a stage's files come from all of these
    journal: Journal, number: int, result: StageResult, *, stage: Stage | None, bound: Bound | None,
    incumbent: Snapshot | None, candidates: list[Candidate], started: float | None,
) -> StageRecord:  # fmt: skip
    """Write a stage's files, its record last."""
    name = result.name.split("-", 1)[1]
    folder = result.name
    if result.taken and result.dev:
        journal.write(f"{folder}/program.json", dict(result.taken.state))
        journal.write(f"{folder}/prompts.md", prompts(result.taken))
        journal.write(f"{folder}/prompts.diff.md", prompts_diff(incumbent or result.taken, result.taken))
        journal.write(f"{folder}/examples.json", result.dev.table())
    if stage:
        journal.write(f"{folder}/candidates.jsonl", [shortened(vars(candidate)) for candidate in candidates])
    decision = result.decision
    if decision:
        journal.write(f"{folder}/decision.json", decision.to_json(result.spent.to_json()))
    record = StageRecord(
        number,
        name,
        result.lever,
        result.status,  # type: ignore[arg-type]
        params={
            **(stage.describe() if stage else {"optimizer": "none"}),
            "lever": result.lever,
            **({"aim": stage.aim, "margin": str(stage.margin)} if stage and stage.aim == "cheaper" else {}),
            **({"lm_calls_at_most": "unknown" if bound.total is None else str(bound.total)} if bound else {}),
        },
        metrics={**dev_metrics(result), **result.spent.to_json()},
        verdict=str(decision.verdict or "") if decision else "",
        kept=str(decision.kept) if decision else ("new" if number == 0 else ""),
        next=str(decision.next) if decision else ("continue" if number == 0 else ""),
        reason=decision.reason if decision else result.error,
        lms=dict(result.taken.lms) if result.taken else {},
        serving=result.dev.serving() if result.dev else {},
        started=started or time.time(),
        ended=max(time.time(), started or 0.0),
    )
    journal.write_stage(record)
    return record


def groups(data: Data) -> dict[str, dict[str, str]]:
    """`groups.json`: the group of each example by id, for dev and test where they have groups."""
    return {
        split.name: dict(zip(split.ids, split.groups, strict=True)) for split in (data.dev, data.test) if split.groups
    }


def decisions(results: Sequence[StageResult]) -> list[dict[str, Any]]:
    """`decisions.json`: the decision after each stage that ran."""
    return [
        {"stage": result.name} | result.decision.to_json(result.spent.to_json())
        for result in results
        if result.decision
    ]


def dev_metrics(result: StageResult) -> dict[str, float]:
    """Dev score and the metric's parts, gain against the anchor, latency, and with repeats the spread of runs."""
    values: dict[str, float] = {}
    if result.dev and result.interval:
        values |= {
            "dev_score": result.dev.mean,
            "dev_ci_low": result.interval.low,
            "dev_ci_high": result.interval.high,
            "latency_p50": result.dev.latency(0.5),
            "latency_p95": result.dev.latency(0.95),
        }
        values |= _parts("", result.dev, result.interval.confidence)
        if result.dev.spread is not None:
            values["dev_spread"] = result.dev.spread
    if (decision := result.decision) and decision.interval and decision.gain is not None:
        values |= {"gain": decision.gain, "gain_ci_low": decision.interval.low, "gain_ci_high": decision.interval.high}
    return {**values, **(_cheaper_metrics(decision) if decision else {})}


def _cheaper_metrics(decision: Decision) -> dict[str, float]:
    """Where a program aimed at cheaper: its difference to the incumbent, and what an example costs under both."""
    values: dict[str, float] = {}
    if decision.incumbent_gain is not None and decision.incumbent_interval and decision.margin is not None:
        bounds = decision.incumbent_interval
        values |= {"incumbent_gain": decision.incumbent_gain, "margin": decision.margin}
        values |= {"incumbent_gain_ci_low": bounds.low, "incumbent_gain_ci_high": bounds.high}
    if decision.aim == "cheaper" and decision.serving:
        values |= {"serving_cost": decision.serving.candidate, "incumbent_serving_cost": decision.serving.incumbent}
    return values


def test_metrics(test: Test) -> dict[str, float]:
    """Scores and parts of best and baseline on test and the scores' difference, each with its interval."""
    low_high = test.comparison.interval
    confidence = low_high.confidence
    return {
        **_with_interval("test", test.best, confidence),
        **_with_interval("baseline_test", test.baseline, confidence),
        "test_gain": test.comparison.gain,
        "test_gain_ci_low": low_high.low,
        "test_gain_ci_high": low_high.high,
    }


def test_document(test: Test) -> dict[str, Any]:
    """The look at test, for `run.json`."""
    comparison = test.comparison
    return {
        "gain": comparison.gain,
        "interval": [comparison.interval.low, comparison.interval.high],
        "confidence": comparison.interval.confidence,
        "n": comparison.n,
        "minimum_detectable_gain": comparison.minimum_detectable_gain,
        "proven": test.proven,
        "looks": test.looks,
    }


def figures_on_test(test: Test, of: str) -> dict[str, float]:
    """What a stage's program came to on test, under the names that a stage's figures have.

    Args:
        of: `test` for the best program, `baseline_test` for the baseline.
    """
    evaluation = test.best if of == "test" else test.baseline
    return _with_interval("test", evaluation, test.comparison.interval.confidence)


def test_outcomes(test: Test) -> dict[str, Any]:
    """`test.json`: scores of baseline and best by example, for comparisons with other runs; no row of test is in it.

    And the metric's parts in the same way, where it has any.
    """
    found = {"baseline": test.baseline, "best": test.best}
    parts = {name: evaluation.parts for name, evaluation in found.items()}
    return {
        "id": [outcome.id for outcome in test.best.outcomes],
        **{name: evaluation.scores for name, evaluation in found.items()},
        **({"parts": parts} if any(parts.values()) else {}),
    }


def summary(best: str, dev: float, baseline_dev: float, test: Test | str, spent: Spent) -> str:
    """The run in two sentences; `test` may be the cap of the budget for which it was not looked at."""
    selected = f"Best: {best}, dev {baseline_dev:.1%} → {dev:.1%} (selected on dev)."
    if isinstance(test, str):
        return f"{selected} Not judged on test: the budget is spent ({test}). {spent.lm_calls} LM calls."
    scores = f"test {test.baseline.mean:.1%} → {test.best.mean:.1%}"
    looked = f", look {test.looks} at this test split" if test.looks > 1 else ""
    return f"{selected} {scores}, {proof(test.comparison)}{looked}. {spent.lm_calls} LM calls."


def _with_interval(name: str, evaluation: Evaluation, confidence: float) -> dict[str, float]:
    interval = score_interval(evaluation.scores, groups=evaluation.split.groups, confidence=confidence)
    scores = {f"{name}_score": evaluation.mean, f"{name}_ci_low": interval.low, f"{name}_ci_high": interval.high}
    return {**scores, **_parts(f"{name}_", evaluation, confidence)}


def _parts(prefix: str, evaluation: Evaluation, confidence: float) -> dict[str, float]:
    """Mean and interval of each part, as `part_NAME`, over the examples to which the metric gave it."""
    values: dict[str, float] = {}
    for name, amounts in evaluation.parts.items():
        has = [amount is not None for amount in amounts]
        given = [amount for amount in amounts if amount is not None]
        groups = evaluation.split.where(has).groups
        interval = score_interval(given, groups=groups, confidence=confidence)
        key = f"{prefix}part_{_OTHER.sub('_', name)}"
        values |= {key: math.fsum(given) / len(given), f"{key}_ci_low": interval.low, f"{key}_ci_high": interval.high}
    return values
