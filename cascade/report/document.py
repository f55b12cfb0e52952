"""A run, and runs side by side, as plain documents: what `--json` prints and what pages are laid out from.

Invariant: HTML, Markdown and JSON are made from the same document, so they cannot disagree. Text that a model wrote is
cleaned and cut already.
"""

from collections.abc import Mapping
from typing import Any

from cascade.journal import StageRecord
from cascade.report.comparing import COMPARED, Judgement, Pair, SideBySide
from cascade.report.pairing import Change, against_baseline
from cascade.report.reading import Run
from cascade.report.story import headline, proof, reason, story, way_on
from cascade.report.text import diff, in_line, shown

_CHEAPER = {"aim", "incumbent_gain", "incumbent_interval", "margin", "within_margin"}
"""What a decision says of a stage that aims at cheaper."""


def run_document(run: Run) -> dict[str, Any]:
    """One run; every key is always there, and what is not known is None."""
    record, found = run.record, against_baseline(run)
    return {
        **_heading(run),
        "story": story(run),
        "way_on": way_on(run),
        "test": _test(run),
        "headroom": run.headroom,
        "warned": list(map(in_line, run.warned)),
        "stages": [_stage(run, stage) for stage in run.stages],
        "metric_parts": [part for stage in run.stages for part in _parts(stage)],
        "spent": dict(record.spent),
        "spent_by": _spent_by(run),
        "spent_of": _spent_of(run),
        "prompts_diff": _prompts_diff(run),
        "prompts": shown(run.prompts.get(run.best.folder, ""), 20_000) if run.best else "",
        "won": [_change(change) for change in found.won],
        "lost": [_change(change) for change in found.lost],
        "level": found.level,
        "dataset": in_line(record.dataset),
        "splits": {name: _lines(split) for name, split in record.splits.items()},
        "lms": _lines(record.lms),
        "params": _lines(record.params),
        "parts": _lines(record.parts),
        "journal": str(run.folder),
    }


def comparison_document(compared: SideBySide) -> dict[str, Any]:
    """Runs side by side."""
    return {
        "experiment": compared.runs[0].record.experiment,
        "of": "program" if all(run.record.kind == COMPARED for run in compared.runs) else "run",
        "runs": [
            {**_heading(run), "dev": _dev(run.best), "test": _test(run), "spent": dict(run.record.spent)}
            for run in compared.runs
        ],
        "differences": {in_line(name): list(map(in_line, values)) for name, values in compared.differences.items()},
        "pairs": [_pair(pair) for pair in compared.pairs],
        "serving": [_serving(run) for run in compared.runs if run.best],
        "metric_parts": [{**part, "run": run.id} for run in compared.runs if run.best for part in _parts(run.best)],
        "pareto": {
            "unit": compared.unit,
            "points": [vars(point) for point in compared.points],
            "left_out": list(compared.left_out),
        },
        "earlier_pairs": compared.earlier,
    }


def _serving(run: Run) -> dict[str, Any]:
    """What answering one example of dev takes under the best program; None where it is not known."""
    amounts, figures = (run.best.serving, run.best.metrics) if run.best else ({}, {})
    names = ("lm_calls", "input_tokens", "output_tokens", "cost_usd")
    return {
        "run": run.id,
        **{name: amounts.get(name) for name in names},
        **{name: figures.get(name) for name in ("latency_p50", "latency_p95")},
    }


def _heading(run: Run) -> dict[str, Any]:
    record = run.record
    return {
        "experiment": record.experiment,
        "run": run.id,
        "kind": record.kind,
        "hypothesis": shown(record.hypothesis),
        "status": run.status,
        "started": record.started,
        "ended": record.ended,
        "heard": run.heard,
        "headline": headline(run),
        "best_stage": run.best.folder if run.best else None,
        "proven": run.test.proven if run.test else None,
        "proof": proof(run),
        "signature": in_line(record.signature),
        "git_sha": in_line(record.git_sha),
        "seed": record.params.get("seed"),
    }


def _test(run: Run) -> dict[str, Any] | None:
    if run.test is None:
        return None
    figures = {name: run.record.metrics.get(name) for name in _test_names()}
    return {**figures, **run.test.model_dump(), "interval": list(run.test.interval)}


def _test_names() -> list[str]:
    return [f"{which}_{what}" for which in ("baseline_test", "test") for what in ("score", "ci_low", "ci_high")]


