"""A drawing as SVG, without a network and without a library.

Invariant: a box is as large as what is in it; texts are escaped and never run out of their boxes.
"""

import html
from dataclasses import dataclass
from itertools import pairwise

from cascade.programs.drawing import AFTER, Box

GAP, PAD, LINE, LETTER = 36, 14, 17, 7.2
"""Pixels: between boxes, inside of them, a line of text, and the widest that a letter is on average."""
LONGEST = 34
"""Letters in a line; what is longer is cut, and stands whole in the tooltip."""

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2933; }
  .name { font-weight: 600; } .fields { fill: #52606d; }
  rect { fill: #ffffff; stroke: #7b8794; } .group { fill: #f5f7fa; stroke: #cbd2d9; } .end { fill: #1f2933; }
  path { fill: none; stroke: #52606d; } .back { stroke-dasharray: 4 3; }
"""


@dataclass(frozen=True)
class _Size:
    width: float
    height: float


@dataclass(frozen=True)
class _Spot:
    """A box at its place: where arrows come in and go out is the middle of its sides."""

    x: float
    y: float
    size: _Size

    @property
    def enters(self) -> tuple[float, float]:
        return self.x, self.y + self.size.height / 2

    @property
    def leaves(self) -> tuple[float, float]:
        return self.x + self.size.width, self.y + self.size.height / 2


def svg(box: Box) -> str:
    """An SVG document of its own."""
    size = _size(box)
    width, height = size.width + 2 * (GAP + PAD), size.height + 2 * PAD
    spot = _Spot(GAP + PAD, PAD, size)
    middle = spot.enters[1]
    drawn = [
        *_draw(box, spot),
        _circle(PAD, middle),
        _circle(width - PAD, middle),
        _arrow((PAD + 5, middle), spot.enters),
        _arrow(spot.leaves, (width - PAD - 5, middle)),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">\n<title>{html.escape(box.name or box.kind)}</title>\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<polygon points="0 0 8 4 0 8" fill="#52606d"/></marker></defs>'
    )
    return "\n".join([head, *drawn, "</svg>\n"])


def _lines(box: Box) -> list[tuple[str, str]]:
    """Class and text of the lines in a box."""
    said = [("name", box.name), ("kind", box.kind), ("fields", box.fields)]
    if box.inside:
        said = [("name", " · ".join(filter(None, (box.name, box.kind)))), ("fields", box.fields)]
    return [(kind, line) for kind, line in said if line]


def _words(box: Box) -> _Size:
    lines = _lines(box)
    letters = max(min(len(line), LONGEST) for _, line in lines)
    return _Size(max(70, letters * LETTER + 2 * PAD), len(lines) * LINE + PAD)


def _columns(box: Box) -> list[list[Box]]:
    """What stands beside one another, from left to right; in each, what stands below one another."""
    if box.shape == "choice":
        return [[box.inside[0]], list(box.inside[1:])]
    if box.shape == "branches":
        last = [one for one in box.inside if one.name in AFTER]
        return [column for column in ([one for one in box.inside if one not in last], last) if column]
    if box.shape == "parts":
        return [list(box.inside)]
    return [[one] for one in box.inside]


def _size(box: Box) -> _Size:
    words = _words(box)
    if not box.inside:
        return words
    columns = [_column_size(column) for column in _columns(box)]
    width = sum(column.width for column in columns) + GAP * (len(columns) - 1) + 2 * GAP
    back = GAP if box.shape == "loop" else PAD
    return _Size(max(words.width, width), words.height + max(column.height for column in columns) + PAD + back)


def _column_size(column: list[Box]) -> _Size:
    sizes = [_size(one) for one in column]
    return _Size(max(size.width for size in sizes), sum(size.height for size in sizes) + PAD * (len(sizes) - 1))


def _draw(box: Box, spot: _Spot) -> list[str]:
    """A box and what is in it."""
    drawn = [_rect(box, spot)]
    if not box.inside:
        return drawn
    words = _words(box).height
    columns = _columns(box)
    widths = [_column_size(column) for column in columns]
    spare = (spot.size.width - sum(one.width for one in widths) - GAP * (len(widths) - 1)) / 2
    left, spots = spot.x + spare, []
    top, tall = spot.y + words, spot.size.height - words - (GAP if box.shape == "loop" else PAD)
    for column, size in zip(columns, widths, strict=True):
        y, here = top + (tall - size.height) / 2, []
        for one in column:
            its = _size(one)
            here.append(_Spot(left + (size.width - its.width) / 2, y, its))
            drawn += _draw(one, here[-1])
            y += its.height + PAD
        spots.append(here)
        left += size.width + GAP
    return [*drawn, *_between(box, spot, spots)]


def _between(box: Box, spot: _Spot, spots: list[list[_Spot]]) -> list[str]:
    """Arrows from column to column, from the box's side into the first and from the last to its other side."""
    if box.shape == "parts":
        return []
    drawn = [_arrow(spot.enters, one.enters) for one in spots[0]]
    for one, other in pairwise(spots):
        drawn += [_arrow(a.leaves, b.enters) for a in one for b in other]
    drawn += [_arrow(one.leaves, spot.leaves, tip=False) for one in spots[-1]]
    if box.shape == "loop":
        start, end = spots[-1][0], spots[0][0]
        low = max(one.y + one.size.height for column in spots for one in column) + PAD
        x, to = start.x + start.size.width / 2, end.x + end.size.width / 2 - (12 if start == end else 0)
        way = f"M {x:.0f} {start.y + start.size.height:.0f} V {low:.0f} H {to:.0f} V {end.y + end.size.height:.0f}"
        drawn.append(f'<path class="back" d="{way}" marker-end="url(#tip)"/>')
    return drawn


def _rect(box: Box, spot: _Spot) -> str:
    kind = ' class="group"' if box.inside else ""
    whole = html.escape("\n".join(line for _, line in _lines(box)))
    lines = [
        f'<rect{kind} x="{spot.x:.0f}" y="{spot.y:.0f}" width="{spot.size.width:.0f}" height="{spot.size.height:.0f}" '
        f'rx="6"><title>{whole}</title></rect>'
    ]
    for number, (style, line) in enumerate(_lines(box), 1):
        short = line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
        x, y = (spot.x + PAD, "start") if box.inside else (spot.x + spot.size.width / 2, "middle")
        lines.append(
            f'<text class="{style}" x="{x:.0f}" y="{spot.y + number * LINE + 2:.0f}" text-anchor="{y}">'
            f"{html.escape(short)}</text>"
        )
    return "\n".join(lines)


def _arrow(start: tuple[float, float], end: tuple[float, float], *, tip: bool = True) -> str:
    (x, y), (to_x, to_y) = start, end
    bend = (to_x - x) / 2
    way = f"M {x:.0f} {y:.0f} C {x + bend:.0f} {y:.0f} {to_x - bend:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"
    marker = ' marker-end="url(#tip)"' if tip else ""
    return f'<path d="{way}"{marker}/>'


def _circle(x: float, y: float) -> str:
    return f'<circle class="end" cx="{x:.0f}" cy="{y:.0f}" r="5"/>'
