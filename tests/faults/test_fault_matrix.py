"""Each fault is really injected, and what comes of it is what docs/faults.md says, word by word."""

from pathlib import Path

import fault_matrix
import pytest


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.__name__, marks=() if case in fault_matrix.QUICK else pytest.mark.slow)
        for case in fault_matrix.CASES
    ],
)
def test_a_fault_is_what_the_page_says(case: fault_matrix.Case, tmp_path: Path, empty_store: Path) -> None:
    assert fault_matrix.row(case, tmp_path / "project", empty_store) == fault_matrix.shown()[fault_matrix.name(case)]


def test_the_page_shows_every_fault_once() -> None:
    assert list(fault_matrix.shown()) == [fault_matrix.name(case) for case in fault_matrix.CASES]
