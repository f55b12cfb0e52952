"""`cascade ab`: what an A/B test has shown so far.

Invariant: figures and sentences are those of `cascade.production.ab.account`; nothing is decided here.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.parts import Json, print_json

if TYPE_CHECKING:
    from cascade.production.ab.account import Account

Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment that is served with a challenger.")]
Number = Annotated[str, typer.Option("--version", metavar="N", help="The challenger; default: that of the last test.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the course of the test.")]


def ab(name: Name, version: Number = "", html: Html = None, as_json: Json = False) -> None:
    """Say what people's outcomes show of a challenger that is served, and what to do.

    Example: cascade ab qa --html ab.html
    """
    from cascade.production.ab.account import account
    from cascade.production.ab.outcomes import Books
    from cascade.settings import load_settings

    found = account(Books(load_settings().home, name), version)
    if html:
        _write(found, html)
    if as_json:
        print_json(found.to_json())
    else:
        _say(found)


def _say(found: "Account") -> None:
    test = found.test
    print(
        f"Version {test.challenger} of {found.experiment} beside version {test.champion} since {_clock(test.at)}, for "
        f"{100 * test.share:.3g} % of all keys."
    )
    print(f"{found.said:,} outcomes were said; the first of each key counts, {found.counted:,} in all.")
    print(found.advice.reason)
    print(f"Advice: {found.advice.action}.")
    if test.stopped:
        print(f"The challenger answers nobody any more since {_clock(test.stopped_at)}.")


def _write(found: "Account", path: Path) -> None:
    from cascade.journal import written
    from cascade.redaction import redacted
    from cascade.report.page import ab_page

    page = ab_page(found, found.course, began=_clock(found.test.at), stopped=_clock(found.test.stopped_at))
    with written(path):
        path.write_text(redacted(page), "utf-8")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(seconds))
