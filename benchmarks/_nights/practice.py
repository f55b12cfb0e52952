"""How programs of one experiment differ in practice: what the worlds of the simulation are held against."""

from collections.abc import Iterator
from itertools import combinations

from cascade.discover import names
from cascade.report.finding import runs
from cascade.settings import load_settings


def practice() -> Iterator[str]:
    """A line for each two programs of the newest run of each experiment: share of dev scored otherwise, and gain."""
    settings = load_settings()
    for name in names(settings.project):
        run = next(runs(settings.home, name, print), None)
        for one, other in combinations(run.examples if run else (), 2):
            pairs = [(a.score, b.score) for a, b in zip(run.examples[one], run.examples[other], strict=True)]
            differ, gain = sum(a != b for a, b in pairs) / len(pairs), sum(b - a for a, b in pairs) / len(pairs)
            yield f"{name}: {one} and {other} differ on {differ:.0%} of {len(pairs)}, gain {100 * gain:+.1f} points"
