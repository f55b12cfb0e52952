"""Killed with SIGKILL at drawn moments, a cascade goes on in the same run, repeats no recorded answer, ends the same."""

from pathlib import Path

import kill_points
import pytest


def survey(count: int, folder: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, found = kill_points.survey(count, folder, store)
    with capsys.disabled():
        print(f"\n{kill_points.table(whole, found)}")
    calls = sum(whole.questions.values())
    assert len(found) == count
    assert [point.differences for point in found] == [[]] * count
    assert sum(point.repeated for point in found) == 0
    assert all(point.lost <= kill_points.THREADS for point in found)
    assert all(point.said_so for point in found)
    assert all(point.asked == calls + point.lost for point in found)
    # Answers that were recorded but not counted yet when it died are the only ones that no budget sees.
    assert all(calls - kill_points.THREADS <= point.billed <= point.asked for point in found)
    assert whole.outcome["mlflow"]["parents"] == [("FINISHED", "completed")]
    assert whole.outcome["mlflow"]["nested"] == [(stage, "FINISHED") for stage in kill_points.STAGES]


def test_three_kills_of_a_scripted_cascade(
    tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey(3, tmp_path, empty_store, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_of_a_scripted_cascade(
    tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    survey(20, tmp_path, empty_store, capsys)
