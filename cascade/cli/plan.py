"""The plan of a run that has not begun: what it may cost and what it could show.

Invariant: an unknown figure is shown as unknown, never as zero.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from cascade.forecast import Forecast, Row

UNKNOWN = "unknown"
NOT_BOUNDED = "not bounded"
_UNITS = {"lm_calls": "LM calls", "tokens": "tokens", "usd": "dollars", "minutes": "minutes"}


def print_forecast(forecast: "Forecast") -> None:
    """A table of steps, and what it means."""
    import io

    from rich.console import Console

    # As wide as it needs to be: a file has no columns, and a terminal wraps.
    console = Console(file=io.StringIO(), width=200)
    console.print(_table(forecast))
    table = str(console.file.getvalue())  # type: ignore[attr-defined]
    print(*(line.rstrip() for line in table.splitlines()), "", *sentences(forecast), sep="\n")


def sentences(forecast: "Forecast") -> list[str]:
    """What the table does not say: the budget, what the splits can show, and what was assumed."""
    from cascade.cli.words import bounded
    from cascade.forecast import DISAGREEMENT

    total, predictors = bounded(forecast.bound), forecast.predictors
    splits = " or ".join(
        f"{100 * found.gain:.1f} points on {found.split} ({found.n} examples)" for found in forecast.detectable
    )
    each = "its predictor" if predictors == 1 else f"each of its {predictors} predictors"
    again = " An answer that cannot be read is asked for once more: that is counted." if forecast.asks_again else ""
    share = f"{DISAGREEMENT:.0%} of the examples"
    judged = "".join(
        f" but its judge {name!r}, which is not counted here: once an answer, and first about {n:,} labelled ones"
        for name, n in forecast.judges.items()
    )
    return [
        f"{total[0].upper()}{total[1:]}. A plateau may end a run sooner, and what the ledger holds is free.",
        _budget(forecast),
        f"A gain of less than {splits} would likely not be seen, if programs differ on {share}.",
        f"Assumed: the program calls {each} once an example, and the metric no LM{judged}; a run measures it on the "
        f"baseline.{again}",
    ]


def _budget(forecast: "Forecast") -> str:
    if not forecast.budget:
        return "There is no budget."
    caps = " and ".join(f"{float(cap):,.10g} {_UNITS[name]}" for name, cap in forecast.budget.items())
    if not forecast.may_cut:
        return f"The budget of {caps} cannot end it early."
    cutting = " and ".join(_UNITS[name] for name in forecast.may_cut)
    return f"The budget is {caps}. Its cap on {cutting} may end the search early; judging is kept back."


def _table(forecast: "Forecast") -> "Table":
    from rich.table import Table

    roles = [role for role in ("task", "prompt", "teacher") if any(_calls(row, role) != "0" for row in forecast.rows)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("stage", "optimizer", "lever"):
        table.add_column(heading, no_wrap=True)
    for heading in (*roles, "judging", "at most", "cost"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in forecast.rows:
        searched = [_calls(row, role) if row.optimizer or row.search.total else "" for role in roles]
        judging = _number(row.judging.total)
        table.add_row(row.name, row.optimizer, row.lever, *searched, judging, _number(row.bound.total), _cost(row))
    table.add_row("total", "", "", *("" for _ in roles), "", _number(forecast.bound.total), _cost(forecast))
    return table


def _calls(row: "Row", role: str) -> str:
    return UNKNOWN if row.search.at_most is None else _number(getattr(row.search.at_most, role))


def _number(calls: int | None) -> str:
    return NOT_BOUNDED if calls is None else f"{calls:,}"


def _cost(what: "Row | Forecast") -> str:
    from cascade.report.figures import dollars

    return UNKNOWN if what.cost_usd is None else dollars(what.cost_usd)
