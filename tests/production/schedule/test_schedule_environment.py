"""Names of variables, and the time zone, wherever they stand."""

import os
from datetime import date

import pytest

from cascade.errors import SettingsError
from cascade.production.schedule import At, environment


def test_names_of_a_file(tmp_path):
    file = tmp_path / "env"
    file.write_text("# OLD=1\nOPENAI_API_KEY=sk-1\n  export CASCADE_LM='a=b'\nnot a line\nOPENAI_API_KEY=2\nx=\n")
    file.chmod(0o600)
    assert environment.assigned(file) == ["OPENAI_API_KEY", "CASCADE_LM", "x"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o700])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    file = tmp_path / "env"
    file.write_text("KEY=secret-of-mine")
    file.chmod(mode)
    with pytest.raises(
        SettingsError, match=rf"has mode {mode:03o} and belongs to user {os.getuid()}.*Run chmod 600"
    ) as raised:
        environment.assigned(file)
    assert "secret-of-mine" not in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot be read \(No such file or directory\)\. Write NAME=value lines"):
        environment.assigned(tmp_path / "env")


def test_what_is_set_here():
    environ = {"CASCADE_LM": "a/b", "MLFLOW_TRACKING_URI": "x", "GROQ_API_KEY": "k", "HOME": "/", "CASCADE_HOME": ""}
    assert environment.set_here(environ) == ["CASCADE_LM", "GROQ_API_KEY", "MLFLOW_TRACKING_URI"]


@pytest.mark.parametrize(
    ("variable", "link", "text", "zone"),
    [
        ("", "/usr/share/zoneinfo/Europe/Berlin", "America/Lima", "Europe/Berlin"),
        ("Asia/Tokyo", "/usr/share/zoneinfo/Europe/Berlin", "", "Asia/Tokyo"),
        (":Asia/Tokyo", "", "", "Asia/Tokyo"),
        ("CET-1CEST", "/usr/share/zoneinfo/Europe/Berlin", "", "Europe/Berlin"),
        ("", "", "Europe/Berlin\n", "Europe/Berlin"),
        ("", "/usr/share/zoneinfo/no/where", "../etc", "Etc/UTC"),
        ("", "", "", "Etc/UTC"),
    ],
)
def test_a_zone(tmp_path, variable, link, text, zone):
    if link:
        (tmp_path / "localtime").symlink_to(link)
    if text:
        (tmp_path / "timezone").write_text(text)
    assert environment.zone_here({"TZ": variable}, tmp_path) == zone


@pytest.mark.parametrize(
    ("at", "zone", "day"),
    [
        (At(2, 0), "Europe/Berlin", date(2027, 3, 28)),
        (At(2, 59), "Europe/Berlin", date(2027, 3, 28)),
        (At(1, 59), "Europe/Berlin", None),
        (At(3, 0), "Europe/Berlin", None),
        (At(2, 30), "America/New_York", date(2027, 3, 14)),
        (At(2, 0), "Etc/UTC", None),
    ],
)
def test_a_time_that_a_day_does_not_have(at, zone, day):
    assert environment.skipped(at, zone, date(2026, 11, 27)) == day
