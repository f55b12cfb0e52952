"""The code of a metric, wherever it stands."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade.discover import import_file
from cascade.sources import judge_code

FILE = """
from rules_of_sources import RULE
LIMIT = 1

def helper(x):
    return x < LIMIT

def plain(a, b):
    return helper(a)

def ruled(a, b):
    return RULE(a)

def made(limit):
    def inside(a, b):
        return a < limit
    return inside

class Judge:
    def __init__(self, limit): self.limit = limit
    def score(self, a, b): return helper(a)
    def __call__(self, a, b): return a < self.limit

first, second = (lambda a, b: a == b), (lambda a, b: True)
"""
JUDGES: dict[str, Any] = {
    "function": lambda found: found.plain, "lambda": lambda found: found.first, "method": lambda found: found.Judge(3).score,
    "object": lambda found: found.Judge(3), "closure": lambda found: found.made(3), "imported": lambda found: found.ruled,
    "partial": lambda found: partial(found.plain, b=3),
}  # fmt: skip
CHANGES: list[tuple[str, str, set[str]]] = [
    ("a comment", FILE + "\n# more\n", set()),
    ("what it uses", FILE.replace("LIMIT = 1", "LIMIT = 2"), {"function", "method", "object", "partial"}),
    ("the lambda", FILE.replace("a == b", "a != b"), {"lambda"}),
    ("the lambda beside it", FILE.replace("lambda a, b: True", "lambda a, b: False"), set()),
    ("the class", FILE.replace("a < self.limit", "a <= self.limit"), {"method", "object"}),
    ("the maker", FILE.replace("a < limit", "a <= limit"), {"closure"}),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "rules_of_sources.py").write_text("def RULE(a):\n    return a\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "rules_of_sources", raising=False)
    return tmp_path


def found_in(project: Path, text: str) -> Any:
    path = project / "experiments" / "judged.py"
    path.write_text(text)
    return import_file(path, "experiments.judged_of_sources")


def codes(project: Path, text: str) -> dict[str, Any]:
    found = found_in(project, text)
    return {name: judge_code(judge(found)) for name, judge in JUDGES.items()}


@pytest.mark.parametrize(("_what", "text", "changed"), CHANGES, ids=[what for what, *_ in CHANGES])
def test_a_metric_is_its_code_and_what_that_uses(project: Path, _what: str, text: str, changed: set[str]) -> None:
    before, after = codes(project, FILE), codes(project, text)
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_file_of_the_project_that_it_uses_counts(project: Path) -> None:
    before = codes(project, FILE)
    (project / "rules_of_sources.py").write_text("def RULE(a):\n    return not a\n")
    after = codes(project, FILE)
    assert {name for name in before if before[name] != after[name]} == {"imported"}


def test_values_that_came_with_it_count(project: Path) -> None:
    found = found_in(project, FILE)
    for make in (found.Judge, found.made, lambda limit: partial(found.plain, b=limit), lambda n: found.Judge(n).score):
        assert judge_code(make(3)) == judge_code(make(3)) != judge_code(make(4))


def test_what_json_cannot_hold_counts_by_its_type(project: Path) -> None:
    found, around = found_in(project, FILE), list[Any]()
    around.append(around)
    for value, told in (({1, 2}, '"set"'), ({(1, 2): 3}, "dict"), (around, "list"), (found, '"module"')):
        assert judge_code(found.Judge(value))["values"] == [[told]]
        assert judge_code(found.made(value))["values"] == [[told]]


def test_without_source_there_is_nothing_to_tell() -> None:
    assert judge_code(len) == {}
    scope: dict[str, Any] = {}
    exec("def judge(a, b):\n    return True", scope)
    assert judge_code(scope["judge"]) == {}
