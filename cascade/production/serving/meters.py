"""Counts and durations, in the text format of Prometheus.

Invariant: labels take few values (routes, statuses, arms, versions that served), so that what is counted stays small
however long the server runs. Counted on the event loop only.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram of durations, in seconds."""
NAMES = {
    "cascade_requests_total": ("counter", "Requests by route and status."),
    "cascade_predictions_total": ("counter", "Program calls by arm, version and outcome."),
    "cascade_prediction_seconds": ("histogram", "Duration of program calls that were answered, by arm."),
    "cascade_refused_total": ("counter", "Requests that were refused because all places were taken."),
    "cascade_calls_inside": ("gauge", "Program calls under way, those included for which nobody waits any more."),
    "cascade_loaded_info": ("gauge", "1 for each version that is loaded, by arm."),
    "cascade_store_seen_seconds": ("gauge", "Unix time at which MLflow last said which version serves."),
    "cascade_dropped_total": ("counter", "What was dropped because its queue was full, by queue."),
    "cascade_feedback_total": ("counter", "Feedback that was recorded, by arm."),
    "cascade_arm_stopped": ("gauge", "1 while a challenger is stopped because it did harm."),
}
Labels = tuple[tuple[str, str], ...]
Gauge = Callable[[], Iterable[tuple[Mapping[str, str], float]]]


class Meters:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[Labels, float]] = {}
        self._durations: dict[str, dict[Labels, list[float]]] = {}
        self._gauges: dict[str, Gauge] = {}

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Count."""
        counts, key = self._counts.setdefault(name, {}), tuple(labels.items())
        counts[key] = counts.get(key, 0.0) + value

    def took(self, name: str, seconds: float, **labels: str) -> None:
        """Note a duration."""
        found = self._durations.setdefault(name, {}).setdefault(tuple(labels.items()), [0.0] * (len(BUCKETS) + 2))
        found[bisect_left(BUCKETS, seconds)] += 1
        found[-1] += seconds

    def watch(self, name: str, values: Gauge) -> None:
        """Ask for labels and values whenever somebody looks."""
        self._gauges[name] = values

    def text(self) -> str:
        """All of it."""
        lines: list[str] = []
        for name, (kind, meaning) in NAMES.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            lines += [_line(name, labels, value) for labels, value in self._counts.get(name, {}).items()]
            for labels, found in self._durations.get(name, {}).items():
                lines += _histogram(name, labels, found)
            if gauge := self._gauges.get(name):
                lines += [_line(name, tuple(labels.items()), value) for labels, value in gauge()]
        return "\n".join(lines) + "\n"


def _histogram(name: str, labels: Labels, found: list[float]) -> list[str]:
    lines, below = [], 0.0
    for bound, count in zip((*BUCKETS, "+Inf"), found[:-1], strict=True):
        below += count
        lines.append(_line(f"{name}_bucket", (*labels, ("le", str(bound))), below))
    return [*lines, _line(f"{name}_sum", labels, found[-1]), _line(f"{name}_count", labels, below)]


def _line(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    number = f"{value:.0f}" if value == int(value) else f"{value:.6f}"
    return f"{name}{{{shown}}} {number}" if shown else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
