"""Experiments by name, and the signature that says whether two runs ran the same thing."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import scripted

from cascade.dataset import load
from cascade.discover import discover, import_file, names, signature, signature_parts, source_file
from cascade.errors import ExperimentError, MetricError
from cascade.experiment import Budget, Experiment, Plateau

FILE = '''"""Does it help?

Perhaps."""
import dspy
from cascade import Budget, Dataset, Experiment, Stage, metric
import helpers_of_discover

class Asks(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)

class Twice(Asks):
    pass

@metric
def right(example, prediction):
    return example.answer == prediction.answer

def rows(split):
    return [{"question": f"{split} {n}", "answer": "a"} for n in range(20)]

data = Dataset("qa", train=rows("train"), dev=rows("dev"), test=rows("test"), inputs=("question",))
experiment = Experiment(dataset=data, metric=right, program=Asks, stages=[Stage("demos", dspy.BootstrapFewShot, max_rounds=1)])
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "helpers_of_discover.py").write_text("LIMIT = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [
        name
        for name in sys.modules
        if name.startswith(("helpers_of_discover", "program_of_discover", "near_of_discover", "experiments"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    write(tmp_path)
    return tmp_path


def write(project: Path, text: str = FILE, name: str = "qa") -> None:
    (project / "experiments" / f"{name}.py").write_text(text, "utf-8")


def parts(project: Path) -> dict[str, str]:
    found = discover("qa", project)
    return signature_parts(found, load(found.dataset, project), {"lms": {"task": "m/a"}, "settings": {"seed": 1}})


def test_a_file_is_an_experiment_named_after_it_with_its_docstring_as_hypothesis(project: Path) -> None:
    found = discover("qa", project)
    assert (found.name, found.hypothesis, found.path) == (
        "qa",
        "Does it help?\n\nPerhaps.",
        project / "experiments" / "qa.py",
    )
    assert [stage.name for stage in found.stages] == ["demos"]
    assert source_file(found) == project / "experiments" / "qa.py"


def test_names_are_sorted_and_private_files_are_none(project: Path) -> None:
    for name in ("b", "a", "_shared"):
        write(project, name=name)
    assert names(project) == ["a", "b", "qa"]
    assert names(project / "elsewhere") == []


WRONG = [
    ("qa2", FILE, ["There is no experiment 'qa2'", "Did you mean 'qa'?", "Found: qa."]),
    ("zzz", FILE, ["There is no experiment 'zzz'", "Found: qa."]),
    ("_shared", FILE, ["There is no experiment '_shared'"]),
    ("../qa", FILE, ["There is no experiment '../qa'"]),
    ("qa", '"""Nothing."""', ["experiments/qa.py defines no `experiment`", "Add experiment = Experiment("]),
    ("qa", "experiment = 3", ["experiments/qa.py defines no `experiment`"]),
    ("qa", "x = 1\nexperiment = = 3", ["qa.py, line 2: SyntaxError"]),
    ("qa", "x = 1\n\nx.nothing()", ["qa.py, line 3: AttributeError", "nothing"]),
    ("qa", "import no_such_thing", ["qa.py, line 1: ModuleNotFoundError", "Install 'no_such_thing'"]),
    ("qa", "def f():\n    raise ValueError('deep')\n\nf()", ["qa.py, line 2: ValueError: deep"]),
]


@pytest.mark.parametrize(("name", "text", "told"), WRONG)
def test_what_is_wrong_is_quoted_with_place_and_fix(project: Path, name: str, text: str, told: list[str]) -> None:
    write(project, text)
    with pytest.raises(ExperimentError) as caught:
        discover(name, project)
    assert [part for part in told if part not in str(caught.value)] == []
    assert "experiments.qa" not in sys.modules or name != "qa" or "defines no" in str(caught.value)


def test_an_error_of_ours_stays_what_it_is(project: Path) -> None:
    write(project, "from cascade import metric\nmetric(threshold=2)")
    with pytest.raises(MetricError, match="threshold=2"):
        discover("qa", project)


EDITS = [
    ("nothing", lambda text: text, set()),
    ("a comment", lambda text: text + "\n# more\n", set()),
    ("the docstring", lambda text: text.replace("Does it help?", "Does it really?"), set()),
    ("the budget", lambda text: text.replace("program=Asks,", "program=Asks, budget=Budget(lm_calls=9),"), set()),
    ("the metric", lambda text: text.replace("example.answer == prediction.answer", "True"), {"source", "metric_code"}),
    (
        "the metric's threshold",
        lambda text: text.replace("@metric\n", "@metric(threshold=0.5)\n"),
        {"metric", "source", "metric_code"},
    ),
    ("the program", lambda text: text.replace("question -> answer", "question -> answer, why"), {"source"}),
    ("the factory", lambda text: text.replace("program=Asks,", "program=Twice,"), {"source"}),
    ("an option", lambda text: text.replace("max_rounds=1", "max_rounds=2"), {"stages"}),
    ("a stage's name", lambda text: text.replace('"demos"', '"shots"'), {"stages"}),
    (
        "the grouping",
        lambda text: text.replace('inputs=("question",)', 'inputs=("question",), group="question"'),
        {"data", "source"},
    ),
    ("the data", lambda text: text.replace('"answer": "a"', '"answer": "b"'), {"data", "source"}),
]


@pytest.mark.parametrize(("_what", "edit", "changed"), EDITS, ids=[what for what, *_ in EDITS])
def test_what_changes_the_signature(project: Path, _what: str, edit: Any, changed: set[str]) -> None:
    before = parts(project)
    write(project, edit(FILE))
    after = parts(project)
    assert {name for name in before if before[name] != after[name]} == changed
    assert (signature(before) == signature(after)) is not changed or (signature(before) == signature(after)) == (
        not changed
    )


def test_a_module_of_the_project_that_is_imported_counts_too(project: Path) -> None:
    before = parts(project)
    (project / "helpers_of_discover.py").write_text("LIMIT = 22\n")
    assert parts(project)["source"] != before["source"]


def test_a_module_inside_a_package_counts_too(project: Path) -> None:
    package = project / "pkg_of_discover"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("WORD = 1\n")
    write(project, FILE.replace("import helpers_of_discover", "from pkg_of_discover import words"))
    before = parts(project)
    (package / "words.py").write_text("WORD = 2\n")
    assert parts(project)["source"] != before["source"]


@pytest.mark.parametrize("line", ["from .words import WORD", "from . import words", "from .deeper import WORD"])
def test_a_module_that_is_imported_relatively_counts_too(project: Path, line: str) -> None:
    package = project / "near_of_discover"
    (package / "deeper").mkdir(parents=True)
    (package / "__init__.py").write_text(line + "\n")
    (package / "deeper" / "__init__.py").write_text("from ..words import WORD\n")
    (package / "words.py").write_text("WORD = 1\n")
    write(project, FILE.replace("import helpers_of_discover", "import near_of_discover"))
    before = parts(project)
    (package / "words.py").write_text("WORD = 2\n")
    assert parts(project)["source"] != before["source"]


def test_two_modules_of_the_same_file_name_both_count(project: Path) -> None:
    for name in ("one_of_discover", "two_of_discover"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("X = 1\n")
    write(project, FILE.replace("import helpers_of_discover", "import one_of_discover\nimport two_of_discover"))
    seen = {parts(project)["source"]}
    for name in ("one_of_discover", "two_of_discover"):
        (project / name / "__init__.py").write_text("X = 2\n")
        seen.add(parts(project)["source"])
    assert len(seen) == 3


def test_the_place_of_a_project_does_not_matter(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("other") / "deeper"
    (elsewhere / "experiments").mkdir(parents=True)
    write(elsewhere, FILE.replace("import helpers_of_discover\n", ""))
    write(project, FILE.replace("import helpers_of_discover\n", ""))
    assert parts(project) == parts(elsewhere)


def test_lms_are_part_of_the_signature_and_what_only_stops_a_run_is_not() -> None:
    defined = scripted.experiment()
    data = load(defined.dataset, Path())
    one = signature_parts(defined, data, {"lms": {"task": "m/a"}})
    assert signature_parts(defined, data, {"lms": {"task": "m/b"}})["lms"] != one["lms"]
    more = dataclasses.replace(
        defined, budget=Budget(lm_calls=5), plateau=Plateau(patience=5), target=0.5, name="other"
    )
    assert signature_parts(more, data, {"lms": {"task": "m/a"}}) == one


def test_the_grouping_counts_and_without_one_the_data_are_their_fingerprint() -> None:
    defined = scripted.experiment()
    plain = load(defined.dataset, Path())
    grouped = load(dataclasses.replace(defined.dataset, group="question"), Path())
    found = [signature_parts(defined, data, {})["data"] for data in (plain, grouped)]
    assert found[0] == plain.fingerprint == grouped.fingerprint != found[1]


def test_a_program_typed_at_a_prompt_is_refused() -> None:
    scope: dict[str, Any] = {}
    exec("def made():\n    pass", scope)
    with pytest.raises(ExperimentError, match=r"cannot be found\. Define it in a file, not at a prompt"):
        source_file(Experiment("qa", scripted.right, dict))
    del scope


LAMBDAS = """import dspy
from cascade import Budget, Dataset, Experiment
import {factory}

