"""Rows of tables as text by column, for the terminal and for Markdown.

Invariant: a row has as many cells as its head; what is not known is a dash.
"""

from collections.abc import Mapping
from typing import Any

from cascade.report.comparing import Point
from cascade.report.figures import (
    UNKNOWN,
    clock,
    dollars,
    percent,
    percent_interval,
    points,
    points_interval,
)
from cascade.spending import Unit, amount

STAGE = ("stage", "optimizer", "changes", "dev", "gain against anchor", "verdict", "kept", "then", "detectable")
RUN = ("run", "status", "best, selected on dev", "dev", "test", "gain on test", "", "LM calls", "cost", "time")
PROGRAM = ("program", "dev", "test", "LM calls", "from the ledger", "cost", "time")
SPENT = ("spent on", "LM calls", "from the ledger", "input tokens", "output tokens", "cost", "time")
PART = ("stage", "part of the metric", "dev", "test")
SERVING = ("an example under", "LM calls", "input tokens", "output tokens", "cost", "latency p50", "p95")
PARTS = ("", "part of the metric", "dev", "test")
POINT = ("stage", "run", "dev", "an example", "")
SERVED = ("lm_calls", "input_tokens", "output_tokens")
RIGHT = frozenset(
    ("dev", "gain against anchor", "detectable", "test", "gain on test", "LM calls", "from the ledger", "input tokens",
     "output tokens", "cost", "time", "an example", "latency p50", "p95")
)  # fmt: skip
"""Columns of figures."""
_AIMS = {"better": "", "cheaper": ", aims at cheaper"}


def stage_row(stage: Mapping[str, Any]) -> list[str]:
    """A stage of a run's document; `detectable` is the minimum detectable gain in points."""
    detectable, nothing = stage["minimum_detectable_gain"], ("none", "")
    return [
        stage["stage"],
        UNKNOWN if stage["optimizer"] in nothing else stage["optimizer"] + _AIMS[stage["aim"]],
        UNKNOWN if stage["lever"] in nothing else stage["lever"],
        _scored(stage),
        f"{points(stage['gain'])} {points_interval(stage['gain_interval'])}".strip(),
        stage["verdict"] or (UNKNOWN if stage["status"] == "done" else stage["status"]),
        stage["kept"] or UNKNOWN,
        stage["next"] or UNKNOWN,
        UNKNOWN if detectable is None else f"{100 * detectable:.1f}",
    ]


def run_row(run: Mapping[str, Any]) -> list[str]:
    """A run of a comparison's document."""
    test, spent = run["test"], run["spent"]
    return [
        run["run"],
        run["status"],
        run["best_stage"] or UNKNOWN,
        _scored(run["dev"]),
        percent(test["test_score"]) if test else UNKNOWN,
        f"{points(test['gain'])} {points_interval(test['interval'])}" if test else UNKNOWN,
        run["proof"],
        f"{spent.get('lm_calls', 0):,.0f}",
        dollars(spent.get("cost_usd")),
        clock(spent.get("seconds", 0.0)),
    ]


def side_by_side(told: Mapping[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Head and rows of what a comparison's document compares: runs, or programs."""
    if told["of"] == "run":
        return RUN, [run_row(run) for run in told["runs"]]
    return PROGRAM, [_program_row(run) for run in told["runs"]]


def _program_row(run: Mapping[str, Any]) -> list[str]:
    test, spent = run["test"], run["spent"]
    return [
        run["run"],
        _scored(run["dev"]),
        percent(test["test_score"]) if test else UNKNOWN,
        *(f"{spent.get(name, 0):,.0f}" for name in ("lm_calls", "lm_calls_cached")),
        dollars(spent.get("cost_usd")),
        clock(spent.get("seconds", 0.0)),
    ]


def spent_rows(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a run's document says of its cost: by what it was spent on, in all, and what of that on what else."""
    return [*run["spent_by"], {**run["spent"], "what": "all", "sum": True}, *run["spent_of"]]


def spent_row(row: Mapping[str, Any]) -> list[str]:
    """What one thing cost."""
    names = ("lm_calls", "lm_calls_cached", "input_tokens", "output_tokens")
    if "of" in row:
        figures = [f"{row[name]:,.0f}" if name in row else UNKNOWN for name in names]
        return [f"of which {row['what']}", *figures, dollars(row.get("cost_usd")), UNKNOWN]
    figures = [f"{row.get(name, 0):,.0f}" for name in names]
    return [row["what"], *figures, dollars(row.get("cost_usd")), clock(row.get("seconds", 0.0))]


def part_row(row: Mapping[str, Any]) -> list[str]:
    """A part of the metric on a stage's program."""
    shown = [f"{percent(mean)} {percent_interval(low, high)}".strip() for mean, low, high in (row["dev"], row["test"])]
    return [row.get("run", row["stage"]), row["part"], *shown]


def serving_row(row: Mapping[str, Any]) -> list[str]:
    """What an example takes under a program, of a comparison's document."""
    counts = [UNKNOWN if row[name] is None else f"{row[name]:,.0f}" for name in SERVED]
    slow = [UNKNOWN if row[name] is None else f"{row[name]:.2f} s" for name in ("latency_p50", "latency_p95")]
    return [row["run"], *counts, dollars(row["cost_usd"]), *slow]


def point_row(point: Point, unit: Unit) -> list[str]:
    """A stage with its score and serving cost."""
    beaten = "" if point.frontier else "beaten"
    return [point.stage, point.run, percent(point.score), amount(point.cost, unit), beaten]


def _scored(figures: Mapping[str, Any]) -> str:
    return f"{percent(figures['dev_score'])} {percent_interval(figures['dev_ci_low'], figures['dev_ci_high'])}".strip()
