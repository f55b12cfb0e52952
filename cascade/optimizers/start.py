"""A program that exists, as a stage of a cascade: it searches nothing and is judged like any other.

Invariant: what it returns is the program that it was given, and the student is not looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.experiment import NO_LEVER
from cascade.optimizers.work import Given, Work
from cascade.program import snapshot, thawed


@dataclass(frozen=True, eq=False)
class Brought:
    """A program with the LMs of its predictors, and where it comes from.

    Args:
        where: as it can be given again to begin from it.
        origin: what is shown, such as `models:/qa@champion, version 3`.
    """

    module: Any
    where: str
    origin: str

    def __str__(self) -> str:
        return f"{self.origin} ({snapshot(self.module).digest})"


class Start:
    """The optimizer of the stage `start`, which `cascade.warm` puts before the others.

    Args:
        program: what the stage returns.
    """

    lever = NO_LEVER

    def __init__(self, program: Brought) -> None:
        self.program = program

    def compile(self, student: Any) -> Any:  # noqa: ARG002 - every optimizer is given one
        """A copy of the program, which shares its LMs."""
        return thawed(self.program.module)

    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> Work | str:
        """It asks nobody; but judging a vote takes what its members take together."""
        members = len(options["program"].module.predictors()) / max(given.predictors, 1)
        return Work() if members <= 1 else f"Start's program asks {members:g} times as much as the experiment's own"
