"""`cascade show NAME --history`: which version served when, and every look at test.

Invariant: it reads the promotion log on this machine, and asks MLflow nothing.
"""

import time
from typing import TYPE_CHECKING

from cascade.cli.parts import print_json
from cascade.cli.promote import shown
from cascade.cli.tables import print_aligned, print_table

if TYPE_CHECKING:
    from cascade.production.promoting import Entry

_SERVED = ("version", "from", "until", "by", "how")


def show_history(name: str, *, as_json: bool) -> None:
    """Print it.

    Raises:
        CascadeError: the log is damaged.
    """
    from cascade.production.promoting import PromotionLog, standing
    from cascade.settings import load_settings

    entries = PromotionLog.of(load_settings().home, name).entries()
    now = standing(entries)
    if as_json:
        print_json(
            {
                "experiment": name,
                "champion": now.champion,
                "previous": now.previous,
                "rejected": sorted(now.rejected),
                "entries": [shown(entry) for entry in entries],
            }
        )
        return
    if not entries:
        print(f"Nothing of {name} was promoted from here. `cascade promote {name}` does.")
        return
    rows = [
        (
            one.version or "none",
            _clock(one.since),
            _clock(one.until) if one.until else "now",
            one.entry.who,
            _how(one.entry),
        )
        for one in now.history
    ]
    print_table(_SERVED, rows, ())
    print("\nWhy:")
    print_aligned([(f"{_clock(entry.at)} v{entry.version or '-'}", _why(entry)) for entry in entries])


def _how(entry: "Entry") -> str:
    words = {"promoted": "promoted", "rolled_back": "rolled back to", "adopted": "set in MLflow"}[entry.event]
    return f"{words}, forced" if entry.forced else words


def _why(entry: "Entry") -> str:
    verdict = {True: "granted: ", False: "refused: "}[entry.granted] if entry.event == "judged" else ""
    note = f" ({entry.note})" if entry.note else ""
    return f"{verdict}{entry.reason}{note}"


def _until(seconds: float | None) -> str:
    return "now" if seconds is None else _clock(seconds)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
