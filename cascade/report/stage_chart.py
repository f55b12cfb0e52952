"""Dev score by stage with intervals, then test: where everything stands, in units of the picture's `viewBox`.

Invariant: only places are computed here; what is drawn, and how it looks in light and dark, is the template's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cascade.report.figures import percent, percent_interval, points
from cascade.report.reading import Run
from cascade.report.scale import Scale, Tick, marks
from cascade.report.story import proof

WIDTH, LEFT, RIGHT = 920.0, 190.0, 590.0
TOP, ROW = 30.0, 30.0


@dataclass(frozen=True)
class Row:
    """A line of the picture.

    Args:
        y: of the middle.
        label, note, gain: left and right of the plot, and right of that; `aside` stands in it where there is no score.
        kind: `best`, `kept`, `dropped`, `test` or `none`.
        x, low, high: of the score and its interval; None where there is none.
    """

    y: float
    label: str
    note: str
    kind: str
    gain: str = ""
    aside: str = ""
    x: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class StageChart:
    """The picture.

    Args:
        climb: path of the incumbent's score from stage to stage.
        rule: where test is parted from dev; None without test.
    """

    ticks: tuple[Tick, ...]
    rows: tuple[Row, ...]
    climb: str
    rule: float | None
    bottom: float
    width: float = WIDTH
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP


def stage_chart(run: Run) -> StageChart | None:
    """The picture of a run; None where nothing was judged."""
    values = [stage.metrics[key] for stage in run.stages for key in _keys("dev") if key in stage.metrics]
    if not values:
        return None
    values += [
        run.record.metrics[key] for key in (*_keys("test"), *_keys("baseline_test")) if key in run.record.metrics
    ]
    along = marks(min(values), max(values))
    scale = Scale(along[0], along[-1], LEFT, RIGHT)
    rows = [_stage_row(run, number, scale) for number in range(len(run.stages))]
    climb, rule = _climb(rows), None
    if run.test:
        rule = TOP + ROW * len(rows) + 5
        rows += _test_rows(run, rule + 6, scale)
    ticks = tuple(Tick(scale(mark), f"{100 * mark:g}%") for mark in along)
    return StageChart(ticks, tuple(rows), climb, rule, bottom=rows[-1].y + ROW / 2)


def _keys(name: str) -> tuple[str, str, str]:
    return f"{name}_score", f"{name}_ci_low", f"{name}_ci_high"


def _stage_row(run: Run, number: int, scale: Scale) -> Row:
    stage = run.stages[number]
    kind = "best" if stage is run.best else "kept" if stage.kept == "new" else "dropped"
    row = _row(stage.metrics, "dev", TOP + ROW * (number + 0.5), stage.folder, kind, scale)
    if row.x is None:
        return replace(row, aside=stage.status)
    gain = points(stage.metrics["gain"]) if "gain" in stage.metrics else ""
    return replace(row, gain=f"{gain} {stage.verdict}".strip())


def _test_rows(run: Run, top: float, scale: Scale) -> list[Row]:
    before = _row(run.record.metrics, "baseline_test", top + ROW / 2, "test, baseline", "test", scale)
    if run.best is None or run.best is run.baseline or run.test is None:
        return [before]
    after = _row(run.record.metrics, "test", top + ROW * 1.5, f"test, {run.best.folder}", "test", scale)
    return [before, replace(after, gain=f"{points(run.test.gain)} {proof(run)}")]


def _row(figures: Mapping[str, float], name: str, y: float, label: str, kind: str, scale: Scale) -> Row:
    score, low, high = (figures.get(key) for key in _keys(name))
    if score is None:
        return Row(y, label, "", "none")
    bounds = (None, None) if low is None or high is None else (scale(low), scale(high))
    return Row(y, label, f"{percent(score)} {percent_interval(low, high)}", kind, "", "", scale(score), *bounds)


def _climb(rows: Sequence[Row]) -> str:
    """Down from each kept score to the next kept stage, then across."""
    kept = [row for row in rows if row.kind in ("kept", "best")]
    return " ".join(f"V{row.y}H{row.x}" if number else f"M{row.x},{row.y}" for number, row in enumerate(kept))
