"""One contract for every architecture."""

from collections.abc import Callable

import pytest
from program_cases import CASES

from cascade.testing import PROGRAM_CONTRACT, ProgramCase


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kept", PROGRAM_CONTRACT, ids=lambda kept: kept.__name__)
def test_a_program_keeps_the_contract(name: str, kept: Callable[[ProgramCase], None]) -> None:
    kept(CASES[name])
