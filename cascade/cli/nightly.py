"""`cascade nightly`: one night, of one experiment or of all.

Invariant: what fails in one experiment does not keep the others from their night; the exit code says that it failed.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.parts import Json, Parts, experiment_named, parts_of, print_json, stdout_kept
from cascade.cli.tables import Html, print_table, write_page
from cascade.errors import CascadeError, DefinitionError

if TYPE_CHECKING:
    from cascade.production.night import Asked
    from cascade.settings import Settings

Names = Annotated[list[str] | None, typer.Argument(metavar="NAMES", help="Experiments; default: all.")]
Promote = Annotated[bool, typer.Option("--promote", help="Take what the gate grants into service.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Search although nothing changed, also twice in one night.")]
AcceptData = Annotated[
    bool, typer.Option("--accept-data", help="Take up new rows also where dataset.toml pins a fingerprint.")
]
Caps = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="CAP=N", help="lm_calls, tokens, usd or minutes of the night; may be repeated."),
]
_HEAD = ("experiment", "night", "came of it", "LM calls", "cost", "time", "warnings")


def nightly(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    names: Names = None,
    promote: Promote = False,
    anyway: Anyway = False,
    accept_data: AcceptData = False,
    budget: Caps = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Take up new rows, search where something changed, and send the best to the gate; once a night.

    Example: cascade nightly qa --promote --budget lm_calls=2000
    """
    from cascade.discover import names as known
    from cascade.production.night import Asked
    from cascade.settings import load_settings

    asked, failures = Asked(promote, anyway, accept_data, _caps(budget or [])), dict[str, Exception]()
    with stdout_kept():
        settings = load_settings()
        wanted = list(dict.fromkeys(names or known(settings.project)))
        held = [_hold(name, settings, asked, parts_of(context), failures) for name in wanted]
    if not wanted:
        print(f"There is no experiment in {settings.project / 'experiments'}. Add experiments/NAME.py.")
        return
    if html:
        from cascade.report.page import nights_page

        write_page(html, nights_page(held))
    if as_json:
        print_json({"nights": held})
    else:
        _print(held, settings)
    if failures:
        raise _failure(failures, len(wanted))


def _hold(
    name: str, settings: "Settings", asked: "Asked", parts: Parts, failures: dict[str, Exception]
) -> dict[str, Any]:
    """One night as a document; what it failed by goes into `failures`."""
    from cascade.cli.watching import Lines
    from cascade.production.night import Night, Nights, document, hold_night
    from cascade.redaction import told

    again = False
    try:
        experiment = experiment_named(name, settings.project)
        night, again = hold_night(
            experiment, settings, asked, make_lms=parts.lms, progress=Lines(sys.stderr), clock=parts.clock
        )
    except Exception as error:
        failures[name] = error
        nights = Nights(settings.home, name, parts.clock)
        said = str(error) if isinstance(error, CascadeError) else told(error)
        night = Night(nights.today, name, nights.clock(), "failed", error=" ".join(said.split()))
        with suppress(CascadeError):
            noted = nights.tonight()
            night = noted if noted and noted.state == "failed" else night
    return {**document(night), "already_over": again}


def _print(held: list[dict[str, Any]], settings: "Settings") -> None:
    from cascade.production.night import PAGE
    from cascade.report.figures import clock, dollars

    if len(held) > 1:
        rows = []
        for night in held:
            spent = night["spent"]
            calls, cost, time = (
                f"{spent.get('lm_calls', 0):,}", dollars(spent.get("cost_usd")), clock(spent.get("seconds", 0))
            )  # fmt: skip
            rows.append(
                (night["experiment"], night["id"], _word(night), calls, cost, time, str(len(night["warnings"])))
            )
        print_table(_HEAD, rows, ("LM calls", "cost", "time", "warnings"))
        print()
    for night in held:
        if night["state"] == "failed" and len(held) == 1:
            continue  # the error is said on stderr
        over = f"The night of {night['id']} is over already. " if night["already_over"] else ""
        first, *more = night["summary"]
        print(f"{night['experiment']}: {over}{first}")
        for sentence in (*more, *(f"Warning: {warning}" for warning in night["warnings"])):
            print(f"  {sentence}")
        page = settings.home / "production" / night["experiment"] / "nights" / night["id"] / PAGE
        if page.exists():
            print(f"  Page: {_short(page)}")


def _word(night: dict[str, Any]) -> str:
    """What came of it, in a word or two."""
    ruled = night["ruled"]
    if night["state"] != "done":
        return str(night["state"])
    if night["promoted"]:
        return f"version {night['promoted']} promoted"
    if not ruled:
        return "no challenger"
    return f"version {ruled['version']} {'granted' if ruled['granted'] else 'refused'}"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _failure(failures: dict[str, Exception], count: int) -> Exception:
    if count == 1:
        return next(iter(failures.values()))
    failed = ", ".join(failures)
    return CascadeError(f"{len(failures)} of {count} nights failed: {failed}. Calling it again goes on with them.")


def _caps(given: list[str]) -> dict[str, float]:
    """Caps by name.

    Raises:
        DefinitionError: no cap, or no number above 0.
    """
    caps: dict[str, float] = {}
    for text in given:
        name, _, amount = text.partition("=")
        whole = name in ("lm_calls", "tokens")
        try:
            caps[name] = int(amount) if whole else float(amount)
        except ValueError:
            caps[name] = 0
        if name not in ("lm_calls", "tokens", "usd", "minutes") or not caps[name] > 0:
            raise DefinitionError(
                f"--budget {text!r} is no cap. Write lm_calls, tokens, usd or minutes and a number above 0, such as "
                "--budget lm_calls=2000."
            )
    return caps
