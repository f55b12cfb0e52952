"""The texts, compared with files in `golden`, and with the schemas of who reads them."""

import doctest
import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from machine import FILE_NAMES

from cascade.cli import main
from cascade.errors import SettingsError
from cascade.production.schedule import At, Kind, Schedule, crontab, entry, environment, quoting, rendering

HERE = Path(__file__).parent
PROJECT = Path("/home/me/help desk")
QA = Schedule("qa", PROJECT, PROJECT / ".cascade", Path("/home/me/help desk/.venv/bin/python"), At(2, 5))
FULL = Schedule("qa", PROJECT, PROJECT / ".cascade", QA.python, At(2, 5), True, Path("/home/me/.config/cascade.env"))
SECRETS = ["MLFLOW_TRACKING_URI", "OPENAI_API_KEY"]
PRINTED = {
    Kind.GITHUB: "nightly.yml",
    Kind.GATE: "gate.yml",
    Kind.KUBERNETES: "cronjob.yaml",
}


def printed(schedule: Schedule, kind: Kind, *, embedded: bool = True) -> str:
    return rendering.printed(
        schedule, kind, zone="Europe/Berlin", secrets=SECRETS, embedded=embedded, python_version="3.12"
    )


TEXTS = {
    "night.sh": lambda: rendering.script(QA, "/usr/bin/flock"),
    "night-full.sh": lambda: rendering.script(FULL, "/usr/bin/flock"),
    "crontab": lambda: crontab.line(QA) + "\n",
    "night.service": lambda: rendering.service(QA),
    "night.timer": lambda: rendering.timer(QA),
    **{name: lambda kind=kind: printed(FULL, kind) for kind, name in PRINTED.items()},
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text(name, request):
    golden, text = HERE / "golden" / name, TEXTS[name]()
    if request.config.getoption("--update-golden"):
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


def schema(name: str) -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads((HERE / "schemas" / name).read_text("utf-8")))


GITHUB, KUBERNETES = schema("github-workflow.json"), schema("kubernetes.json")


def workflow(schedule: Schedule, kind: Kind) -> dict:
    # YAML 1.1, which PyYAML reads, takes `on` for true; GitHub does not.
    document = yaml.safe_load(printed(schedule, kind))
    document["on"] = document.pop(True)
    GITHUB.validate(document)
    return document


def cronjob(schedule: Schedule, *, embedded: bool = True) -> dict:
    claim, job = yaml.safe_load_all(printed(schedule, Kind.KUBERNETES, embedded=embedded))
    KUBERNETES.validate(claim)
    KUBERNETES.validate(job)
    assert claim["metadata"]["name"] == job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]  # fmt: skip
    return job


@pytest.mark.parametrize("kind", [Kind.GITHUB, Kind.GATE])
def test_the_schema_of_workflows_refuses_what_it_does_not_know(kind):
    document = workflow(QA, kind)
    (job,) = document["jobs"].values()
    job["timeout_minutes"] = job.pop("timeout-minutes")
    assert not GITHUB.is_valid(document)


def test_the_schema_of_kubernetes_refuses_what_it_does_not_know():
    job = cronjob(QA)
    job["spec"]["timezone"] = job["spec"].pop("timeZone")
    assert not KUBERNETES.is_valid(job)


def test_a_workflow_of_nights():
    document = workflow(FULL, Kind.GITHUB)
    (job,) = document["jobs"].values()
    assert document["on"]["schedule"] == [{"cron": "5 2 * * *", "timezone": "Europe/Berlin"}]
    assert document["permissions"] == {"contents": "read"}
    assert document["concurrency"] == {"group": "cascade-qa-nightly", "cancel-in-progress": False}
    assert job["env"] == {name: f"${{{{ secrets.{name} }}}}" for name in SECRETS}
    assert job["timeout-minutes"] > max(step.get("timeout-minutes", 0) for step in job["steps"])


def test_a_workflow_of_pull_requests():
    document = workflow(QA, Kind.GATE)
    (job,) = document["jobs"].values()
    assert list(document["on"]) == ["pull_request"]
    assert document["permissions"] == {"contents": "read"}
    assert job["if"] == "${{ github.event.pull_request.head.repo.full_name == github.repository }}"
    # Nothing that who opens a pull request can write is put into a command.
    assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