def _stage(run: Run, stage: StageRecord) -> dict[str, Any]:
    decided, params = run.decisions[stage.folder], dict(stage.params)
    return {
        "stage": stage.folder,
        "lever": stage.lever,
        "optimizer": in_line(params.pop("optimizer", "none")),
        "options": _lines({name: value for name, value in params.items() if name != "lever"}),
        "status": stage.status,
        **_dev(stage),
        "gain": decided.gain,
        "gain_interval": list(decided.interval) if decided.interval else None,
        "confidence": decided.confidence,
        "n": decided.n,
        "minimum_detectable_gain": decided.minimum_detectable_gain,
        **decided.model_dump(include=_CHEAPER),
        "verdict": stage.verdict,
        "kept": stage.kept,
        "best": stage is run.best,
        "next": stage.next,
        "reason": reason(run, stage),
        "lms": _lines(stage.lms),
        "serving": dict(stage.serving),
        "serving_costs": decided.serving.model_dump() if decided.serving else None,
    }


def _lines(values: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values a line each; numbers stay numbers."""
    return {in_line(name): one if isinstance(one, int | float) else in_line(one) for name, one in values.items()}


def _dev(stage: StageRecord | None) -> dict[str, Any]:
    names = ("dev_score", "dev_ci_low", "dev_ci_high", "dev_spread", "latency_p50", "latency_p95")
    return {name: stage.metrics.get(name) if stage else None for name in names}


def _spent_by(run: Run) -> list[dict[str, Any]]:
    """A row for each thing that calls were spent on, in the order of the run."""
    booked = dict(run.record.spent_by_stage)
    ended = [stage.folder for stage in run.stages]
    order = [
        *ended[:1],
        "headroom",
        *ended[1:],
        *(name for name in booked if name not in (*ended, "headroom", "test")),
        "test",
    ]
    return [{"what": name, **booked[name]} for name in order if name in booked]


def _spent_of(run: Run) -> list[dict[str, Any]]:
    """What of all that on which LM, where several were called, and what the metric took; `of` marks such a row."""
    names, record = ("lm_calls", "input_tokens", "output_tokens", "cost_usd"), run.record
    by_lm = record.spent_by_lm if len(record.spent_by_lm) > 1 else {}
    rows = [
        {"of": True, "what": in_line(f"LM {name}"), **{figure: spent[figure] for figure in names if figure in spent}}
        for name, spent in by_lm.items()
    ]
    if calls := record.spent.get("judge_lm_calls"):
        cost = {"cost_usd": record.spent["judge_cost_usd"]} if "judge_cost_usd" in record.spent else {}
        rows.append({"of": True, "what": "the metric", "lm_calls": calls, **cost})
    return rows


def _parts(stage: StageRecord) -> list[dict[str, Any]]:
    """A row a part of the metric, with its mean and interval on dev and, where it was looked at, on test."""
    ends = ("", "_ci_low", "_ci_high")
    keys = [key for key in stage.metrics if key.startswith("part_") and f"{key}_ci_low" in stage.metrics]
    return [
        {
            "stage": stage.folder,
            "part": in_line(key.removeprefix("part_")),
            "dev": [stage.metrics.get(f"{key}{end}") for end in ends],
            "test": [stage.test_metrics.get(f"test_{key}{end}") for end in ends],
        }
        for key in keys
    ]


def _prompts_diff(run: Run) -> list[str]:
    if not run.baseline or not run.best:
        return []
    return diff(run.prompts.get(run.baseline.folder, ""), run.prompts.get(run.best.folder, ""))


def _change(change: Change) -> dict[str, Any]:
    before, after = change.before, change.after
    return {
        "id": in_line(after.id),
        "input": shown(after.input),
        "expected": shown(after.expected),
        "before": {
            "predicted": shown(before.predicted),
            "score": before.score,
            "error": shown(before.error),
            "feedback": shown(before.feedback),
        },
        "after": {
            "predicted": shown(after.predicted),
            "score": after.score,
            "error": shown(after.error),
            "feedback": shown(after.feedback),
        },
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "before": pair.before.id,
        "after": pair.after.id,
        "dev": _judgement(pair.dev),
        "test": _judgement(pair.test),
        "prompts_diff": list(pair.prompts),
        "won": [_change(change) for change in pair.examples.won],
        "lost": [_change(change) for change in pair.examples.lost],
        "level": pair.examples.level,
    }


def _judgement(judged: Judgement) -> dict[str, Any]:
    found = judged.comparison
    figures: Mapping[str, Any] = (
        {}
        if found is None
        else {
            "gain": found.gain,
            "interval": [found.interval.low, found.interval.high],
            "confidence": found.interval.confidence,
            "n": found.n,
            "minimum_detectable_gain": found.minimum_detectable_gain,
        }
    )
    names = ("gain", "interval", "confidence", "n", "minimum_detectable_gain")
    verdict = str(judged.verdict) if judged.verdict else None
    return {"says": in_line(judged.says), "verdict": verdict, **{name: figures.get(name) for name in names}}
