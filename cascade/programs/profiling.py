"""Where a program's time and tokens go, by step and by predictor.

Invariant: nothing is built into the program; what a model did not tell is unknown and not zero.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import ProgramError
from cascade.programs.recording import Recorder, Span, recording

if TYPE_CHECKING:
    import pandas as pd

By = Literal["step", "predictor"]
WHOLE = "program"
"""The name of the row for the program itself."""


@dataclass(frozen=True)
class Row:
    """What all calls of a step took.

    Args:
        name: the step's path, as in `research.retrieve`, or the predictor's, as in `named_predictors()`.
        calls, errors: how often it was called, and failed.
        seconds: of all calls, what is called inside included; of steps that run at once each counts its own.
        own_seconds: without what is called inside.
        share: of the program's seconds, from 0; steps that run at once add up to more than 1.
        p50, p95: seconds a call, by nearest rank.
        lm_calls, lm_calls_cached: made inside, and how many of them cascade's ledger answered, at no time.
        input_tokens, output_tokens: None where no model told; what DSPy's own cache answers takes none.
        chars_in, chars_out: characters of all fields in and out.
    """

    name: str
    calls: int
    errors: int
    seconds: float
    own_seconds: float
    share: float
    p50: float
    p95: float
    lm_calls: int
    lm_calls_cached: int
    input_tokens: int | None
    output_tokens: int | None
    chars_in: int
    chars_out: int


class Profile:
    """What was recorded; it may be read while the program runs.

    Args:
        recorder: of `cascade.programs.recording`.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def rows(self, by: By = "step") -> list[Row]:
        """The program first, then each step or predictor in the order of its first call.

        Raises:
            ProgramError: `by` is another word.
        """
        if by not in ("step", "predictor"):
            raise ProgramError(f"A profile by {by!r} is not known. Give by='step' or by='predictor'.")
        spans = [span for span in self._recorder.spans if span.seconds is not None]
        groups = _groups(spans, by)
        inside: dict[str, float] = defaultdict(float)
        for span in spans:
            inside[span.parent] += span.seconds or 0.0
        whole = math.fsum(span.seconds or 0.0 for span in groups.get(WHOLE, ()))
        return [_row(name, group, inside, whole) for name, group in groups.items()]

    def table(self, by: By = "step") -> "pd.DataFrame":
        """The same as a pandas frame, with a column for each field of `Row`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows(by)], columns=list(Row.__dataclass_fields__))

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """Both as plain values."""
        return {f"by_{by}": [asdict(row) for row in self.rows(by)] for by in ("step", "predictor")}


@contextmanager
def profile(program: Any) -> Iterator[Profile]:
    """Profile what a program does inside the block, in all its threads.

    >>> from cascade.programs import Pipeline, Step
    >>> program = Pipeline(count=Step(lambda text: len(text), gives="n"), double=Step(lambda n: 2 * n, gives="m"))
    >>> with profile(program) as p:
    ...     _ = program(text="four"), program(text="seven!")
    >>> [(row.name, row.calls) for row in p.rows()]
    [('program', 2), ('count', 2), ('double', 2)]
    """
    with recording(program) as recorder:
        yield Profile(recorder)


def _groups(spans: Sequence[Span], by: By) -> dict[str, list[Span]]:
    groups: dict[str, list[Span]] = {WHOLE: [span for span in spans if not span.parent]}
    flows = any(span.step for span in spans)
    for span in spans:
        if by == "predictor":
            name = (span.path or span.name) if span.kind == "predictor" else ""
        else:
            name = span.step if flows else span.path if span.kind in ("module", "predictor") else ""
        if name and (span.parent or by == "predictor"):
            groups.setdefault(name, []).append(span)
    return groups if groups[WHOLE] else {}


def _row(name: str, group: Sequence[Span], inside: dict[str, float], whole: float) -> Row:
    times = sorted(span.seconds or 0.0 for span in group)
    known = [span.tokens for span in group if span.tokens is not None]
    return Row(
        name=name,
        calls=len(group),
        errors=sum(bool(span.error) for span in group),
        seconds=math.fsum(times),
        own_seconds=math.fsum(max(0.0, (span.seconds or 0.0) - inside[span.id]) for span in group),
        share=math.fsum(times) / whole if whole else 0.0,
        p50=_quantile(times, 0.5),
        p95=_quantile(times, 0.95),
        lm_calls=sum(span.calls for span in group),
        lm_calls_cached=sum(span.cached for span in group),
        input_tokens=sum(tokens[0] for tokens in known) if known else None,
        output_tokens=sum(tokens[1] for tokens in known) if known else None,
        chars_in=sum(span.sizes[0] for span in group),
        chars_out=sum(span.sizes[1] for span in group),
    )


def _quantile(ordered: Sequence[float], quantile: float) -> float:
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
