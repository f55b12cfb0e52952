"""Tables, promises and pictures of docs/calibration.md, all made from the same figures."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from _calibration.pictures import pictures

PAGE, FIGURES = "docs/calibration.md", "docs/calibration.json"
TOLERANCE = 2.0
"""Points by which nothing may be false more often than promised."""
NOMINAL = {"better": 5.0, "worse": 5.0, "equivalent": 5.0, "any": 10.0, "proven": 5.0}
"""Percent of cascades, at the default confidence of 0.90."""
ONE_SIDED = (5.0, 1.25)
"""Percent of comparisons at 0.90 and at 0.975."""


def worst(row: dict[str, Any], method: str, place: int) -> tuple[float, int]:
    """Largest miss of a method on either side, and the size where it is."""
    return max((max(cell[place]), size) for cell, size in zip(row[method], row["sizes"], strict=True))


def worst_seen(document: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """What was promised at most and the worst that was seen, in percent, by what it is; of the parts that are there."""
    found: dict[str, tuple[float, float]] = {}
    for part, name in (("comparisons", "comparison: truth"), ("scores", "score: truth")):
        for place, nominal in enumerate(ONE_SIDED if part in document else ()):
            cells = [worst(row, "ours", place)[0] for row in document[part]]
            found[f"{name} outside on one side, at {100 - 2 * nominal:g} %"] = nominal, max(cells)
    cells = [cell for row in document.get("cascades", []) for cell in row["false"]]
    for kind, nominal in NOMINAL.items() if cells else ():
        found[f"cascade at 90 %: false {kind}"] = nominal, max(cell[kind] for cell in cells)
    seen = [share for row in document.get("power", []) for share in row["at_told"] if share is not None]
    if seen:
        found["gain reported as detectable: not seen"] = 20.0, 100 - min(seen)
    return found


def broken(document: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Those of them that are false more often than promised by more than `TOLERANCE`."""
    return {name: pair for name, pair in worst_seen(document).items() if pair[1] > pair[0] + TOLERANCE}


def tables(document: dict[str, Any]) -> dict[str, str]:
    """Markdown of each table, by the name of its markers."""
    return {
        "promises": _promises(document),
        "comparisons": _comparisons(document["comparisons"]),
        "scores": _scores(document["scores"]),
        "cascades": _cascades(document["cascades"]),
        "power": _power(document["power"]),
        "optimism": _optimism(document["optimism"]),
    }


def write(root: Path, document: dict[str, Any]) -> None:
    """Write figures, tables and pictures, all of the figures as they are written."""
    document = _rounded(document)
    text = json.dumps(document, ensure_ascii=False)
    (root / FIGURES).write_text(re.sub(r"(\{\"(?:world|programs)\")", r"\n\1", text) + "\n", "utf-8")
    pictures(root / "docs" / "pictures", document)
    page = root / PAGE
    page.write_text(filled(page.read_text("utf-8"), document), "utf-8")


def filled(text: str, document: dict[str, Any]) -> str:
    """The page with its tables made anew: what stands between the markers of each."""
    seconds = f"It took {sum(document['seconds'].values()) / 60:.0f} minutes here (2 cores, beside other work)."
    for name, table in (tables(document) | {"seconds": seconds}).items():
        start, rest = text.split(f"<!-- {name} -->\n")
        text = f"{start}<!-- {name} -->\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return text


def _promises(document: dict[str, Any]) -> str:
    rows = [(name, f"{most:g} %", f"{seen:.1f} %") for name, (most, seen) in worst_seen(document).items()]
    return _table(("what", "promised at most", "worst seen"), rows)


def _comparisons(rows: list[dict[str, Any]]) -> str:
    names = ("ours", "adjusted Wald", "Student's t")
    head = ["differences", *(f"{name}, {nominal:g} %" for nominal in ONE_SIDED for name in names)]
    body = []
    for row in rows:
        cells = [worst(row, name, place) for place in range(len(ONE_SIDED)) for name in names]
        limits = [nominal + TOLERANCE for nominal in ONE_SIDED for _ in names]
        body.append(
            [row["world"], *(_marked(miss, most, size) for (miss, size), most in zip(cells, limits, strict=True))]
        )
    return _table(head, body)


def _marked(miss: float, most: float, size: int) -> str:
    return f"**{miss:.1f}** ({size})" if miss > most else f"{miss:.1f} ({size})"


def _scores(rows: list[dict[str, Any]]) -> str:
    body = []
    for row in rows:
        cells = [(*worst(row, "ours", place), nominal + TOLERANCE) for place, nominal in enumerate(ONE_SIDED)]
        body.append([row["world"], *(_marked(miss, most, size) for miss, size, most in cells)])
    return _table(("scores", *(f"{nominal:g} % a side" for nominal in ONE_SIDED)), body)


def _cascades(rows: list[dict[str, Any]]) -> str:
    body = []
    for name in dict.fromkeys(row["programs"] for row in rows):
        own = [row for row in rows if row["programs"] == name]
        without = [cell for row in own if row["effect"] == "none" for cell in row["false"]]
        every = [cell for row in own for cell in row["false"]]
        found = [(without, "better"), (without, "worse"), (without, "proven"), (every, "better"), (every, "worse"),
                 (every, "equivalent"), (every, "any")]  # fmt: skip
        body.append([name, *(f"{max(cell[kind] for cell in cells):.1f}" for cells, kind in found)])
    return _table(("programs", "false `better`, no effect", "false `worse`, no effect", "false “proven”, no effect",
                   "`better`, any effect", "`worse`, any effect", "`equivalent`, any effect",
                   "anything false, any effect"), body)  # fmt: skip


def _power(rows: list[dict[str, Any]]) -> str:
    shown = (5.0, 10.0, 15.0, 20.0)
    body = []
    for row in rows:
        chances = {round(gain, 1): pair for gain, pair in zip(row["gains"], row["chances"], strict=True)}
        cells = [f"{chances[gain][1]:.0f} / {chances[gain][0]:.0f}" if gain in chances else "–" for gain in shown]
        told = [f"{row['told'][place]:.1f}, seen {seen}" for place in (1, 0)
                for seen in ["–" if row["at_told"][place] is None else f"{row['at_told'][place]:.0f} %"]]  # fmt: skip
        cost = f"{row['cost'][1]:.0f} / {row['cost'][0]:.0f}"
        body.append([row["programs"], str(row["units"]), *cells, cost, *told])
    return _table(
        ("programs", "units", *(f"+{gain:g} points" for gain in shown), "cost", "reported detectable, dev", "test"),
        body,
    )


def _optimism(rows: list[dict[str, Any]]) -> str:
    sizes = rows[0]["sizes"]
    body = [[row["programs"], str(row["stages"]), *(f"{points:+.1f}" for points in row["points"])] for row in rows]
    return _table(("programs", "stages", *(f"{size} units" for size in sizes)), body)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return round(value, 2) if isinstance(value, float) else value
