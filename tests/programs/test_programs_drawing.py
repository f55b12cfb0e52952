"""Drawings: what is in them, that texts are escaped, and that an SVG is one."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from program_cases import CASES, Predict, answering, passages

from cascade.programs import Parallel, Pipeline, Router, Step
from cascade.programs.drawing import Box, mermaid, sketch, text
from cascade.programs.picture import svg

SVG = "{http://www.w3.org/2000/svg}"


def program() -> Any:
    return Pipeline(
        "question -> answer",
        fan=Parallel(web=Predict("question -> found"), wiki=passages),
        route=Router(lambda question: "a", {"a": answering(), "b": Predict("question -> answer")}),
    )


TREE = """\
qa (Pipeline)   question → …
  fan (Parallel)   question → …  [at once]
    web (Predict)   question → found
    wiki (passages())   question → …
  route (Router)   question → route, reasoning, answer  [one of]
    by (function)   question → route
    a (ChainOfThought)   question → reasoning, answer
    b (Predict)   question → answer"""

CHART = """\
flowchart LR
    subgraph n1["<b>qa</b> · Pipeline"]
        subgraph n2["<b>fan</b> · Parallel"]
            n3["<b>web</b><br/>Predict<br/>question → found"]
            n4["<b>wiki</b><br/>passages()<br/>question → …"]
        end
        subgraph n5["<b>route</b> · Router"]
            n6["<b>by</b><br/>function<br/>question → route"]
            n7["<b>a</b><br/>ChainOfThought<br/>question → reasoning, answer"]
            n8["<b>b</b><br/>Predict<br/>question → answer"]
            n6 -->|"a"| n7
            n6 -->|"b"| n8
        end
        n3 --> n6
        n4 --> n6
    end
    start((in)) --> n3
    start((in)) --> n4
    n7 --> finish((out))
    n8 --> finish((out))
"""


def test_a_flow_is_drawn_with_the_order_of_its_steps() -> None:
    assert text(sketch(program(), "qa")) == TREE
    assert mermaid(sketch(program(), "qa")) == CHART


def test_a_loop_goes_back_and_what_is_merged_comes_after() -> None:
    drawn = sketch(CASES["Loop"].make(), "again")
    assert re.findall(r"n\d+ -.*", mermaid(drawn))[:2] == ["n2 --> n3", "n3 -.->|again| n2"]
    assert svg(drawn).count('class="back"') == 1
    joined = mermaid(sketch(CASES["Parallel, merged by a predictor"].make(), "join"))
    assert re.findall(r"(n\d+) --> (n\d+)", joined) == [("n2", "n4"), ("n3", "n4")]
    assert joined.endswith("    n4 --> finish((out))\n")


class Plain(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = Predict("question -> answer")
        self.tools = {"one": answering()}
        self.many = [Predict("a -> b")]


def test_any_module_of_dspy_is_drawn_with_its_predictors() -> None:
    assert text(sketch(Plain(), "plain")) == (
        "plain (Plain)   … → …\n  ask (Predict)   question → answer\n"
        "  tools['one'] (ChainOfThought)   question → reasoning, answer\n  many[0] (Predict)   a → b"
    ).replace("   … → …", "")
    assert text(sketch(Predict("a -> b"))) == "(Predict)   a → b"


@pytest.mark.parametrize("name", CASES)
def test_every_architecture_is_drawn_with_all_its_predictors(name: str) -> None:
    made = CASES[name].make()
    drawn = sketch(made, name)
    picture = ET.fromstring(svg(drawn))
    boxes = list(picture.iter(f"{SVG}rect"))
    predictors = sum(isinstance(one, dspy.Predict) for _, one in made.named_sub_modules())
    assert len(boxes) == _count(drawn) >= predictors
    assert len(re.findall(r"^ +n\d+\[", mermaid(drawn), re.MULTILINE)) == sum(1 for _ in _leaves(drawn))


def test_nothing_runs_out_of_its_box_or_over_another() -> None:
    """Texts are as wide as was reckoned; a test in a browser cannot be had for every font."""
    picture = ET.fromstring(svg(sketch(program(), "qa")))
    width, height = float(picture.get("width", 0)), float(picture.get("height", 0))
    boxes = [
        tuple(float(box.get(side, 0)) for side in ("x", "y", "width", "height")) for box in picture.iter(f"{SVG}rect")
    ]
    for x, y, w, h in boxes:
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
    for one in boxes:
        for other in boxes:
            assert one is other or _apart(one, other) or _inside(one, other) or _inside(other, one)


def _apart(one: Any, other: Any) -> bool:
    (x, y, w, h), (to_x, to_y, to_w, to_h) = one, other
    return bool(x + w <= to_x or to_x + to_w <= x or y + h <= to_y or to_y + to_h <= y)


def _inside(one: Any, other: Any) -> bool:
    (x, y, w, h), (to_x, to_y, to_w, to_h) = one, other
    return bool(x >= to_x and y >= to_y and x + w <= to_x + to_w and y + h <= to_y + to_h)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=60))
def test_texts_are_escaped(name: str) -> None:
    hostile = Box(name, "Predict", f'a"]; click x "javascript:0" {name}', "series", (Box(name, "<script>", name),))
    picture = svg(hostile)
    assert "<script" not in picture
    ET.fromstring(picture)
    labels = re.findall(r'\["(.*)"\]', mermaid(hostile))
    assert len(labels) == 2
    assert not any(set(re.sub(r"</?b>|<br/>", "", label)) & set('"<>`#') for label in labels)


def test_a_step_of_one_name_in_two_places_is_two_boxes() -> None:
    shared = Step(lambda text: 1, gives="n")
    assert mermaid(sketch(Pipeline(a=shared, b=Pipeline(c=shared)))).count("function") == 2


def _count(box: Box) -> int:
    return 1 + sum(map(_count, box.inside))


def _leaves(box: Box) -> Any:
    for one in box.inside:
        yield from _leaves(one)
    if not box.inside:
        yield box