ROWS = [{{"question": str(n), "answer": "a"}} for n in range(60)]
DATA = Dataset("x", train=ROWS[:20], dev=ROWS[20:40], test=ROWS[40:], inputs=["question"])
{metric}
experiment = Experiment(dataset=DATA, metric={named}, program={program}, budget=Budget(lm_calls={calls}))
"""
TOLD = {"factory": "dspy", "metric": "", "calls": 100, "program": 'lambda: dspy.Predict("question -> answer")'}
TOLD |= {"named": "lambda example, prediction: example.answer == prediction.answer"}


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        ({"calls": 200}, set()),
        ({"program": 'lambda: dspy.ChainOfThought("question -> answer")'}, {"source"}),
        ({"named": "lambda example, prediction: True"}, {"source", "metric_code"}),
    ],
)
def test_functions_without_a_name_count_wherever_they_stand(
    project: Path, edit: dict[str, Any], changed: set[str]
) -> None:
    write(project, LAMBDAS.format(**TOLD))
    before = parts(project)
    write(project, LAMBDAS.format(**{**TOLD, **edit}))
    assert {name for name, part in parts(project).items() if part != before[name]} == changed


def test_the_metric_counts_where_the_program_is_from_another_file(
    project: Path,
) -> None:
    (project / "program_of_discover.py").write_text('import dspy\ndef make():\n    return dspy.Predict("a -> b")\n')
    other = {**TOLD, "factory": "program_of_discover", "program": "program_of_discover.make", "named": "right"}
    found = []
    for value in ("example.answer == prediction.answer", "True"):
        metric = f"def right(example, prediction):\n    return {value}\n"
        write(project, LAMBDAS.format(**{**other, "metric": metric}))
        found.append(parts(project)["source"])
    assert found[0] != found[1]


def test_a_file_is_read_anew_whatever_python_keeps(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change within a second that leaves the length as it is looks to Python's cache like none."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = project / "experiments" / "letters.py"
    found = []
    for word in ("one", "two"):
        path.write_text(f"SAID = {word!r}\n", "utf-8")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        found.append(import_file(path, "experiments.letters").SAID)
    assert found == ["one", "two"] and not (project / "experiments" / "__pycache__").exists()
