import json
import shutil

import pytest
from machine import Machine

MINE = b"5 4 * * * mine\n"


@pytest.fixture
def machine(project, tmp_path_factory, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("TZ", raising=False)
    made = Machine(tmp_path_factory.mktemp("machine") / "m", monkeypatch)
    made.store.write_bytes(MINE)
    return made


def line_of(project) -> str:
    (script,) = (project.folder / ".cascade" / "schedule").glob("*.sh")
    digest = script.stem.removeprefix("letters-")
    return f"/bin/sh {script} # cascade schedule: letters in {project.folder} ({digest})"


def test_scheduled_listed_and_removed(project, machine):
    done = project.cascade("schedule", "letters", "--at", "3:05")
    line = line_of(project)
    assert done.code == 0
    assert machine.crontab == MINE + f"5 3 * * * {line}\n".encode()
    assert done.out.startswith("letters: every night at 03:05 (")
    assert "started by cron. Log: " in done.out
    # Shown before it is there, with what may go wrong.
    assert f"--- crontab\n5 3 * * * {line}\n" in done.err
    assert "cron does not make up for a night in which this machine was off or asleep" in done.err
    assert project.cascade("schedule", "--list").out == f"letters  03:05  cron  5 3 * * * {line}\n"
    assert json.loads(project.cascade("schedule", "--list", "--json").out) == [
        {"experiment": "letters", "at": "03:05", "kind": "cron", "place": f"5 3 * * * {line}"}
    ]
    assert project.cascade("schedule", "letters", "--remove").out.startswith("letters: not started by cron any more.")
    assert machine.crontab == MINE
    again = project.cascade("schedule", "letters", "--remove")
    assert (again.code, again.out) == (0, f"letters: nothing on this machine starts it for {project.folder}.\n")
    assert (
        project.cascade("schedule", "--list").out == f"Nothing on this machine starts a night for {project.folder}.\n"
    )
    assert project.cascade("schedule", "--list", "--json").out == "[]\n"


def test_a_timer_where_there_is_a_manager(project, machine):
    machine.manager("running")
    done = project.cascade("schedule", "letters", "--promote")
    assert done.code == 0
    assert "started by systemd" in done.out
    assert len(machine.units) == 2
    assert machine.crontab == MINE
    assert "Your timers run only while you are logged in." in done.err
    machine.lingers(True)
    assert "logged in" not in project.cascade("schedule", "letters").err


def test_a_dry_run_changes_nothing(project, machine):
    before = sorted(project.folder.rglob("*"))
    done = project.cascade("schedule", "letters", "--dry-run", "--promote")
    assert done.code == 0
    assert "--- crontab\n0 2 * * * /bin/sh " in done.out
    assert "cascade nightly --promote letters" in done.out
    shown = json.loads(project.cascade("schedule", "letters", "--dry-run", "--json").out)
    assert (shown["installed"], shown["kind"], shown["at"]) == (False, "cron", "02:00")
    assert set(shown["contents"]) == {shown["log"].replace(".log", ".sh"), "crontab"}
    assert sorted(project.folder.rglob("*")) == before
    assert machine.crontab == MINE


def test_keys_are_named_and_never_written(project, machine, monkeypatch):
    monkeypatch.setenv("CASCADE_LM", "openai/gpt-5-mini")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789-of-mine")
    missing = project.cascade("schedule", "letters")
    assert "it will not have OPENAI_API_KEY, CASCADE_LM. Write what it needs into a file" in missing.err
    env_file = project.folder / "my.env"
    env_file.write_text("OPENAI_API_KEY=sk-0123456789-of-mine\nCASCADE_LM=openai/gpt-5-mini\n")
    loose = project.cascade("schedule", "letters", "--env-file", "my.env")
    assert loose.code == 2
    assert "Run chmod 600" in loose.err
    env_file.chmod(0o600)
    done = project.cascade("schedule", "letters", "--env-file", "my.env")
    assert done.code == 0
    assert "it will not have" not in done.err
    (script,) = (project.folder / ".cascade" / "schedule").glob("*.sh")
    assert f"env_file={env_file}" in script.read_text()
    printed = [
        project.cascade("schedule", "letters", "--env-file", "my.env", "--as", kind).out
        for kind in ("github", "gate", "kubernetes")
    ]
    assert all("OPENAI_API_KEY" in text and "CASCADE_LM" in text for text in printed)
    assert "sk-0123456789" not in "".join([*printed, script.read_text(), done.err, str(machine.crontab)])


def test_files_for_other_machines(project, machine, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    path = project.folder / ".github" / "workflows" / "nightly-letters.yml"
    for _ in range(2):
        done = project.cascade("schedule", "letters", "--as", "github", "--to", str(path))
        assert (done.code, done.out) == (0, f"Wrote {path}. It needs the secrets MLFLOW_TRACKING_URI.\n")
    assert path.read_text() == project.cascade("schedule", "letters", "--as", "github").out
    assert 'timezone: "Asia/Tokyo"' in path.read_text()
    shown = json.loads(project.cascade("schedule", "letters", "--as", "kubernetes", "--json").out)
    assert (shown["zone"], shown["secrets"], shown["file"]) == ("Asia/Tokyo", ["MLFLOW_TRACKING_URI"], "")
    assert "kind: CronJob" in shown["text"]
    assert machine.crontab == MINE


BAD = {
    "no name": ((), "Which experiment? Say cascade schedule NAME"),
    "unknown experiment": (("leters",), "Did you mean 'letters'?"),
    "no time": (("letters", "--at", "25:00"), "--at '25:00' is no time of day."),
    "a file of one's own": (("letters", "--as", "github", "--to", "experiments/letters.py"), "was not made by"),
    "a place that is none": (("letters", "--as", "github", "--to", "experiments/letters.py/x"), "cannot be written"),
    "a file for cron": (("letters", "--as", "cron", "--to", "x"), "goes with --as github, gate or kubernetes"),
    "no env file": (("letters", "--env-file", "nowhere.env"), "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line(project, machine, case):
    words, said = BAD[case]
    done = project.cascade("schedule", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err.splitlines()[-1]
    assert machine.crontab == MINE


def test_a_machine_without_either(project, machine):
    machine.lacks("crontab")
    done = project.cascade("schedule", "letters")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("cascade: Neither a user manager of systemd nor `crontab` is here to start a night.")
    assert len(done.err.splitlines()) == 1
    done = project.cascade("schedule", "letters", "--as", "cron")
    assert done.err.splitlines()[-1].startswith("cascade: 'crontab' is not here. Install cron (apt-get install cron)")


def test_a_removed_experiment_can_be_taken_off(project, machine):
    project.cascade("schedule", "letters")
    shutil.rmtree(project.folder / "datasets")
    (project.folder / "experiments" / "letters.py").unlink()
    assert project.cascade("schedule", "letters", "--remove").code == 0
    assert machine.crontab == MINE
