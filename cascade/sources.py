"""Code as values: what a file says, whatever its layout, and what it reaches in its project.

Invariant: files are read and never run; text that is equal means the same code.
"""

import ast
import inspect
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any


def siblings(source: Path, place: Path | None = None) -> list[str]:
    """Modules of the source's own project that it imports, and that would not be there without the project.

    Args:
        place: where the source stands in its project, if `source` is a copy.
    """
    place = (place or source).resolve()
    roots = {place.parent, *place.parents[1:2]}
    wanted = [name for name in _top_level(source) if name != "cascade" and name not in sys.stdlib_module_names]
    return [name for name in wanted if any(_is_module(root, name) for root in roots)]


def reachable(start: Path) -> list[Path]:
    """`start` and the modules of its own project that it imports, directly or not."""
    found, project = dict[Path, None](), start.resolve().parents[1]
    waiting = [start.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        waiting += [module for module in _imports(path, _parsed(path)) if module.is_relative_to(project)]
    return sorted(found)


def statements(path: Path) -> str:
    """The file's code without its docstring and without `experiment = …`, whose parts are hashed apart.

    But for functions without a name: those that stand in `experiment = …` stand nowhere else.
    """
    code: list[ast.AST] = []
    for node in _parsed(path).body:
        if _defines_experiment(node):
            code += [inner for inner in ast.walk(node) if isinstance(inner, ast.Lambda)]
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            code.append(node)
    return "\n".join(map(ast.dump, code))


def judge_code(judge: Callable[..., Any]) -> dict[str, Any]:
    """What a metric's function is: its code, what that uses of its file and of its project, and the values it holds.

    Functions without a name, methods and objects that are called too. Empty where there is no source.
    """
    made, held = _maker(judge)
    try:
        path = Path(inspect.getfile(made)).resolve()
        tree = _parsed(path)
    except (TypeError, OSError, SyntaxError, ValueError):  # built in, or made at a prompt
        return {}
    name = made.__qualname__.partition(".")[0]
    start = _lambdas(tree, made) if "<lambda>" in made.__qualname__ else []
    used = _used(tree, [name], start)
    files = {file for node in used.values() for file in _imports(path, node)}
    project = path.parents[1]
    reached = sorted({one for file in files if file.is_relative_to(project) for one in reachable(file)} - {path})
    return {
        "name": made.__qualname__,
        "code": [*map(ast.dump, start), _dumped(used)],
        "files": {os.path.relpath(file, path.parent): statements(file) for file in reached},
        "values": held,
    }


def unwritten(function: Callable[..., Any]) -> bool:
    """Whether a function does nothing, or nothing but raise `NotImplementedError`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (TypeError, OSError, SyntaxError):  # an object that is called, or made at a prompt
        return False
    first = tree.body[0] if tree.body else None
    if not isinstance(first, ast.FunctionDef):
        return False
    body = [node for node in first.body if not _says_nothing(node)]
    if not body:
        return True
    raised = body[0].exc if len(body) == 1 and isinstance(body[0], ast.Raise) else None
    return getattr(getattr(raised, "func", raised), "id", "") == "NotImplementedError"


def _says_nothing(node: ast.stmt) -> bool:
    """`pass`, `...` and docstrings."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def code_of(source: str, name: str) -> dict[str, str]:
    """What is defined under `name` and the names that it uses, as text that layout does not change."""
    try:
        return _dumped(_used(ast.parse(source), [name]))
    except (SyntaxError, ValueError):
        return {"": source}


def _imports(path: Path, tree: ast.AST) -> list[Path]:
    """Files of modules that code of the file `path` imports; nothing that is installed."""
    wanted, near = set[str](), list[Path]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            near += _relative(path, node)
        elif isinstance(node, ast.ImportFrom):
            wanted |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (getattr(sys.modules.get(name), "__file__", None) for name in wanted if name.split(".")[0] != "cascade")
    return [*near, *(Path(file).resolve() for file in files if file and "site-packages" not in file)]


def _relative(path: Path, node: ast.ImportFrom) -> Iterator[Path]:
    folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    places = [folder] * bool(node.module) + [folder / alias.name for alias in node.names]
    files = (file for place in places for file in (Path(f"{place}.py"), place / "__init__.py"))
    return (file.resolve() for file in (folder / "__init__.py", *files) if file.is_file())


def _defines_experiment(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(getattr(target, "id", "") == "experiment" for target in targets)


def _maker(judge: Any) -> tuple[Any, list[Any]]:
    """The function or class that holds a judge's code, and what JSON can hold of the values that came with it."""
    if isinstance(judge, partial):
        made, held = _maker(judge.func)
        return made, [*held, _values([*judge.args, judge.keywords])]
    if inspect.ismethod(judge):
        return judge.__func__, [_values(getattr(judge.__self__, "__dict__", {}).values())]
    if inspect.isfunction(judge):
        made = inspect.unwrap(judge)
        return made, [_values(inspect.getclosurevars(made).nonlocals.values())]
    return type(judge), [_values(getattr(judge, "__dict__", {}).values())]


def _values(values: Iterable[Any]) -> list[str]:
    """As JSON; of anything else its type, because a set or an address would differ in the next process."""
    return [_value(value) for value in values]


def _value(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, default=lambda other: type(other).__name__)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, or what holds itself
        return type(value).__name__


def _lambdas(tree: ast.Module, made: Any) -> list[ast.AST]:
    """The lambda that became this function; all of its line where its place in the line is not known."""
    on_line = [
        node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and node.lineno == made.__code__.co_firstlineno
    ]
    spans = set(made.__code__.co_positions())
    exact = [
        node
        for node in on_line
        if (node.body.lineno, node.body.end_lineno, node.body.col_offset, node.body.end_col_offset) in spans
    ]
    return list(exact or on_line)


def _used(tree: ast.Module, names: list[str], start: Iterable[ast.AST] = ()) -> dict[str, ast.stmt]:
    """Statements of a file that define these names, and the names that those and `start` use."""
    defined, used = dict(_definitions(tree)), dict[str, ast.stmt]()
    waiting = [*names, *(name for node in start for name in _named(node))]
    while waiting:
        one = waiting.pop()
        if one in defined and one not in used:
            used[one] = defined[one]
            waiting += _named(defined[one])
    return used


def _named(tree: ast.AST) -> list[str]:
    return [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]


def _dumped(used: Mapping[str, ast.stmt]) -> dict[str, str]:
    return {name: ast.dump(_without_docstrings(used[name])) for name in sorted(used)}


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _top_level(source: Path) -> Iterator[str]:
    for node in ast.walk(_parsed(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level if node.level else str(node.module).partition(".")[0]


def _is_module(root: Path, name: str) -> bool:
    return name.startswith(".") or (root / f"{name}.py").is_file() or any((root / name).glob("*.py"))


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((inner.id, node) for one in targets for inner in ast.walk(one) if isinstance(inner, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (((alias.asname or alias.name).split(".")[0], node) for alias in node.names)


def _without_docstrings(tree: ast.stmt) -> ast.stmt:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return tree
