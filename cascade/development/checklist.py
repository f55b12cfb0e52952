"""The seven steps of evaluation-driven development, and which of them are done.

Invariant: `checklist` is a pure function of facts, and a fact is read from what is there: files, journals, figures.
Nothing notes that a step was done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.comparison import MIN_UNITS

ENOUGH = 50
"""Rows of dev below which it is said that more would show more."""


@dataclass(frozen=True)
class Facts:
    """What is there.

    Args:
        broken: why the experiment's file cannot be read, or "".
        metric: its name, and whether it is written.
        units: by split, groups or rows without groups; empty where the dataset cannot be read, because of `no_data`.
        grouped: the units are groups.
        no_program: why the program cannot be built, or "".
        errors: what `check` refuses, in words.
        baseline: dev score of the unoptimized program on today's rows and metric.
        best: dev score of the best of the newest run that optimized, on the same.
        programs: names of the factories in the file.
        compared: what the newest comparison of two programs on today's rows says.
    """

    name: str
    broken: str = ""
    metric: tuple[str, bool] = ("", False)
    units: Mapping[str, int] = field(default_factory=dict)
    grouped: bool = False
    no_data: str = ""
    no_program: str = ""
    errors: Sequence[str] = ()
    baseline: float | None = None
    best: float | None = None
    programs: Sequence[str] = ()
    compared: str = ""


@dataclass(frozen=True)
class Item:
    """A step.

    Args:
        state: `done`, `next` for the first that is not, else `open`.
        says: what was found.
        todo: what to do next for it: a command, or what to write.
    """

    number: int
    title: str
    state: Literal["done", "next", "open"]
    says: str
    todo: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def checklist(facts: Facts) -> list[Item]:
    """The steps in their order."""
    steps = (_metric, _data, _program, _baseline, _optimized, _designs, _compared)
    found = [step(facts) for step in steps]
    if facts.broken:
        found = [found[0], *((title, False, "not looked at", todo) for title, _, _, todo in found[1:])]
    first = next((number for number, (_, done, *_) in enumerate(found, 1) if not done), 0)
    return [
        Item(number, title, "done" if done else "next" if number == first else "open", says, "" if done else todo)
        for number, (title, done, says, todo) in enumerate(found, 1)
    ]


Found = tuple[str, bool, str, str]


def _metric(facts: Facts) -> Found:
    name, written = facts.metric
    file = f"experiments/{facts.name}.py"
    says = facts.broken or (f"{name} in {file}" if written else f"{name} in {file} is not written yet")
    return "metric", written, says, f"Mend {file}." if facts.broken else f"Write {name} in {file}."


def _data(facts: Facts) -> Found:
    if not facts.units:
        return "data", False, facts.no_data, f"Fill datasets/{facts.name}/, or: cascade new {facts.name} --from ROWS"
    few = f"; {ENOUGH} to 100 of dev would show more" if facts.units.get("dev", 0) < ENOUGH else ""
    counts = ", ".join(f"{name} {count}" for name, count in facts.units.items())
    enough = all(facts.units.get(split, 0) >= MIN_UNITS for split in ("dev", "test"))
    what = "groups" if facts.grouped else "rows"
    return "data", enough, f"{what}: {counts}{few}", f"Add {what}: dev and test need {MIN_UNITS} each."


def _program(facts: Facts) -> Found:
    problem = facts.no_program or next(iter(facts.errors), "")
    ready = bool(facts.units) and facts.metric[1] and not problem
    says = problem or ("it builds, and check finds no error" if ready else "check waits for metric and data")
    return "simplest program", ready, says, f"cascade check {facts.name}"


def _baseline(facts: Facts) -> Found:
    done = facts.baseline is not None
    says = f"{facts.baseline:.1%} on dev" if facts.baseline is not None else "not evaluated on today's rows and metric"
    return "evaluate it", done, says, f"cascade run {facts.name}"


def _optimized(facts: Facts) -> Found:
    done = facts.best is not None
    says = f"best {facts.best:.1%} on dev, selected there" if facts.best is not None else "no optimizer has run on them"
    return "optimize", done, says, f"cascade run {facts.name}"


def _designs(facts: Facts) -> Found:
    says = f"programs in the file: {', '.join(facts.programs) or 'none'}"
    todo = f"Write another program beside {facts.programs[0]}." if facts.programs else "Write another program."
    return "another design", len(facts.programs) > 1, says, todo


def _compared(facts: Facts) -> Found:
    two = [*facts.programs[:2], *["OTHER"] * (2 - len(facts.programs[:2]))]
    todo = f"cascade compare {facts.name} " + " ".join(f"--program {name}" for name in two)
    return "compare", bool(facts.compared), facts.compared or "no two programs were compared on today's rows", todo
