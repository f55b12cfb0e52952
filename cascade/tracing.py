"""Traces: what a program did, call by call, to read in a terminal, to keep in a file, to show in MLflow.

Invariant: texts are shortened and no key is in them before they are kept, so wherever a trace goes, none goes with it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.errors import CascadeError
from cascade.fields import plain, shortened
from cascade.programs.profiling import Profile
from cascade.programs.recording import Recorder, Span, recording
from cascade.redaction import redacted

if TYPE_CHECKING:
    from rich.tree import Tree

LONGEST = 2000
"""Characters of a text that are kept."""
_IN_TREE = 60


class Trace:
    """What was recorded; it may be read while the program runs.

    Args:
        recorder: of `cascade.programs.recording`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def profile(self) -> Profile:
        """Where time and tokens went."""
        return Profile(self._recorder)

    @property
    def spans(self) -> list[Span]:
        """Every call, in the order in which they began; a parent stands before its children."""
        return self._recorder.spans

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values, one a span."""
        return [span.to_json() for span in self.spans]

    def write(self, path: str | Path) -> None:
        """Write JSON lines, one a span.

        Raises:
            CascadeError: the file cannot be written.
        """
        lines = [json.dumps(span, ensure_ascii=False, default=str) for span in self.to_json()]
        try:
            Path(path).write_text("".join(f"{line}\n" for line in lines), "utf-8", errors="replace")
        except OSError as error:
            raise CascadeError(
                f"The trace cannot be written to {path} ({error.strerror}). Give a file in a folder that exists."
            ) from None

    def tree(self) -> "Tree":
        """For `rich.print`: nested as the program is."""
        return tree(self.spans)


@contextmanager
def trace(program: Any = None, *, longest: int = LONGEST) -> Iterator[Trace]:
    """Trace what a program does inside the block, in all its threads.

    >>> from cascade.programs import Pipeline, Step
    >>> program = Pipeline(count=Step(lambda text: len(text), gives="n"), double=Step(lambda n: 2 * n, gives="m"))
    >>> with trace(program) as t:
    ...     _ = program(text="four")
    >>> [(span.name, span.outputs) for span in t.spans]
    [('Pipeline', {'n': 4, 'm': 8}), ('count', {'n': 4}), ('double', {'m': 8})]

    Args:
        program: only its calls; None for everything that is called.
        longest: characters of a text that are kept.
    """
    with recording(program, shown=lambda value: kept(value, longest)) as recorder:
        yield Trace(recorder)


def kept(value: Any, longest: int = LONGEST) -> Any:
    """A value as plain JSON, texts without keys and shortened, images as words."""
    return _cut(shortened(plain(value)), longest)


def _cut(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        text = redacted(value)
        return text if len(text) <= longest else f"{text[: longest - 1]}…"
    if isinstance(value, Mapping):
        return {str(name): _cut(inner, longest) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(inner, longest) for inner in value]
    return value


@dataclass(frozen=True)
class Node:
    """A span and those inside it."""

    span: Span
    inside: "tuple[Node, ...]"


def nested(spans: Sequence[Span]) -> list[Node]:
    """Spans as trees, the outermost first."""
    inside: dict[str, list[Span]] = {}
    for span in spans:
        inside.setdefault(span.parent, []).append(span)

    def node(span: Span) -> Node:
        return Node(span, tuple(map(node, inside.get(span.id, ()))))

    return [node(span) for span in inside.get("", ())]


def tree(spans: Sequence[Span]) -> "Tree":
    """A picture of spans for a terminal."""
    from rich.tree import Tree

    def grow(branch: "Tree", node: Node) -> None:
        twig = branch.add(_line(node.span))
        for one in node.inside:
            grow(twig, one)

    root = Tree("trace", hide_root=True)
    for node in nested(spans):
        grow(root, node)
    return root


def _line(span: Span) -> Any:
    from rich.text import Text

    text = Text(span.name, style="bold" if span.kind == "module" else "")
    text.append(f"  {span.kind}", style="dim")
    text.append(f"  {'running' if span.seconds is None else f'{span.seconds:.3f} s'}", style="dim")
    if span.tokens:
        text.append(f"  {span.tokens[0]:,}+{span.tokens[1]:,} tokens", style="dim")
    if span.version:
        text.append(f"  version {span.version}", style="dim")
    if span.error:
        text.append(f"  {span.error}", style="red")
    elif span.kind != "lm" and span.outputs:
        text.append(f"  {_told(span.outputs)}")
    return text


def _told(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return "  ".join(f"{name}={_short(value)}" for name, value in outputs.items())
    return _short(outputs)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _IN_TREE else f"{text[: _IN_TREE - 1]}…"
