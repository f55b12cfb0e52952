"""`cascade advise`: five questions, and the designs that fit the answers.

Invariant: nothing is read and nothing is written; the same answers give the same advice.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cascade.cli.parts import Json, print_json
from cascade.errors import DefinitionError

if TYPE_CHECKING:
    from cascade.development.advice import Advice

MOST = 3
"""Designs that are shown, of those for which something speaks."""
Predictable = Annotated[
    Literal["yes", "partly", "no"] | None,
    typer.Option("--predictable", help="Are the steps known before an input is seen?"),
]
Latency = Annotated[
    Literal["tight", "normal", "loose"] | None, typer.Option("--latency", help="How long may an answer take?")
]
Private = Annotated[
    Literal["yes", "no"] | None, typer.Option("--private", help="Do inputs hold what must not leave your machines?")
]
Data = Annotated[
    Literal["none", "some", "many"] | None,
    typer.Option("--data", help="Examples with answers: below 60, up to 300, or more."),
]
Complexity = Annotated[
    Literal["low", "medium", "high"] | None,
    typer.Option("--complexity", help="How much may it take to understand and run?"),
]


def advise(
    predictable: Predictable = None,
    latency: Latency = None,
    private: Private = None,
    data: Data = None,
    complexity: Complexity = None,
    as_json: Json = False,
) -> None:
    """Say which design a task asks for, why, and how to begin it.

    Example: cascade advise --predictable yes --latency normal --private no --data some --complexity low
    """
    from cascade.development.advice import QUESTIONS
    from cascade.development.advice import advise as advised

    given = dict(predictable=predictable, latency=latency, private=private, data=data, complexity=complexity)
    answers: dict[str, str] = {name: value for name, value in given.items() if value}
    missing = [name for name in QUESTIONS if name not in answers]
    if missing and (as_json or not sys.stdin.isatty()):
        flags = ", ".join(f"--{name} {'|'.join(QUESTIONS[name].answers)}" for name in missing)
        raise DefinitionError(f"Nobody is here to be asked. Give {flags}.")
    answers |= {name: _asked(name) for name in missing}
    ranked = advised(answers)
    if as_json:
        print_json({"answers": answers, "advice": [one.to_json() for one in ranked]})
    else:
        _print(ranked)


def _asked(name: str) -> str:
    from cascade.development.advice import QUESTIONS

    question = QUESTIONS[name]
    meant = ", ".join(f"{answer} ({means})" for answer, means in question.answers.items())
    print(f"{question.asks} {meant}", file=sys.stderr)
    while True:
        print(f"{name}: ", end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()):
            raise DefinitionError(f"Nobody answered. Give --{name} {'|'.join(question.answers)}.")
        said = line.strip().lower()
        if found := [answer for answer in question.answers if said and answer.startswith(said)]:
            return found[0]
        print(f"{said!r} is none of {', '.join(question.answers)}.", file=sys.stderr)


def _print(ranked: "list[Advice]") -> None:
    from cascade.development.kinds import KINDS

    for place, one in enumerate([one for one in ranked if one.score > 0][:MOST], 1):
        print(f"{place}. {one.kind}: {KINDS[one.kind].what}")
        for reason in one.reasons:
            print(f"   - {reason}")
        print(f"   {one.command}")
    print(
        "\nWhatever it is: metric first, then data, then the plain program, which `cascade new` writes beside it. "
        "Optimizers come on top, once `cascade check` finds no error."
    )
