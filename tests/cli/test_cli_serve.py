"""`cascade serve` where it does not come to serve; that it does is shown in tests/production."""

import socket

import pytest
from conftest import Project

from cascade.errors import SettingsError
from cascade.settings import load_settings

pytestmark = pytest.mark.usefixtures("store")


def test_nothing_serves(project: Project) -> None:
    done = project.cascade("serve", "letters", "--port", "0")
    assert (done.code, done.out) == (3, "")
    assert "Nothing serves for 'letters'" in done.err and "cascade promote letters" in done.err


def test_a_taken_port_is_one_line(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = project.cascade("serve", "letters", "--port", str(port))
    assert (done.code, done.out) == (1, "")
    assert f"Nothing can listen at 127.0.0.1:{port}" in done.err and done.err.count("\n") == 1


def test_a_token_that_can_be_guessed_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_TOKEN", "secret")
    done = project.cascade("serve", "letters")
    assert done.code == 2 and "The token in CASCADE_TOKEN has 6 characters" in done.err
    missing = project.cascade("serve", "letters", "--token-file", "nothing")
    assert missing.code == 2 and "cannot be read from nothing" in missing.err


def test_the_store_is_down(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = project.cascade("serve", "letters", "--port", "0")
    assert done.code == 1 and "no server answers there" in done.err


def test_the_token_is_no_setting_but_known(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_TOKEN", "a-token-0123456789abcdef")
    assert "a-token" not in repr(load_settings())
    monkeypatch.setenv("CASCADE_TOKENS", "x")
    with pytest.raises(SettingsError, match="CASCADE_TOKENS is no setting"):
        load_settings()
