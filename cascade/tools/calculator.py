"""Arithmetic that a model asks for.

Invariant: nothing is run. The text is parsed, and only numbers, `+ - * / // % **`, parentheses and the functions below
are reckoned, within limits on length and size; so no text takes long or much memory.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping

from cascade.errors import StepFailed

LONGEST = 300
"""Characters of an expression."""
LARGEST = 1e100
"""What no number on the way may exceed."""
HIGHEST = 1_000
"""What no exponent may exceed."""
_DEEPEST = 50
_DIGITS = 12

Number = int | float


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > HIGHEST:
        raise StepFailed(f"The exponent {exponent:g} is too high. Use one up to {HIGHEST:,}.")
    if base and abs(exponent * math.log10(abs(base))) > math.log10(LARGEST):
        raise StepFailed(f"{base:g} ** {exponent:g} is out of range. Numbers go up to {LARGEST:g}.")
    result: Number | complex = base**exponent
    if isinstance(result, complex):
        raise StepFailed(f"{base:g} ** {exponent:g} is no real number.")
    return result


def _root(value: Number) -> float:
    if value < 0:
        raise StepFailed(f"sqrt({value:g}) is no real number.")
    return math.sqrt(value)


def _rounded(value: Number, digits: Number = 0) -> Number:
    return round(value, max(-_DIGITS, min(_DIGITS, int(digits)))) if digits else round(value)


_BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: _power,
}  # fmt: skip
_UNARY: Mapping[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "abs": abs, "max": max, "min": min, "round": _rounded, "sqrt": _root,
}  # fmt: skip
_ARGUMENTS = {"abs": (1, 1), "max": (2, 9), "min": (2, 9), "round": (1, 2), "sqrt": (1, 1)}


def calculate(expression: str) -> Number:
    """The value of an arithmetic expression: numbers, + - * / // % **, parentheses, abs, max, min, round, sqrt.

    >>> calculate("(41.2 - 40) / 40 * 100")
    3.0

    Results are given to 12 digits, so that 0.1 + 0.2 is 0.3.

    Raises:
        StepFailed: it is none, or out of range; the message says what to change.
    """
    text = expression.strip()
    if not text or len(text) > LONGEST:
        raise StepFailed(f"An expression of {len(text)} characters cannot be reckoned. Write 1 to {LONGEST}.")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise StepFailed(f"{_shown(text)} is no arithmetic. Write something like (3 + 4.5) * 2.") from None
    try:
        value = _checked(_value(tree.body, 0))
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise StepFailed(f"{_shown(text)} has no value: {error}.") from None
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")


def _value(node: ast.expr, depth: int) -> Number:
    if depth > _DEEPEST:
        raise StepFailed(f"The expression is nested more than {_DEEPEST} deep. Write a shorter one.")
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _checked(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _checked(_BINARY[type(node.op)](_value(node.left, depth + 1), _value(node.right, depth + 1)))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_value(node.operand, depth + 1))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _checked(_called(node.func.id, [_value(one, depth + 1) for one in node.args]))
    allowed = f"numbers, + - * / // % **, parentheses and {', '.join(FUNCTIONS)}"
    raise StepFailed(f"{_shown(ast.unparse(node))} is not allowed. Allowed are {allowed}.")


def _called(name: str, given: list[Number]) -> Number:
    if name not in FUNCTIONS:
        raise StepFailed(f"There is no function {_shown(name)}. There are {', '.join(FUNCTIONS)}.")
    least, most = _ARGUMENTS[name]
    if not least <= len(given) <= most:
        raise StepFailed(
            f"{name} was given {len(given)} numbers. It takes {least}{f' to {most}' if most > least else ''}."
        )
    return FUNCTIONS[name](*given)


def _checked(value: Number) -> Number:
    if not abs(value) <= LARGEST:  # also what is not a number
        raise StepFailed(f"A number on the way is out of range. Numbers go up to {LARGEST:g}.")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