@pytest.mark.parametrize(("command", "kind"), [("run", Kind.GATE), ("gate", Kind.GATE), ("nightly", Kind.GITHUB)])
def test_commands_of_a_workflow_exist(command, kind, capsys):
    (words,) = re.findall(rf"cascade ({command} .*)", printed(FULL, kind))
    assert main([command, "--help"]) == 0
    known = capsys.readouterr().out
    assert [option for option in re.findall(r"--[a-z-]+", words) if option not in known] == []


@pytest.mark.parametrize("kind", [Kind.GITHUB, Kind.GATE])
def test_actions_are_pinned_to_a_major_version(kind):
    (job,) = workflow(QA, kind)["jobs"].values()
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+(/[a-z]+)?@v[0-9]+", action) for action in used)


def test_a_cronjob():
    spec = cronjob(FULL)["spec"]
    job = spec["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("5 2 * * *", "Europe/Berlin", "Forbid")
    assert spec["startingDeadlineSeconds"] >= 10  # below, Kubernetes may start nothing
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert job["activeDeadlineSeconds"] < 24 * 3600
    assert container["command"][-3:] == ["nightly", "--promote", "qa"]
    assert set(container["resources"]) == {"requests", "limits"}
    assert [entry["name"] for entry in container["env"] if "valueFrom" in entry] == SECRETS
    assert all("value" not in entry for entry in container["env"] if entry["name"] != "HOME")


def test_the_embedded_model_is_fetched_first_where_one_is_asked():
    with_it, without = (
        cronjob(QA, embedded=embedded)["spec"]["jobTemplate"]["spec"]["template"]["spec"] for embedded in (True, False)
    )
    (first,) = with_it["initContainers"]
    assert first["command"][-2:] == ["models", "prepare"]
    assert "initContainers" not in without


@settings(max_examples=50, deadline=None)
@given(FILE_NAMES)
def test_any_name_comes_through(name):
    schedule = Schedule(name, PROJECT, PROJECT / ".cascade", QA.python, At(2, 5))
    words = ["nightly", *schedule.named]
    (nightly,) = [
        step["run"]
        for step in workflow(schedule, Kind.GITHUB)["jobs"]["nightly"]["steps"]
        if "tee" in step.get("run", "")
    ]
    command = nightly.replace("${{ '${{' }}", "${{").removesuffix(" | tee nightly.txt\n")
    assert shlex.split(command) == [".venv/bin/cascade", "nightly", "--html", "nightly.html", *words[1:]]
    job = cronjob(schedule)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    # Kubernetes reads `$$` as `$`, and `$(NAME)` of no variable as it stands.
    assert [re.sub(r"\$\$", "$", word.replace("$$(", "$(")) for word in container["command"][4:]] == [
        re.sub(r"\$\$", "$", word) for word in words
    ]
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?", job["metadata"]["name"])


@settings(deadline=None)
@given(st.lists(FILE_NAMES, min_size=2, max_size=2, unique=True))
def test_two_names_share_nothing(names):
    one, other = (Schedule(name, PROJECT, PROJECT / ".cascade", QA.python, At(2, 5)) for name in names)
    assert one.stem != other.stem
    assert one.mark != other.mark
    assert rendering.object_name(one) != rendering.object_name(other)


@pytest.mark.parametrize(
    ("text", "at"), [("02:00", At(2, 0)), ("2:05", At(2, 5)), ("23:59", At(23, 59)), (" 0:00 ", At(0, 0))]
)
def test_a_time(text, at):
    assert At.parse(text) == at
    assert At.parse(str(at)) == at


@pytest.mark.parametrize("text", ["", "2", "24:00", "02:60", "2:5", "-1:00", "02:00:00", "02.00", "٢:٠٠"])
def test_no_time(text):
    with pytest.raises(SettingsError, match=r"is no time of day\. Write hours and minutes, such as 02:00\."):
        At.parse(text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "a\u2028b", "\ud800"])
def test_what_no_line_can_hold_is_refused(text):
    with pytest.raises(SettingsError, match="has a character that no schedule can hold"):
        Schedule("qa", Path("/home") / text.replace("\0", "\x01"), PROJECT, QA.python, At(2, 5))


@pytest.mark.parametrize("module", [entry, environment, quoting, rendering], ids=lambda module: module.__name__)
def test_examples_run(module):
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
