"""Documents as HTML pages that need nothing else: no script, no font, no image, no network.

Invariant: the templates escape whatever they are given, and `_fit` cleans it before; only what this package drew itself
is markup.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cascade.report import cells, figures, profiles
from cascade.report.comparing import SideBySide
from cascade.report.cost_chart import cost_chart
from cascade.report.course_chart import course_chart
from cascade.report.document import comparison_document, run_document
from cascade.report.reading import Run
from cascade.report.stage_chart import stage_chart
from cascade.report.text import clean
from cascade.spending import amount

MOST = 20
"""Examples won, and examples lost, that a page shows."""


def run_page(run: Run) -> str:
    """The report of one run."""
    return _environment().get_template("run.html").render(run=run_document(run), chart=stage_chart(run), most=MOST)


def comparison_page(compared: SideBySide) -> str:
    """The report of runs side by side."""
    costs = [amount(point.cost, compared.unit) for point in compared.points]
    document, chart = comparison_document(compared), cost_chart(compared)
    return _environment().get_template("compare.html").render(compared=document, chart=chart, costs=costs, most=MOST)


def profile_page(told: Mapping[str, Any]) -> str:
    """Where a program's time and tokens go.

    Args:
        told: of `cascade.report.profiles.document`.
    """
    chart = profiles.chart(told["by_step"])
    template = _environment().get_template("profile.html")
    return template.render(told=told, chart=chart, head=profiles.HEAD, cells=profiles.cells)


def nights_page(nights: Sequence[Mapping[str, Any]]) -> str:
    """What came of nights, one an experiment.

    Args:
        nights: documents as `cascade.production.night.telling` makes them.
    """
    return _environment().get_template("nights.html").render(nights=nights, most=MOST)


def ab_page(found: Any, course: Sequence[Any], *, began: str, stopped: str) -> str:
    """An A/B test: what it has shown, and its course, a look with `outcomes`, `estimate`, `low` and `high` each."""
    template = _environment().get_template("ab.html")
    return template.render(found=found, chart=course_chart(course), began=began, stopped=stopped)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=_fit,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (
        "percent",
        "points",
        "dollars",
        "clock",
        "moment",
        "percent_interval",
        "points_interval",
        "calls",
        "counted",
        "many_compared",
    )
    made.filters["coded"] = _coded
    made.globals |= {name: getattr(figures, name) for name in words}
    made.globals |= {name: getattr(cells, name) for name in ("part_row", "side_by_side", "spent_row", "spent_rows")}
    made.globals |= {"serving_head": cells.SERVING, "parts_head": cells.PARTS, "right": cells.RIGHT}
    made.filters |= {"serving_row": cells.serving_row, "part_row": cells.part_row}
    return made


def _coded(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(clean(text)))))


def _fit(value: Any) -> Any:
    return value if isinstance(value, Markup) else clean(str(value))
