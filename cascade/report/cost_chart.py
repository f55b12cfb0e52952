"""Dev score against serving cost: where everything stands, in units of the picture's `viewBox`.

Invariant: a label covers no point and no other label; a stage without room for one is named in its tooltip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cascade.report.comparing import Point, SideBySide
from cascade.report.figures import percent
from cascade.report.scale import Scale, Tick, marks
from cascade.spending import Unit, amount

WIDTH, LEFT, RIGHT = 920.0, 60.0, 890.0
TOP, BOTTOM = 26.0, 330.0
_LETTER = 6.6

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Dot:
    """A stage; `series` is the number of its run, `label_x` None where its label has no room."""

    x: float
    y: float
    series: int
    frontier: bool
    title: str
    label: str
    label_x: float | None = None
    label_y: float = 0.0
    anchor: str = "start"


@dataclass(frozen=True)
class CostChart:
    """The picture; `frontier` is the path along the stages that no other beats."""

    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    frontier: str
    width: float = WIDTH
    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM


def cost_chart(compared: SideBySide) -> CostChart | None:
    """The picture of runs side by side; None where there are not two stages to show."""
    points = compared.points
    if len(points) < 2:
        return None
    across = marks(min(0.0, points[0].cost), points[-1].cost)
    up = marks(min(point.score for point in points), max(point.score for point in points), 6)
    x, y = Scale(across[0], across[-1], LEFT, RIGHT), Scale(up[0], up[-1], BOTTOM, TOP)
    order = {run.id: number for number, run in enumerate(compared.runs)}
    money = compared.unit == "dollars"
    dots = [Dot(x(p.cost), y(p.score), order[p.run], p.frontier, in_words(p, compared.unit), p.stage) for p in points]
    return CostChart(
        tuple(Tick(x(mark), amount(mark, "dollars") if money else f"{mark:,.12g}") for mark in across),
        tuple(Tick(y(mark), f"{100 * mark:g}%") for mark in up),
        tuple(_labelled(dots)),
        _path([dot for dot in dots if dot.frontier]),
    )


def in_words(point: Point, unit: Unit) -> str:
    """A stage with its score and cost."""
    return f"{point.stage} of {point.run}: {percent(point.score)} on dev, {amount(point.cost, unit)} an example"


def _path(dots: Sequence[Dot]) -> str:
    return " ".join(f"H{dot.x}V{dot.y}" if number else f"M{dot.x},{dot.y}" for number, dot in enumerate(dots))


def _labelled(dots: Sequence[Dot]) -> list[Dot]:
    """The dots with labels; those of the frontier choose first."""
    taken: list[Box] = [(dot.x - 6, dot.y - 6, dot.x + 6, dot.y + 6) for dot in dots]
    placed = dict(enumerate(dots))
    for number in sorted(placed, key=lambda number: not dots[number].frontier):
        for dot, box in _places(dots[number]):
            if _inside(box) and not any(_overlap(box, other) for other in taken):
                placed[number] = dot
                taken.append(box)
                break
    return list(placed.values())


def _places(dot: Dot) -> list[tuple[Dot, Box]]:
    """The dot with its label right, left, above and below, and the box that the label fills."""
    wide = _LETTER * len(dot.label)
    found = []
    for x, y, anchor, before in (
        (9, 4, "start", 0.0),
        (-9, 4, "end", 1.0),
        (0, -10, "middle", 0.5),
        (0, 18, "middle", 0.5),
    ):
        start = dot.x + x - wide * before
        box = (start, dot.y + y - 11, start + wide, dot.y + y + 3)
        found.append((replace(dot, label_x=dot.x + x, label_y=dot.y + y, anchor=anchor), box))
    return found


def _inside(box: Box) -> bool:
    return box[0] >= LEFT and box[1] >= 0 and box[2] <= WIDTH and box[3] <= BOTTOM


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
