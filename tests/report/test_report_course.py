"""The picture of an A/B test's course: in its frame, whatever came in."""

import re
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cascade.report.course_chart import BOTTOM, LEFT, RIGHT, TOP, course_chart


@dataclass(frozen=True)
class Look:
    outcomes: int
    estimate: float
    low: float
    high: float


SIDES = st.tuples(*[st.floats(-1, 1)] * 3).map(sorted)


@given(st.lists(SIDES, min_size=2, max_size=40), st.integers(1, 100_000))
def test_it_stays_in_its_frame(sides: list[list[float]], step: int) -> None:
    course = [Look(step * (n + 1), middle, low, high) for n, (low, middle, high) in enumerate(sides)]
    chart = course_chart(course)
    assert chart
    for path in (chart.band, chart.line):
        found = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.e]+,[-\d.e]+", path)]
        assert len(found) >= len(course)
        assert all(LEFT - 1 <= x <= RIGHT + 1 and TOP - 1 <= y <= BOTTOM + 1 for x, y in found)
    assert TOP - 1 <= chart.zero <= BOTTOM + 1


def test_one_look_is_no_course() -> None:
    assert course_chart([]) is None and course_chart([Look(1, 0.0, -1.0, 1.0)]) is None
