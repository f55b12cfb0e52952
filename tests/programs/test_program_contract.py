"""One contract for every architecture."""

from collections.abc import Callable

import dspy
import pytest
from program_cases import CASES

import cascade.programs
from cascade.programs import Flow
from cascade.testing import PROGRAM_CONTRACT, ProgramCase

LONG = "a_search_keeps_it_whole"
QUICK = ("Pipeline", "Loop", "Router, rejoined")
"""A search takes a second and touches every program alike; of these it is looked at each time."""

KEPT = [
    pytest.param(kept, name, id=f"{kept.__name__}-{name}",
                 marks=[pytest.mark.slow] * (kept.__name__ == LONG and name not in QUICK))
    for kept in PROGRAM_CONTRACT
    for name in CASES
]  # fmt: skip


@pytest.mark.parametrize(("kept", "name"), KEPT)
def test_a_program_keeps_the_contract(kept: Callable[[ProgramCase], None], name: str) -> None:
    kept(CASES[name])


def test_every_architecture_has_a_case() -> None:
    """Whoever adds one is told to add it here."""
    public = [getattr(cascade.programs, name) for name in cascade.programs.__all__]
    modules = {one for one in public if isinstance(one, type) and issubclass(one, dspy.Module)} - {Flow}
    looked_at = {type(part) for case in CASES.values() for _, part in case.make().named_sub_modules()}
    assert sorted(one.__name__ for one in modules - looked_at) == []
