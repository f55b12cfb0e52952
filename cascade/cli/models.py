"""`cascade models`: the embedded weights on this machine.

Invariant: only `prepare` uses the network.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cascade.cli.parts import Json, print_json, stdout_kept

if TYPE_CHECKING:
    from cascade.lm.embedded.models import Models

_HELP = """Manage the embedded models on this machine.

Example: cascade models list
"""
models = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, as `cascade models list` shows it.")]


Prepared = Annotated[str, typer.Argument(metavar="NAME", help="smollm2-135m or smollm2-135m-small.")]


@models.command()
def prepare(name: Prepared = "smollm2-135m", as_json: Json = False) -> None:
    """Fetch the base model, or make the smaller one of it.

    Example: cascade models prepare smollm2-135m-small
    """
    with stdout_kept():
        store = _store()
        path = store.prepare(name, lambda step: print(step, file=sys.stderr, flush=True))
        row = _row(store, path.stem)
    _print([row], as_json, f"{row['name']} is ready: {path}", one=True)


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models: the base, smaller and trained ones.

    Example: cascade models list
    """
    with stdout_kept():
        store = _store()
        rows = [_row(store, name) for name in store.names()]
    lines = [f"{row['name']}  {row['size_mb']} MB  {row['origin']}  {row['created']}" for row in rows]
    _print(rows, as_json, "\n".join(lines) or f"No models in {store.folder}. Run `cascade models prepare`.")


@models.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Delete an embedded model from this machine.

    Example: cascade models remove smollm2-135m-0123456789ab
    """
    with stdout_kept():
        store = _store()
        row = _row(store, name)
        store.remove(name)
    _print([row], as_json, f"Removed {row['name']}.", one=True)


def _store() -> "Models":
    from cascade.lm.embedded.models import Models
    from cascade.settings import load_settings

    return Models(load_settings().home)


def _row(store: "Models", name: str) -> dict[str, Any]:
    path, facts = store.path(name), store.facts(name)
    return {
        "name": path.stem,
        "model": f"embedded/{path.stem}",
        "path": str(path),
        "size_mb": round(path.stat().st_size / 1e6),
        "sha256": facts.get("sha256", ""),
        "origin": facts.get("source") or f"trained from {str(facts.get('base', ''))[:12]}",
        "created": facts.get("created", ""),
    }


def _print(rows: list[dict[str, Any]], as_json: bool, text: str, *, one: bool = False) -> None:
    if as_json:
        print_json(rows[0] if one else rows)
    else:
        print(text)
