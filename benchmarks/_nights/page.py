"""Tables of docs/nights.md, all made from the same figures."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _nights.histories import DEV, RULES, Plan, histories
from _nights.worlds import WORLDS, World
from cascade.comparison import score_interval

PAGE, FIGURES = "docs/nights.md", "docs/nights.json"
FRESH = 20
GAIN = 0.10
BOUND = 0.98
"""Two-sided confidence of the exact interval of a share, so that the bound above it errs in 1 of 100."""
WHEN = (1, 5, 30)


def nothing_gained(count: int, nights: int) -> list[dict[str, Any]]:
    """Share of histories with any promotion where no candidate has a true gain."""
    rows = []
    for world in WORLDS:
        for size in (200, 1_000) if world is WORLDS[0] else (200,):
            row: dict[str, Any] = {"world": world.name, "rows": size, **_disagree(world), "histories": count}
            plans = {"fixed": Plan(world, size), "fresh": Plan(world, size, FRESH)}
            plans["unspent"] = Plan(world, size, spending=False)
            for name, plan in plans.items():
                promoted = histories(plan, count, nights) > 0
                row[name] = int(promoted.sum())
                row[f"{name}_at_most"] = score_interval(promoted.astype(float).tolist(), confidence=BOUND).high
            rows.append(row)
    return rows


def power(count: int, nights: int) -> list[dict[str, Any]]:
    """Share of histories with a promotion by some nights where every candidate truly gains ten points."""
    rows = []
    for world in WORLDS:
        for size in (200, 1_000):
            row: dict[str, Any] = {"world": world.name, "rows": size, **_disagree(world, GAIN), "histories": count}
            for name, same, fresh in (("one", True, 0), ("one_fresh", True, FRESH), ("new", False, 0),
                                      ("new_fresh", False, FRESH)):  # fmt: skip
                night = histories(Plan(world, size, fresh, GAIN, same), count, nights)
                row[name] = [float(((night > 0) & (night <= when)).mean()) for when in WHEN]
            rows.append(row)
    return rows


def worst(document: dict[str, Any]) -> float:
    """Largest upper bound, over all worlds, of the share of histories with a promotion that gained nothing."""
    return max(row[f"{name}_at_most"] for row in document["nothing"] for name in ("fixed", "fresh"))


def tables(document: dict[str, Any]) -> dict[str, str]:
    """Markdown of each table, by the name of its markers."""
    nothing = [
        (*_place(row), *(_bounded(row, name) for name in ("fixed", "fresh", "unspent"))) for row in document["nothing"]
    ]
    found = [
        (*_place(row), f"{row['one'][0]:.0%}", *(_by_night(row[name]) for name in ("one_fresh", "new", "new_fresh")))
        for row in document["power"]
    ]
    said = (
        f"In no world more than {100 * worst(document):.1f} % of the histories, by an exact bound that errs in 1 of "
        f"100; α is {100 * RULES.alpha:g} %."
    )
    heads = ("programs", "rows of test", "differ on")
    return {
        "worst": said,
        "nothing": _table((*heads, "same test", f"{FRESH} fresh rows a night", "same test, α for each look"), nothing),
        "power": _table((*heads, "one program", "one program, fresh rows", "a new one each night",
                         "a new one, fresh rows"), found),
        "seconds": f"{document['nothing'][0]['histories']:,} histories of {document['nights']} nights in each cell of "
        f"the first table, {document['power'][0]['histories']:,} in the second; all of it took "
        f"{document['seconds']:.0f} seconds of one core here.",
    }  # fmt: skip


def filled(text: str, document: dict[str, Any]) -> str:
    """The page with what stands between its markers made anew."""
    for name, table in tables(document).items():
        start, rest = text.split(f"<!-- {name} -->\n")
        text = f"{start}<!-- {name} -->\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


def write(root: Path, document: dict[str, Any]) -> None:
    """Write the figures, and the page from them."""
    told = {
        **document,
        "nothing": list(map(_rounded, document["nothing"])),
        "power": list(map(_rounded, document["power"])),
    }
    lines = {name: ",\n".join(map(json.dumps, told.pop(name))) for name in ("nothing", "power")}
    body = "".join(f', "{name}": [\n{rows}\n]' for name, rows in lines.items())
    (root / FIGURES).write_text(json.dumps(told)[:-1] + body + "}\n", "utf-8")
    page = root / PAGE
    page.write_text(filled(page.read_text("utf-8"), json.loads((root / FIGURES).read_text("utf-8"))), "utf-8")


def _disagree(world: World, gain: float = 0.0) -> dict[str, float]:
    return {"disagree": world.disagreement(np.random.default_rng(1), gain), "dev": DEV}


def _place(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["world"], f"{row['rows']:,}", f"{row['disagree']:.0%}"


def _by_night(shares: Sequence[float]) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in shares)


def _bounded(row: dict[str, Any], name: str) -> str:
    return f"{100 * row[name] / row['histories']:.1f} % (≤ {100 * row[f'{name}_at_most']:.1f})"


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"| --- |{' --: |' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
