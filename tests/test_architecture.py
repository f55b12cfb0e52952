"""The shape of the package: imports point one way, and files and functions stay short."""

import ast
from pathlib import Path

import cascade

PACKAGE = Path(cascade.__file__).parent
LAYERS: list[tuple[str, set[str]]] = [
    ("definitions", {"errors", "redaction", "settings", "spending", "rows", "fields", "dataset", "metrics", "experiment", "options", "sources", "discover", "nearest", "ensemble", "program",
                     "programs", "threads"}),
    ("tools", {"tools"}),
    ("judgement", {"outcome", "evaluation", "costs", "intervals", "comparison", "agreement", "evidence", "reasons", "decision"}),
    ("lm", {"lm"}),
    ("work", {"optimizers", "building", "stage", "headroom", "bounds", "forecast", "check", "checks", "journal", "progress", "publishing",
              "recording", "reserve", "result", "session", "tally", "proving", "recipes", "runner", "testing", "tracing",
              "adopting", "warm", "judges"}),
    ("mlflow_store", {"mlflow_store"}),
    ("report", {"report"}),
    ("running", {"running", "existing", "exporting"}),
    ("production", {"production"}),
    ("development", {"development"}),
    ("edge", {"cluster", "cli", "__main__"}),
]  # fmt: skip
"""From the bottom; a module imports its own layer and those before it."""
PRODUCTION = ["lines", "promoting", "incoming", "night", "schedule", "live", "champion", "ab", "serving"]
"""The rooms of `production/`: each imports itself and those before it."""
RANK = {room: rank for rank, (_, rooms) in enumerate(LAYERS) for room in rooms}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and room of every import of our own package, lazy ones too, type checking ones not."""
    found: list[tuple[int, str]] = []
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for inner in node.body:
                inner.names = []  # type: ignore[attr-defined]
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "cascade" else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [(node.lineno, name.split(".")[1]) for name in names if name and name.startswith("cascade.")]
    return found


def test_every_module_has_a_layer() -> None:
    assert sorted({room(path) for path in FILES} - set(RANK)) == []


def test_imports_point_one_way() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}, line {line}: {room(path)} must not import {other}"
        for path in FILES
        for line, other in imported(path)
        if RANK.get(other, len(LAYERS)) > RANK.get(room(path), len(LAYERS))
    ]
    assert wrong == []


def test_no_two_modules_import_each_other() -> None:
    """Inside a layer too: a room that reaches itself through others cannot be read on its own."""
    reach = {name: set[str]() for name in RANK}
    for path in FILES:
        reach.setdefault(room(path), set()).update(other for _, other in imported(path) if other != room(path))
    for _ in reach:
        for near in reach.values():
            near |= {far for name in set(near) for far in reach.get(name, set())}
    assert sorted(name for name in reach if name in reach[name]) == []


def test_rooms_of_production_import_one_way() -> None:
    home = PACKAGE / "production"
    wrong, seen = [], set[str]()
    for path in FILES:
        if not path.is_relative_to(home) or path == home / "__init__.py":
            continue
        mine = path.relative_to(home).parts[0].removesuffix(".py")
        seen.add(mine)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cascade.production"):
                others = node.module.split(".")[2:3] or [alias.name for alias in node.names]  # type: ignore[union-attr]
                late = [one for one in others if PRODUCTION.index(one) > PRODUCTION.index(mine)]
                wrong += [f"{path.relative_to(home)}, line {node.lineno}: {one}" for one in late]
    assert (wrong, sorted(seen)) == ([], sorted(PRODUCTION))


def test_a_room_that_names_its_modules_names_all() -> None:
    for name in ("promoting", "incoming", "night", "ab"):
        told = ast.get_docstring(ast.parse((PACKAGE / "production" / name / "__init__.py").read_text("utf-8"))) or ""
        words = set(told.replace(",", " ").split())
        modules = {path.stem for path in (PACKAGE / "production" / name).glob("*.py")} - {"__init__"}
        assert modules - words == set(), name


def test_programs_import_only_dspy_errors_and_redaction() -> None:
    assert [
        f"{path}, line {line}: {other}"
        for path in FILES
        if room(path) == "programs"
        for line, other in imported(path)
        if other not in ("programs", "errors", "redaction")
    ] == []


def test_tools_import_only_what_stands_below_definitions() -> None:
    assert [
        f"{path}, line {line}: {other}"
        for path in FILES
        if room(path) == "tools"
        for line, other in imported(path)
        if other not in ("tools", "errors", "redaction", "settings")
    ] == []


def test_reports_are_made_from_journals_alone() -> None:
    assert [
        f"{path}, line {line}: {other}"
        for path in FILES
        if room(path) == "report"
        for line, other in imported(path)
        if other in ("lm", "mlflow_store", "runner", "session")
    ] == []


def lengths(path: Path) -> list[tuple[int, str]]:
    """Lines of each function from `def` to its end, without its docstring."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = ast.get_docstring(node) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if told else 0
            lines = (node.end_lineno or 0) - node.lineno + 1 - docstring
            found.append((lines, f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}: {lines} lines"))
    return found


def test_files_are_at_most_300_lines() -> None:
    counted = {str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert {name: lines for name, lines in counted.items() if lines > 300} == {}


def test_functions_are_at_most_50_lines_and_nine_in_ten_at_most_30() -> None:
    counted = [entry for path in FILES for entry in lengths(path)]
    assert [told for lines, told in counted if lines > 50] == []
    long = [told for lines, told in counted if lines > 30]
    assert len(long) <= len(counted) / 10, long
