"""What the architectures win, as benchmarks/programs.py measures it."""

from collections.abc import Callable
from pathlib import Path

import programs as benchmark
import pytest

DOCS = Path(__file__).parents[2] / "docs"
TOLD = (DOCS / "composing.md").read_text("utf-8") + (DOCS / "steps.md").read_text("utf-8")
COUNTED = (
    benchmark.surest, benchmark.consenting, benchmark.looping, benchmark.routing, benchmark.adapting, benchmark.formatting,
    benchmark.contracting, benchmark.caching, benchmark.unread, benchmark.fusing, benchmark.sifting, benchmark.reading,
)  # fmt: skip
"""Those that depend on no clock and on no order of threads."""


@pytest.mark.parametrize("measure", COUNTED)
def test_what_is_counted_stands_in_the_docs(measure: Callable[[], tuple[str, str, str]]) -> None:
    assert f"| {(measure.__doc__ or '').rstrip('.')} | {' | '.join(measure())} |\n" in TOLD


def test_every_row_of_the_benchmark_stands_in_the_docs() -> None:
    names = [(row.__doc__ or "").splitlines()[0].rstrip(".") for row in benchmark.ROWS]
    assert [name for name in names if f"| {name} |" not in TOLD] == []


def test_asking_until_agreed_saves_calls_and_answers_alike() -> None:
    plain, ours, _ = benchmark.agreeing()
    calls, right = zip(*[(int(one.split()[0]), float(one.split()[2])) for one in (plain, ours)], strict=True)
    assert calls[0] == 300
    assert calls[1] < 270
    assert abs(right[0] - right[1]) < 0.05


def test_the_best_of_four_drafts_is_better_than_the_last() -> None:
    last, best, _ = benchmark.looping()
    assert float(best.split()[1]) > float(last.split()[1]) + 0.1


def test_effort_goes_where_it_helps() -> None:
    assert benchmark.adapting() == ("180 calls, 1.00 right", "100 calls, 1.00 right", "44% of the calls saved")
    assert benchmark.routing()[:2] == ("0.67 right", "1.00 right")


@pytest.mark.slow
def test_three_branches_take_little_longer_than_one() -> None:
    assert float(benchmark.parallel()[2].split()[0]) >= 2.7
