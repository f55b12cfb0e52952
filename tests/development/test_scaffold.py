"""What `cascade new` writes: whole, once, and every kind of it builds."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import pytest

from cascade.check import prepare
from cascade.checks import examine
from cascade.development.kinds import KINDS
from cascade.development.naming import factories, rival
from cascade.development.scaffold import Wish, plan
from cascade.development.writing import as_described, write
from cascade.discover import discover
from cascade.errors import DatasetError, ExperimentError, MetricError
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

TEAMS = ("billing", "login")


def settings_of(folder: Path) -> Settings:
    return Settings(project=folder, home=folder / ".cascade", tracking_uri="", threads=2)


def source(folder: Path, n: int = 120) -> str:
    lines = [
        json.dumps({"text": f"case {i} of {i * 7919 % 1000}", "team": TEAMS[i % 2], "who": f"c{i}"}) for i in range(n)
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return "rows.jsonl"


def made(folder: Path, kind: str = "plain", **changes) -> list[str]:
    wish = Wish("tickets", ("text",), ("team",), kind, **{"source": source(folder), **changes})
    wish = as_described(wish, folder)
    return write(plan(wish, folder), wish, settings_of(folder))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text("utf-8")
        for place in ("experiments", "datasets")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_builds_and_passes_check_once_the_metric_is_written(tmp_path, kind):
    made(tmp_path, kind)
    settings, file = settings_of(tmp_path), tmp_path / "experiments/tickets.py"
    lms = ScriptedLMs(settings, ScriptedEngine(lambda *_: {}))
    with pytest.raises(MetricError, match="'success' is not written yet"):
        prepare(discover("tickets", tmp_path), settings, lms)
    text = file.read_text()
    file.write_text(
        text.replace('raise NotImplementedError("Say what success is.")', "return prediction.team == example.team")
    )
    experiment = discover("tickets", tmp_path)
    prepared = prepare(experiment, settings, lms)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [one for one in examine(prepared) if one.severity != "note"] == []
    if KINDS[kind].factory:
        other = rival(f"{KINDS[kind].factory}_tickets", experiment, settings, lms)
        assert [one for one in examine(other.prepared) if one.severity == "error"] == []
        assert "team" in str(other.program.predictors()[-1].signature.output_fields) or kind in ("loop", "agent")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_formatted_and_clean(tmp_path, kind):
    made(tmp_path, kind)
    ruff = Path(sys.executable).parent / "ruff"
    for words in (("format", "--check"), ("check", "--select", "E,F,I,B,UP")):
        done = subprocess.run(
            [ruff, *words, "--line-length", "120", tmp_path / "experiments"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_labels_become_a_literal_and_what_is_neither_is_left_out(tmp_path):
    made(tmp_path)
    text = (tmp_path / "experiments/tickets.py").read_text()
    assert 'TeamLabel = Literal[\n    "billing",\n    "login",\n]' in text
    assert "prediction.team == example.team" in text
    row = json.loads((tmp_path / "datasets/tickets/dev.jsonl").read_text().splitlines()[0])
    assert list(row) == ["text", "team"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("experiment", "plain"),
        ("budget", "plain"),
        ("dataset", "plain"),
        ("literal", "plain"),
        ("team_label", "plain"),
        *((kind, kind) for kind in ("pipeline", "parallel", "router", "adaptive", "loop", "agent")),
        ("rule", "adaptive"),
        ("ask_until_agreed", "vote"),
    ],
)
def test_a_name_that_the_file_needs_too_hides_nothing(tmp_path, name, kind):
    wish = Wish(name, ("text",), ("team",), kind, source=source(tmp_path))
    write(plan(wish, tmp_path), wish, settings_of(tmp_path))
    experiment = discover(name, tmp_path)
    assert experiment.program().predictors()
    for made in factories(experiment):
        assert getattr(sys.modules[f"experiments.{name}"], made)().predictors()


def test_labels_beyond_ascii_stay_what_they_are(tmp_path):
    labels = ("😀 ok", 'f"üß', "a\\b")
    rows = [json.dumps({"text": f"case {i} {i * 7919 % 1000}", "team": labels[i % 3]}) for i in range(120)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    wish = Wish("tickets", ("text",), ("team",), source="rows.jsonl")
    write(plan(wish, tmp_path), wish, settings_of(tmp_path))
    signature = discover("tickets", tmp_path).program().predictors()[0].signature
    assert set(get_args(signature.output_fields["team"].annotation)) == set(labels)


@pytest.mark.parametrize(
    ("description", "wanted", "said"),
    [
        ('inputs = "question"', {}, "has inputs = 'question' and group = None. Write inputs = "),
        ("inputs = [1]", {}, "has inputs = .1. and group = None. Write inputs = "),
        ('inputs = ["text"]\ngroup = 3', {}, "and group = 3. Write inputs = "),
        ('inputs = ["text"]', {"inputs": ("other",)}, "has inputs = .'text'.. Write others there, or leave --inputs out."),
        ("inputs = ", {}, "is not valid TOML"),
    ],
)  # fmt: skip
def test_a_description_that_is_there_already_is_read_with_care(tmp_path, description, wanted, said):
    (tmp_path / "datasets/x").mkdir(parents=True)
    (tmp_path / "datasets/x/dataset.toml").write_text(description)
    with pytest.raises(DatasetError, match=said):
        as_described(Wish("x", **wanted), tmp_path)


def test_nothing_is_overwritten(tmp_path):
    assert len(made(tmp_path)) == 6
    before = contents(tmp_path)
    assert made(tmp_path) == []
    with pytest.raises(ExperimentError, match=r"train.jsonl is there already, and nothing is overwritten"):
        made(tmp_path, seed=5)
    assert contents(tmp_path) == before


def test_rows_may_come_later(tmp_path):
    wish = Wish("tickets", ("text",), ("team",), group="who")
    write(plan(wish, tmp_path), wish, settings_of(tmp_path))
    assert [Path(path).name for path in made(tmp_path)] == ["train.jsonl", "dev.jsonl", "test.jsonl"]
    assert '"who"' in (tmp_path / "datasets/tickets/dev.jsonl").read_text()
    with pytest.raises(DatasetError, match=r"has no group = 'text'. Write it there, or leave --group out."):
        made(tmp_path, group="text")


KILLED = """
import os, sys
from pathlib import Path
from cascade.development.scaffold import Wish, plan
from cascade.development.writing import write
from cascade.settings import Settings
from cascade.session import alone

