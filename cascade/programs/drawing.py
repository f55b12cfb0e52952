"""A program as a picture: what is in what, and in which order.

Invariant: it is made of the program's structure alone; nothing is called, and texts of the program are escaped. All
structures are boxes in a row, beside one another or around another, so the layout is reckoned from the inside out and
needs no solver.
"""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dspy

from cascade.programs.flow import Flow
from cascade.programs.ports import Ports, gives_of, takes_of
from cascade.programs.step import Step


@dataclass(frozen=True)
class Box:
    """A step in a drawing.

    Args:
        name: of the step; kind: of its module; fields: `question → answer`, "" where they are not known.
        shape: how what is inside stands: `series`, `choice`, `branches`, `loop` or `parts` (no order known).
        inside: empty for what is called as one.
    """

    name: str
    kind: str
    fields: str
    shape: str = "parts"
    inside: "tuple[Box, ...]" = ()


def sketch(program: Any, name: str = "") -> Box:
    """The structure of any DSPy program; of a flow, with the order of its steps."""
    kind, fields = type(program).__name__, _fields(program)
    if isinstance(program, Flow):
        inside = tuple(sketch(part, step) for step, part in program.named_steps().items())
        return Box(name, kind, fields, program.shape, inside)
    if isinstance(program, Step):
        return Box(name, _called(program.function), fields)
    if isinstance(program, dspy.Predict | dspy.ChainOfThought | dspy.ReAct):
        return Box(name, kind, fields)
    return Box(name, kind, fields, "parts", tuple(_parts(program)))


def text(box: Box, indent: str = "") -> str:
    """As an indented tree, one line a step."""
    said = " ".join(filter(None, (box.name, f"({box.kind})", box.fields and f"  {box.fields}")))
    order = {"choice": "one of", "branches": "at once", "loop": "again and again"}.get(box.shape, "")
    lines = [f"{indent}{said}{f'  [{order}]' if order and box.inside else ''}"]
    return "\n".join([*lines, *(text(one, f"{indent}  ") for one in box.inside)])


def mermaid(box: Box) -> str:
    """As a flowchart of Mermaid, steps in boxes of those that they are part of."""
    drawing = _Mermaid()
    first, last = drawing.draw(box)
    ends = [f"    start((in)) --> {one}" for one in first] + [f"    {one} --> finish((out))" for one in last]
    return "\n".join(["flowchart LR", *drawing.lines, *ends]) + "\n"


FORMS: Mapping[str, Callable[[Box], str]] = {"text": lambda box: text(box) + "\n", "mermaid": mermaid}
"""Drawings that are words; `svg` stands in a module of its own."""


class _Mermaid:
    """Writes nodes and arrows; `draw` returns the nodes at which a box begins and ends."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def draw(self, box: Box, depth: int = 1) -> tuple[list[str], list[str]]:
        self.count += 1
        own, space = f"n{self.count}", "    " * depth
        if not box.inside:
            self.lines.append(f'{space}{own}["{_label(box)}"]')
            return [own], [own]
        self.lines.append(f'{space}subgraph {own}["{_label(box)}"]')
        parts = [self.draw(one, depth + 1) for one in box.inside]
        arrows, first, last = _arrows(box, parts)
        self.lines += [f"{space}    {arrow}" for arrow in arrows]
        self.lines.append(f"{space}end")
        return first, last


Part = tuple[list[str], list[str]]


def _arrows(box: Box, parts: list[Part]) -> tuple[list[str], list[str], list[str]]:
    """Arrows between the parts of a box, and where it begins and ends."""
    every = ([one for first, _ in parts for one in first], [one for _, last in parts for one in last])
    if box.shape == "choice":
        (first, decided), ways = parts[0], list(zip(parts[1:], box.inside[1:], strict=True))
        arrows = [f'{a} -->|"{_safe(way.name)}"| {b}' for (to, _), way in ways for a in decided for b in to]
        return arrows, first, [one for (_, last), _ in ways for one in last]
    if box.shape == "branches":
        after = [place for place, one in enumerate(box.inside) if one.name in AFTER]
        at_once = [part for place, part in enumerate(parts) if place not in after]
        arrows = [f"{a} --> {b}" for place in after for _, last in at_once for a in last for b in parts[place][0]]
        ends = [one for place in after for one in parts[place][1]] or [one for _, last in at_once for one in last]
        return arrows, [one for first, _ in at_once for one in first], ends
    if box.shape == "parts":
        return [], *every
    arrows = [f"{a} --> {b}" for (_, last), (first, _) in pairwise(parts) for a in last for b in first]
    back = [f"{a} -.->|again| {b}" for a in parts[-1][1] for b in parts[0][0]] if box.shape == "loop" else []
    return [*arrows, *back], parts[0][0], parts[-1][1]


ENTITIES = str.maketrans({"#": "&num;", "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "`": "&grave;"})
AFTER = ("merge", "otherwise", "judge")
"""Steps of `branches` that come after the others."""


def _label(box: Box) -> str:
    lines = [f"<b>{_safe(box.name)}</b>" if box.name else "", _safe(box.kind), _safe(box.fields)]
    if box.inside:  # Mermaid keeps one line free for the title of a group
        return " · ".join(filter(None, lines[:2]))
    return "<br/>".join(filter(None, lines))


def _safe(said: str) -> str:
    """For Mermaid, whose labels are HTML; its own entities it leaves as they are in the titles of groups."""
    return said.translate(ENTITIES)


def _fields(program: Any) -> str:
    takes, gives = takes_of(program), gives_of(program)
    if takes is None and gives is None:
        return ""
    return f"{_names(takes)} → {_names(gives)}"


def _names(ports: Ports | None) -> str:
    return "…" if ports is None else textwrap.shorten(", ".join(ports), 60, placeholder=" …") if ports else "nothing"


def _called(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "function" if name == "<lambda>" else f"{name}()"


def _parts(program: Any) -> Iterator[Box]:
    """The modules in the attributes of a module that is no flow."""
    for name, value in vars(program).items():
        found = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        )
        several = [(f"{name}[{key!r}]", one) for key, one in found]
        for place, one in [(name, value), *several]:
            if isinstance(one, dspy.Module):
                yield sketch(one, place)
