"""What a program does, call by call, without anything being built into it.

Invariant: a recorder only listens. It computes no lazy prediction, holds no more of a text than it was told to, and
what goes wrong in it does not reach the program.
"""

import contextvars
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from cascade.programs.calling import Visit, watching
from cascade.programs.lazy import LazyPrediction
from cascade.redaction import told

Shown = Callable[[Any], Any]
"""How a value is kept: shortened, redacted, or not at all."""
USAGE = "cascade_usage"
"""Where cascade's gateway counts, in DSPy's context; not there outside of it."""
_STEP: contextvars.ContextVar[Visit | None] = contextvars.ContextVar("cascade_visit", default=None)


@dataclass
class Span:
    """One call of a module, a model or a tool.

    Args:
        id, parent: of the call and of that inside which it was made; "" for the outermost.
        kind: `module`, `predictor` (a module that asks a model), `lm` or `tool`.
        name: the step's, where a flow called it by one; else the attribute that it stands in, its class, or the
            model's name.
        step: names from the outermost flow to this step, with dots; "" where no flow called it.
        path: of the module in the program, as in `named_predictors()`; "" where it is none of its attributes.
        began, seconds: on the clock since 1970, and how long; None while it runs.
        inputs, outputs: as `Shown` made them.
        error: in one line; "" for none.
        sizes: characters in and out.
        tokens: in and out of the models asked inside; None where no model told.
        calls, cached: LM calls inside, and how many of them cascade's ledger answered at no time.
        version: of the step, where a contract says one.
    """

    id: str
    parent: str
    kind: str
    name: str
    step: str
    path: str
    began: float
    thread: str
    inputs: Any = None
    outputs: Any = None
    error: str = ""
    seconds: float | None = None
    sizes: tuple[int, int] = (0, 0)
    tokens: tuple[int, int] | None = None
    calls: int = 0
    cached: int = 0
    version: str = ""
    _started: float = field(default=0.0, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class Recorder(BaseCallback):  # type: ignore[misc]
    """Listens to DSPy's callbacks; many threads may call the program at once.

    Args:
        program: only what happens inside its calls is recorded; None for everything.
        shown: how inputs and outputs are kept; None keeps none.
    """

    def __init__(self, program: Any = None, shown: Shown | None = None) -> None:
        self.program, self.shown = program, shown
        self.names = _paths(program)
        self._spans: dict[str, Span] = {}
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recorder":
        return self

    @property
    def spans(self) -> list[Span]:
        """All so far, in the order in which they began."""
        with self._lock:
            return list(self._spans.values())

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin."""
        kind = "predictor" if isinstance(instance, dspy.Predict) else "module"
        self._begin(call_id, kind, instance, inputs.get("kwargs") or {})

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End."""
        self._end(call_id, outputs, exception)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin."""
        given = {name: value for name, value in inputs.items() if name in ("prompt", "messages") and value}
        self._begin(call_id, "lm", instance, given or inputs.get("kwargs") or {})

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End."""
        self._add(call_id, calls=1)
        self._end(call_id, outputs, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin."""
        self._begin(call_id, "tool", instance, inputs.get("kwargs") or {})

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End."""
        self._end(call_id, outputs, exception)

    def counted(self, input_tokens: int, output_tokens: int, cached: int) -> None:
        """The same of an answer that cascade counts itself."""
        self._add(ACTIVE_CALL_ID.get() or "", tokens=(input_tokens, output_tokens), cached=cached)

    def used(self, usage: Mapping[str, Any]) -> None:
        """A model told what the call that is being made took."""
        counted = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        if any(isinstance(value, int) for value in counted):
            self._add(ACTIVE_CALL_ID.get() or "", tokens=(counted[0] or 0, counted[1] or 0))

    def _begin(self, call_id: str, kind: str, instance: Any, inputs: Mapping[str, Any]) -> None:
        parent = ACTIVE_CALL_ID.get() or ""
        with self._lock:
            inside = parent in self._spans
        if not inside and self.program is not None and instance is not self.program:
            return
        path, step = self.names.get(id(instance), ""), _step(instance)
        span = Span(
            call_id,
            parent if inside else "",
            kind,
            step.rpartition(".")[2] or _name(instance, path, kind),
            step,
            path,
            time.time(),
            threading.current_thread().name,
            inputs=self.shown(_still(inputs)) if self.shown else None,
            sizes=(size(inputs), 0),
            version=getattr(getattr(instance, "version", None), "number", ""),
            _started=time.perf_counter(),
        )
        with self._lock:
            self._spans[call_id] = span

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
        with self._lock:
            span = self._spans.get(call_id)
        if span is None:
            return
        span.seconds = time.perf_counter() - span._started
        span.sizes = (span.sizes[0], size(outputs))
        if self.shown:
            span.outputs = self.shown(_still(outputs))
        if exception is not None:
            span.error = told(exception)[:200]

    def _add(self, call_id: str, *, calls: int = 0, cached: int = 0, tokens: tuple[int, int] | None = None) -> None:
        """Count for a call and for all inside which it was made."""
        with self._lock:
            while span := self._spans.get(call_id):
                span.calls += calls
                span.cached += cached
                if tokens:
                    before = span.tokens or (0, 0)
                    span.tokens = (before[0] + tokens[0], before[1] + tokens[1])
                call_id = span.parent


class _Usage:
    """Stands where DSPy keeps its usage tracker and tells the recorder what each call took."""

    def __init__(self, recorder: Recorder, before: Any) -> None:
        self.recorder, self.before = recorder, before
        self.usage_data = before.usage_data if before is not None else defaultdict(lambda: deque(maxlen=0))

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Usage":
        return self

    def add_usage(self, lm: str, usage: dict[str, Any]) -> None:
        """A model has answered."""
        if not isinstance(dspy.settings.get(USAGE), _Counted):
            self.recorder.used(usage)
        if self.before is not None:
            self.before.add_usage(lm, usage)

    def get_total_tokens(self) -> dict[str, dict[str, Any]]:
        """Of the tracker that was there."""
        return self.before.get_total_tokens() if self.before is not None else {}


class _Counted:
    """Stands where cascade's gateway counts what an evaluation takes; it hears of answers from the ledger as well."""

    def __init__(self, recorder: Recorder, before: Any) -> None:
        self.recorder, self.before = recorder, before

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Counted":
        return self

    def add(self, input_tokens: int, output_tokens: int, cost_usd: float | None, **more: Any) -> None:
        """An answer was given."""
        self.recorder.counted(input_tokens, output_tokens, int(bool(more.get("ledger_seconds"))))
        if self.before:
            self.before.add(input_tokens, output_tokens, cost_usd, **more)


@contextmanager
def recording(program: Any = None, shown: Shown | None = None) -> Iterator[Recorder]:
    """Record what a program does inside the block, in all its threads.

    Args:
        program: only its calls; None for everything that is called.
        shown: how inputs and outputs are kept; None keeps none.
    """
    recorder = Recorder(program, shown)

    @contextmanager
    def watch(visit: Visit) -> Iterator[None]:
        token = _STEP.set(visit)
        try:
            yield
        finally:
            _STEP.reset(token)

    context: dict[str, Any] = {
        "callbacks": [*(dspy.settings.callbacks or ()), recorder],
        "usage_tracker": _Usage(recorder, dspy.settings.usage_tracker),
    }
    if USAGE in dspy.settings:
        context[USAGE] = _Counted(recorder, dspy.settings[USAGE])
    with dspy.context(**context), watching(watch):
        yield recorder


def size(value: Any) -> int:
    """Characters of the texts in a value; of what is no text, as it is written."""
    if isinstance(value, LazyPrediction) and value.pending:
        return 0
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dspy.Example):
        return size(dict(value.items()))
    if isinstance(value, Mapping):
        return sum(size(inner) for inner in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(map(size, value))
    return 0 if value is None else len(str(value))


def _still(value: Any) -> Any:
    """The same with predictions as tables, and those that wait to be read as words, so that nobody reads them."""
    if isinstance(value, LazyPrediction) and value.pending:
        return "not computed yet"
    if isinstance(value, dspy.Example):
        return {name: _still(inner) for name, inner in value.items()}
    if isinstance(value, Mapping):
        return {name: _still(inner) for name, inner in value.items()}
    return [_still(inner) for inner in value] if isinstance(value, list | tuple) else value


def _step(instance: Any) -> str:
    """The path of the step as which a flow calls it; "" where none does."""
    visit = _STEP.get()
    if visit is None:
        return ""
    called = visit.call.module
    return visit.step if instance in (called, getattr(called, "member", None)) else ""


def _name(instance: Any, path: str, kind: str) -> str:
    if kind == "lm":
        return str(getattr(instance, "model", "lm"))
    if kind == "tool":
        return str(getattr(instance, "name", "tool"))
    return path.rpartition(".")[2] or type(instance).__name__


def _paths(program: Any) -> dict[int, str]:
    """Where modules stand in the program, by identity."""
    if program is None:
        return {}
    found = ((id(module), name.removeprefix("self").removeprefix(".")) for name, module in program.named_sub_modules())
    return dict(found)
