"""Whether a metric's code is the same in two versions of a program's file.

Invariant: layout, comments and docstrings are no difference. Code that the file imports is not looked at.
"""

import ast
from collections.abc import Iterator


def same_metric(before: str, after: str, name: str) -> bool:
    """Whether the function `name`, and what it uses of its own file, is the same in both files.

    A metric that neither file defines is taken to be the same: its name is all there is.

    >>> same_metric("N = 3\\ndef right(a, b): return a < N", "N = 4\\ndef right(a, b): return a < N", "right")
    False
    """
    return before == after or _code(before, name) == _code(after, name)


def _code(source: str, name: str) -> dict[str, str]:
    """What is defined under `name` and the names that it uses, as text that layout does not change."""
    try:
        defined = dict(_definitions(ast.parse(source)))
    except (SyntaxError, ValueError):
        return {"": source}
    code: dict[str, str] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in defined and one not in code:
            code[one] = ast.dump(_without_docstrings(defined[one]))
            waiting += [node.id for node in ast.walk(defined[one]) if isinstance(node, ast.Name)]
    return code


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
