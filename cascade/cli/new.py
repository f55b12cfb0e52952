"""`cascade new`: an experiment that begins, and how far one is.

Invariant: what is there is looked at and never overwritten.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from cascade.cli.parts import Json, parts_of, print_json, stdout_kept
from cascade.errors import DefinitionError

if TYPE_CHECKING:
    from cascade.development.checklist import Item

INPUTS, OUTPUTS, PLAIN = "question", "answer", "plain"
Name = Annotated[str, typer.Argument(metavar="NAME", help="An experiment: experiments/NAME.py and datasets/NAME/.")]
Inputs = Annotated[str, typer.Option("--inputs", metavar="FIELDS", help="Input fields, with commas between them.")]
Outputs = Annotated[str, typer.Option("--outputs", metavar="FIELDS", help="What is to be answered.")]
KindOf = Annotated[
    str, typer.Option("--kind", help="A design to compare the plain program with; cascade advise helps.")
]
From = Annotated[
    str, typer.Option("--from", metavar="ROWS", help="Rows (.csv, .jsonl, .parquet, …) to divide into splits.")
]
Group = Annotated[str, typer.Option("--group", metavar="FIELD", help="Rows that belong together stay in one split.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the division; default: that of the settings.")]


def new(  # noqa: PLR0913, PLR0917 - one an option
    context: typer.Context,
    name: Name,
    inputs: Inputs = INPUTS,
    outputs: Outputs = OUTPUTS,
    kind: KindOf = PLAIN,
    source: From = "",
    group: Group = "",
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Begin an experiment: metric, then data, then the simplest program; again, say how far it is.

    Example: cascade new tickets --from tickets.csv --inputs text --outputs team --group customer
    """
    from cascade.development.checklist import checklist
    from cascade.development.looking import facts
    from cascade.development.scaffold import Wish, plan
    from cascade.development.writing import as_described, write
    from cascade.settings import load_settings

    with stdout_kept():
        settings, parts = load_settings(), parts_of(context)
        made: list[str] = []
        told: list[str] = []
        begun = (settings.project / "experiments" / f"{name}.py").exists()
        given = (inputs, outputs, kind, group, seed) != (INPUTS, OUTPUTS, PLAIN, "", None)
        if begun and not source and given:
            raise DefinitionError(
                f"experiments/{name}.py is there already, and nothing is overwritten. `cascade new {name}` says how "
                "far it is; --from fills its dataset."
            )
        if source or not begun:
            number = settings.seed if seed is None else seed
            wish = Wish(name, _fields(inputs), _fields(outputs), kind, group or None, source, number)
            wish = as_described(wish, settings.project)
            planned = plan(wish, settings.project)
            made, told = write(planned, wish, settings), list(planned.told)
        items = checklist(facts(name, settings, parts.lms(settings) if parts.lms else None))
    if as_json:
        print_json({"experiment": name, "written": made, "told": told, "steps": [item.to_json() for item in items]})
        return
    for path in made:
        print(f"Written: {path}")
    for sentence in told:
        print(sentence)
    _print(name, items)


def _fields(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print(name: str, items: "list[Item]") -> None:
    print(f"\n{name}, step by step:")
    width = max(len(item.title) for item in items)
    marks = {"done": "x", "next": ">", "open": " "}
    for item in items:
        print(f"  [{marks[item.state]}] {item.number} {item.title:<{width}}  {item.says}")
    following = next((item for item in items if item.state == "next"), None)
    print(f"\nNext: {following.todo if following else f'cascade promote {name}'}")
