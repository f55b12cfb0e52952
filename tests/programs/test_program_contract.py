"""One contract for every architecture."""

from collections.abc import Callable

import pytest
from program_cases import CASES

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
