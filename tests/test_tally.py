"""What a killed run had spent."""

from pathlib import Path

import pytest

from cascade.spending import Spent
from cascade.tally import Tally


def test_what_was_noted_last_is_left_by_a_process_that_never_closed_it(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "spent.json")
    assert tally.left() == ("", Spent(), {})
    tally.stage = "a stage with a longer name"
    tally.note(Spent(100, 3, 1000, 100, 0.123456789, 12.5), {"task": Spent(100)})
    tally.stage = "1-x"
    by_lm = {"task": Spent(100), "a cloud": Spent(1, 0, 1, 1, None)}
    tally.note(Spent(101, 3, 1001, 101, None, 12.5, 7, None), by_lm)
    assert Tally(tmp_path / "spent.json").left() == ("1-x", Spent(101, 3, 1001, 101, None, 12.5, 7, None), by_lm)


def test_it_is_gone_when_the_run_is_over(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "spent.json")
    tally.remove()
    tally.note(Spent(1), {})
    tally.close()
    assert tally.left()[1] == Spent(1)
    tally.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 512, b"[]", b'{"stage": "x"}', b'{"stage": "x", "spent": {"a": 1}}']
)
def test_what_is_damaged_is_not_there(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spent.json").write_bytes(content)
    assert Tally(tmp_path / "spent.json").left() == ("", Spent(), {})


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "no" / "folder" / "spent.json")
    tally.note(Spent(1), {})
    assert tally.left() == ("", Spent(), {})
    assert list(tmp_path.iterdir()) == []
