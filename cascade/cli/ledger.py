"""`cascade ledger`: the answers that were paid for.

Invariant: runs may go on beside every command; only a damaged file is repaired when nobody uses it.
"""

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.parts import Json, print_json, stdout_kept
from cascade.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from cascade.lm.checking import Found
    from cascade.settings import Settings

_HELP = """Show and tidy the answers that were paid for.

Example: cascade ledger
"""
ledger = typer.Typer(invoke_without_command=True, rich_markup_mode=None, help=_HELP)
OlderThan = Annotated[str, typer.Option(metavar="TIME", help="Not used for this long, such as 30d, 12h or 2w.")]
Model = Annotated[str, typer.Option(metavar="MODEL", help="Of this model, such as openai/gpt-5-mini.")]
MaxSize = Annotated[str, typer.Option(metavar="SIZE", help="Those used longest ago, until the rest takes 500MB, 2GB …")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be dropped, and drop nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Also what runs that are not over may need; they pay again.")]
Repair = Annotated[bool, typer.Option("--repair", help="Drop damaged rows; save what a damaged file still holds.")]
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@ledger.callback()
def _alone(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is None:
        show(as_json)


@ledger.command()
def show(as_json: Json = False) -> None:
    """Show what the ledger holds, by model and role, and what it cost.

    Example: cascade ledger show --json
    """
    from cascade.lm.checking import look

    with stdout_kept():
        settings = _settings()
        summary = _summary(settings, look(settings.ledger)) if settings.ledger.exists() else {}
    if as_json:
        print_json(summary)
    else:
        _print_summary(settings.ledger, summary)


@ledger.command()
def prune(
    older_than: OlderThan = "",
    model: Model = "",
    max_size: MaxSize = "",
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Drop answers that are not needed any more.

    One of the first three options says which, or several together. Not dropped is what a run that is not over may need.

    Example: cascade ledger prune --older-than 30d --dry-run
    """
    before = time.time() - _measured(older_than, "--older-than", _SECONDS, "30d") if older_than else None
    limit = _measured(max_size, "--max-size", _BYTES, "500MB") if max_size else None
    if not (older_than or model or max_size):
        raise SettingsError("Prune what? Say --older-than 30d, --model openai/gpt-5-mini or --max-size 500MB.")
    with stdout_kept():
        settings = _settings()
        done = _prune(settings, before, model or None, limit, dry_run=dry_run, force=force)
    if as_json:
        print_json(done)
    else:
        print("Would drop" if dry_run else "Dropped", _counted(done["dropped"], "answer"), end="")
        print(f"; the ledger takes {_size(done['file_bytes'])}.")
        if done["kept"]:
            print(f"Kept {done['kept']:,} that runs which are not over may need: {', '.join(done['unfinished'])}.")
            print("--force drops them too.")


@ledger.command()
def check(repair: Repair = False, as_json: Json = False) -> None:
    """Look for damage in every row and in the file.

    Exits with 1 if anything stays damaged.

    Example: cascade ledger check --repair
    """
    from cascade.lm import checking

    with stdout_kept():
        path = _settings().ledger
        found = checking.look(path, closely=True) if path.exists() else checking.Found()
        damaged = bool(found.wrong or found.damaged)
        done = checking.repair(path, found) if damaged and repair else ""
    rows = sum(calls.calls for calls in found.calls) + len(found.damaged)
    report = {"path": str(path), "rows": rows, "damaged": len(found.damaged), "file": found.wrong, "done": done}
    if as_json:
        print_json(report)
    elif found.wrong:
        print(f"{path} is damaged: {found.wrong}.")
    else:
        print(f"{path}: {_counted(rows, 'row')}, {len(found.damaged):,} damaged.")
    if done and not as_json:
        print(f"Repaired: {done}.")
    if damaged and not repair:
        if not as_json:
            print("`cascade ledger check --repair` mends it.")
        raise typer.Exit(1)


def _settings() -> "Settings":
    from cascade.settings import load_settings

    return load_settings()


def _summary(settings: "Settings", found: "Found") -> dict[str, Any]:
    calls = found.calls
    return {
        "path": str(settings.ledger),
        "answers": sum(each.calls for each in calls),
        "damaged": len(found.damaged),
        "file_bytes": _on_disk(settings.ledger),
        "limit_bytes": int(settings.ledger_gb * 1e9) if settings.ledger_gb < float("inf") else None,
        "oldest": _moment(min(each.first for each in calls)) if calls else None,
        "newest": _moment(max(each.last for each in calls)) if calls else None,
        "by_model": [
            {**vars(each), "first": _moment(each.first), "last": _moment(each.last), "used": _moment(each.used)}
            for each in calls
        ],
    }


def _print_summary(path: "Path", summary: dict[str, Any]) -> None:
    from cascade.report.figures import dollars

    if not summary:
        print(f"There is no ledger yet: {path} is made by the first run.")
        return
    limit = f" of {_size(summary['limit_bytes'])}" if summary["limit_bytes"] else ""
    paid = f", paid for {summary['oldest']} to {summary['newest']}" if summary["answers"] else ""
    print(f"{path}: {_counted(summary['answers'], 'answer')}, {_size(summary['file_bytes'])}{limit}{paid}.")
    table = [["model", "role", "calls", "input tokens", "output tokens", "cost", "last used"]] + [
        [row["model"], row["role"], f"{row['calls']:,}", f"{row['input_tokens']:,}", f"{row['output_tokens']:,}",
         dollars(row["cost_usd"]), row["used"]]
        for row in summary["by_model"]
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table if summary["by_model"] else []:
        cells = [
            f"{cell:>{width}}" if 2 <= number <= 5 else f"{cell:<{width}}"
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    if summary["damaged"]:
        damaged = _counted(summary["damaged"], "row")
        print(f"{damaged} damaged, as if not there; `cascade ledger check --repair` drops them.")


def _prune(
    settings: "Settings", before: float | None, model: str | None, limit: float | None, *, dry_run: bool, force: bool
) -> dict[str, Any]:
    from cascade.journal import unfinished
    from cascade.lm import upkeep
    from cascade.lm.ledger import Ledger

    runs = {} if force else unfinished(settings.home)
    kept_from = min(runs.values(), default=float("inf"))
    wanted = upkeep.Which(before, model)
    allowed = upkeep.Which(before, model, kept_from)
    if not settings.ledger.exists():
        return {"dropped": 0, "kept": 0, "unfinished": list(runs), "dry_run": dry_run, "file_bytes": 0}
    with Ledger(settings.ledger) as opened, opened.connection() as connection:
        dropped = kept = 0
        if before is not None or model is not None:
            kept = upkeep.count(connection, wanted) - upkeep.count(connection, allowed)
            dropped = (upkeep.count if dry_run else upkeep.drop)(connection, allowed)
        if limit is not None:
            dropped += upkeep.shrink(connection, int(limit), kept_from, dry=dry_run)
            if not dry_run and upkeep.size(connection) > limit:
                kept = upkeep.count(connection, upkeep.Which()) - upkeep.count(
                    connection, upkeep.Which(kept_from=kept_from)
                )
        if not dry_run:
            upkeep.give_back(connection)
    return {"dropped": dropped, "kept": kept, "unfinished": list(runs), "dry_run": dry_run,
            "file_bytes": _on_disk(settings.ledger)}  # fmt: skip


def _measured(text: str, option: str, units: dict[str, int], example: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
    if not match or match[2] not in units:
        raise SettingsError(f"{option} {text!r} is not understood. Write a number and {', '.join(units)}: {example}.")
    return float(match[1]) * units[match[2]]


def _on_disk(path: "Path") -> int:
    parts = (path.with_name(path.name + suffix) for suffix in ("", "-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
