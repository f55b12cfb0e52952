"""What is put on a machine, and taken off it."""

from dataclasses import replace

import pytest
from machine import Machine

from cascade.errors import CascadeError
from cascade.production.schedule import At, Kind, Schedule, contents, found, install, kind_here, remove
from cascade.production.schedule.installing import cron_runs

MINE = b"# mine\nSHELL=/bin/bash\n5 4 * * * run \xff 'it' \\% # daily\n\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path / "machine", monkeypatch)


@pytest.fixture
def qa(tmp_path):
    project = tmp_path / "help desk"
    return Schedule("qa", project, project / ".cascade", project / ".venv" / "bin" / "python", At(2, 0))


def test_the_kind_is_a_timer_where_systemd_answers(machine):
    assert kind_here() == Kind.CRON
    for state in ("running", "degraded"):
        machine.manager(state)
        assert kind_here() == Kind.SYSTEMD
    machine.manager("offline")
    machine.lacks("systemctl")
    assert kind_here() == Kind.CRON
    machine.lacks("crontab")
    with pytest.raises(CascadeError, match=r"Neither .* Install cron \(apt-get install cron\), or print a file"):
        kind_here()


@pytest.mark.parametrize("mine", [None, b"", MINE])
def test_cron_there_and_back(machine, qa, mine):
    if mine is not None:
        machine.store.write_bytes(mine)
    install(qa, Kind.CRON)
    line = contents(qa, Kind.CRON)["crontab"]
    assert machine.crontab == (mine or b"") + line.encode()
    assert qa.script.read_text() == contents(qa, Kind.CRON)[str(qa.script)]
    assert qa.script.stat().st_mode & 0o777 == 0o700
    assert [(one.name, one.at, one.kind, one.place + "\n") for one in found(qa.project)] == [
        ("qa", At(2, 0), Kind.CRON, line)
    ]
    assert remove(qa) == [Kind.CRON]
    assert machine.crontab == (mine or None)
    assert not qa.script.exists()
    assert found(qa.project) == []
    assert remove(qa) == []


def test_scheduled_twice_it_is_there_once(machine, qa):
    machine.store.write_bytes(MINE)
    install(qa, Kind.CRON)
    install(replace(qa, at=At(3, 30), promote=True), Kind.CRON)
    assert machine.crontab is not None
    assert machine.crontab.startswith(MINE)
    assert [str(one.at) for one in found(qa.project)] == ["03:30"]
    assert "nightly --promote qa" in qa.script.read_text()


def test_two_projects_do_not_meet(machine, qa, tmp_path):
    project = tmp_path / "help desk 2"
    other = replace(qa, project=project, home=qa.home)
    for one in (qa, other, replace(qa, name="orders")):
        install(one, Kind.CRON)
    assert [one.name for one in found(qa.project)] == ["orders", "qa"]
    assert [one.name for one in found(project)] == ["qa"]
    remove(qa)
    assert [one.name for one in found(qa.project)] == ["orders"]
    assert [one.name for one in found(project)] == ["qa"]
    assert other.script.exists()


def test_a_timer_there_and_back(machine, qa):
    machine.manager("running")
    install(qa, Kind.SYSTEMD)
    timer, service = f"cascade-{qa.stem}.timer", f"cascade-{qa.stem}.service"
    shown = {place.rpartition("/")[2]: text for place, text in contents(qa, Kind.SYSTEMD).items()}
    assert machine.units == {name: shown[name] for name in (service, timer)}
    assert machine.systemctl_calls == [
        f"--user {call}" for call in ("daemon-reload", f"enable {timer}", f"restart {timer}")
    ]
    assert [(one.name, one.at, one.kind) for one in found(qa.project)] == [("qa", At(2, 0), Kind.SYSTEMD)]
    assert found(qa.project.parent) == []
    assert remove(qa) == [Kind.SYSTEMD]
    assert machine.units == {}
    assert machine.systemctl_calls[3:] == [
        f"--user {call}" for call in (f"disable --now {timer}", f"clean --what=state {timer}", "daemon-reload")
    ]


def test_one_thing_starts_it(machine, qa):
    machine.manager("running")
    machine.store.write_bytes(MINE)
    for kind in (Kind.CRON, Kind.SYSTEMD, Kind.CRON):
        install(qa, kind)
        assert [one.kind for one in found(qa.project)] == [kind]
    machine.store.write_bytes(MINE)
    install(qa, Kind.SYSTEMD)
    assert machine.crontab == MINE


def test_a_crontab_that_cannot_be_read_is_not_written(machine, qa):
    (machine.bin / "crontab").write_text("#!/bin/sh\necho 'you may not use this' >&2; exit 1\n")
    for act in (lambda: install(qa, Kind.CRON), lambda: remove(qa), lambda: found(qa.project)):
        with pytest.raises(CascadeError, match=r"`crontab -l` failed: you may not use this\. Nothing was changed\."):
            act()
    assert not qa.script.exists()


def test_a_crontab_that_is_not_taken(machine, qa):
    machine.refuses()
    with pytest.raises(CascadeError, match=r"`crontab -` did not take the new crontab: bad minute\."):
        install(qa, Kind.CRON)


def test_a_manager_that_does_not_answer_leaves_no_unit(machine, qa):
    with pytest.raises(
        CascadeError, match=r"`systemctl --user daemon-reload` failed: Failed to connect to bus\..*--as cron\."
    ):
        install(qa, Kind.SYSTEMD)
    assert machine.units == {}


def test_without_crontab(machine, qa):
    machine.lacks("crontab")
    with pytest.raises(CascadeError, match=r"'crontab' is not here\. Install cron \(apt-get install cron\)"):
        install(qa, Kind.CRON)
    assert found(qa.project) == []


def test_without_flock(machine, qa):
    machine.lacks("flock")
    with pytest.raises(CascadeError, match="Install util-linux"):
        install(qa, Kind.CRON)
    assert machine.crontab is None


def test_a_daemon_is_looked_for_among_processes(tmp_path):
    for number, name in [("1", "init"), ("20", "cronolog")]:
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_text(f"{name}\n")
    assert not cron_runs(tmp_path)
    (tmp_path / "20" / "comm").write_text("cron\n")
    assert cron_runs(tmp_path)


def test_a_folder_that_cannot_be_written(machine, qa, tmp_path):
    qa.project.mkdir()
    (qa.project / ".cascade").write_text("a file")
    with pytest.raises(CascadeError, match=r"qa-\w+\.sh cannot be written \(.*\)\. Make room"):
        install(qa, Kind.CRON)
    assert machine.crontab is None
