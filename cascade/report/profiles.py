"""A profile in words, as a table and as a picture.

Invariant: what a model did not tell is shown as unknown; a picture is made from the same document as the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.programs.profiling import Profile
from cascade.report.figures import UNKNOWN, counted, percent
from cascade.report.text import in_line

HEAD = ("calls", "failed", "time", "share", "own", "p50", "p95", "LM calls", "from the ledger", "tokens in",
        "tokens out", "chars in", "chars out")  # fmt: skip
WIDTH, LEFT, RIGHT, TOP, ROW = 920.0, 230.0, 760.0, 8.0, 28.0


def document(profile: Profile, name: str, examples: int, errors: Mapping[str, str]) -> dict[str, Any]:
    """A profile as plain values, with what is to be said of it.

    Args:
        name: the experiment's.
        examples: rows that were run.
        errors: by row, of those that failed.
    """
    told: dict[str, Any] = {"experiment": name, "examples": examples, "errors": dict(errors), **profile.to_json()}
    return {**told, "notes": list(_notes(told))}


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row as text: the name, then the columns of `HEAD`."""
    tokens = [UNKNOWN if row[key] is None else f"{row[key]:,}" for key in ("input_tokens", "output_tokens")]
    times = [_time(row[key]) for key in ("p50", "p95")]
    return [
        row["name"], f"{row['calls']:,}", f"{row['errors']:,}", _time(row["seconds"]), percent(row["share"]),
        _time(row["own_seconds"]), *times, f"{row['lm_calls']:,}", f"{row['lm_calls_cached']:,}", *tokens,
        f"{row['chars_in']:,}", f"{row['chars_out']:,}",
    ]  # fmt: skip


@dataclass(frozen=True)
class Bar:
    """A step: all its time from `LEFT`, and within it what it took itself."""

    y: float
    label: str
    note: str
    title: str
    long: float
    own: float


@dataclass(frozen=True)
class Chart:
    """The picture, in units of its `viewBox`."""

    bars: tuple[Bar, ...]
    bottom: float
    width: float = WIDTH
    left: float = LEFT
    high: float = ROW - 12


def chart(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Time by step: the longest bar is the step that took most."""
    most = max((row["seconds"] for row in rows), default=0.0) or 1.0
    bars = []
    for number, row in enumerate(rows):
        long, own = (round((RIGHT - LEFT) * row[key] / most, 1) for key in ("seconds", "own_seconds"))
        note = f"{_time(row['seconds'])}, {percent(row['share'])}"
        title = f"{row['name']}: {counted(row['calls'], 'call')}, p50 {_time(row['p50'])}, p95 {_time(row['p95'])}"
        bars.append(Bar(TOP + number * ROW, in_line(row["name"], 32), note, title, long, min(own, long)))
    return Chart(tuple(bars), TOP + len(rows) * ROW)


def _time(seconds: float) -> str:
    """
    >>> _time(0.0042), _time(0.5), _time(12.34)
    ('4.2 ms', '500 ms', '12.3 s')
    """
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.1f} s"


def _notes(told: Mapping[str, Any]) -> Sequence[str]:
    rows = told["by_step"] or told["by_predictor"]
    if not rows:
        return ["Nothing ran."]
    whole = rows[0]
    notes = [f"{counted(told['examples'], 'row')} of dev, {counted(whole['lm_calls'], 'LM call')}."]
    if whole["lm_calls_cached"]:
        notes.append(
            f"{counted(whole['lm_calls_cached'], 'answer')} came from the ledger, at no time: --fresh asks the models."
        )
    if whole["input_tokens"] is None and whole["lm_calls"]:
        notes.append("No model told its tokens.")
    notes += [f"Row {id_!r} failed: {error}" for id_, error in told["errors"].items()]
    return notes