def attempt(folder, at):
    count = 0
    def hook(event, args):
        nonlocal count
        writes = event == "open" and str(args[1])[:1] in ("w", "x", "a")
        if (writes or event in ("os.rename", "os.link", "os.mkdir", "os.remove")) and str(folder) in str(args[0]):
            count += 1
            if count == at:
                os._exit(9)
    sys.addaudithook(hook)
    write(made, wish, Settings(project=folder, home=folder / ".cascade", tracking_uri=""))
    os._exit(0)

root = Path(sys.argv[1])
wish = Wish("tickets", ("text",), ("team",), "router", source="rows.jsonl")
made = plan(wish, root)
at = 0
while True:
    at += 1
    folder = root / str(at)
    folder.mkdir()
    for turn in (at, 10_000):  # killed, then the same command again
        child = os.fork() or attempt(folder, turn)
        _, status = os.waitpid(child, 0)
        there = {p: p.read_text() for p in folder.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)}
        for path, text in there.items():
            assert text == made.files[str(path.relative_to(folder))], path
        if turn == at:
            ended = status == 0
            assert not (folder / "experiments/tickets.py").exists() or len(there) == 6
    assert len(there) == 6 and not list(folder.glob("datasets/.new*")), at
    if ended:
        print(at)
        break
"""


def test_a_kill_at_any_point_leaves_whole_files_and_the_same_command_goes_on(tmp_path):
    source(tmp_path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("my-task"), "'my-task' is no name of an experiment"),
        (Wish("class"), "'class' is no name of an experiment"),
        (Wish("x", kind="swarm"), "--kind swarm: there is no such kind. Kinds: plain, pipeline"),
        (Wish("x", inputs=("a b",)), "--inputs a b: no name of a field"),
        (Wish("x", inputs=()), "x: no input or no output"),
        (Wish("x", outputs=("question",)), "field 'question' would mean two things"),
        (Wish("x", outputs=("kind",), kind="router"), "field 'kind' would mean two things in a router"),
        (Wish("x", inputs=("a", "a")), "--inputs a,a names a field twice"),
        *(
            (Wish("x", outputs=(name,)), f"--outputs {name}: no name of a field, because Python or DSPy means")
            for name in ("_x", "self", "str", "dspy", "config", "signature", "instructions", "model_config", "keys")
        ),
    ],
)
def test_what_cannot_be_made(tmp_path, wish, said):
    with pytest.raises(ExperimentError, match=said.replace("(", r"\(")):
        plan(wish, tmp_path)


def test_a_source_without_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(DatasetError, match=r"--from rows.jsonl has no rows. Add some, or leave --from out."):
        plan(Wish("x", source="rows.jsonl"), tmp_path)


def test_a_source_without_the_field_says_what_it_has(tmp_path):
    with pytest.raises(
        DatasetError, match=r"--from rows.jsonl, row 1 has no field 'question'. Found: text, team, who."
    ):
        plan(Wish("x", source=source(tmp_path)), tmp_path)
