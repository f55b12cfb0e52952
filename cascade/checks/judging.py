"""The metric, tried on the answers that the rows expect: full credit for a row's own, less for another's.

Invariant: nobody is asked, and no row is changed. A metric that asks an LM is stopped at its first call, and is not
checked.
"""

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from cascade.checks.answers import Expected
from cascade.checks.finding import Finding, quoted
from cascade.checks.refusing import refusing
from cascade.dataset import Data
from cascade.errors import MetricError
from cascade.judges import judges_of
from cascade.metrics import Metric, Score
from cascade.redaction import told
from cascade.rows import Row

ROWS = 300
"""Of each split that are tried, evenly spread."""
REPEATED, TIMES = 20, 3
"""Rows whose expected answer is judged again, and how often it is judged in all."""
SECONDS = 10.0
"""After which no further row is tried."""
NEARLY = 0.9
"""Of what expected answers get: where another row's get as much, right is not told from wrong."""
_DRAWS = 20


class _Answer(dspy.Prediction):  # type: ignore[misc]
    """A prediction that notes which fields were asked for in vain."""

    def __init__(self, vain: set[str], fields: dict[str, Any]) -> None:
        self._vain = vain
        super().__init__(**fields)

    def copy(self, **changes: Any) -> dspy.Prediction:
        """A plain prediction: who copies it reads what is there."""
        return dspy.Prediction(**{**dict(self.items()), **changes})

    def __getattr__(self, key: str) -> Any:
        if not key.startswith("_"):
            self._look_for(key)
        return super().__getattr__(key)

    def __getitem__(self, key: str) -> Any:
        self._look_for(key)
        return super().__getitem__(key)

    def __contains__(self, key: str) -> bool:
        self._look_for(key)
        return bool(super().__contains__(key))

    def get(self, key: str, default: Any = None) -> Any:
        """A field."""
        self._look_for(key)
        return super().get(key, default)

    def _look_for(self, key: str) -> None:
        if key not in self.keys():
            self._vain.add(key)


@dataclass
class _Try:
    """A row, the scores of the answer that it expects, and that of an answer that another row expects.

    Args:
        error, other_error: in place of a score.
        vain: fields that the metric looked for and that cannot be made from the row.
    """

    id: str
    row: Row
    own: Score
    again: tuple[float, ...] = ()
    other: float | None = None
    error: Exception | None = None
    other_error: Exception | None = None
    vain: set[str] = field(default_factory=set)


def judging(
    metric: Metric,
    data: Data,
    wanted: Expected,
    lm: Any,
    *,
    returned: Callable[[str], bool] = lambda _: False,
    seconds: float = SECONDS,
) -> list[Finding]:
    """Try the metric on rows of all splits.

    Args:
        lm: that a metric may look at; it is not called.
        returned: whether the program may return a field of this name beside the outputs of its predictors.
        seconds: after which no further row is tried.
    """
    place = f"Metric {metric.name!r}"
    if not wanted.fields:
        said = f"not checked: the rows of dataset {data.name!r} hold nothing but inputs, so no answer is expected."
        return [Finding("note", place, said)]
    if judge := next(judges_of(metric.judge), None):
        return [Finding("note", place, f"not checked: it asks the judge {judge.name!r}, and a check asks nobody.")]
    tries = list[_Try]()
    with refusing(lm) as refusal:
        tries += _tried(metric, _sample(data), wanted, time.monotonic() + seconds)
    if refusal.asked:
        return [Finding("note", place, f"not checked: it asks {refusal.asked}, and a check asks nobody.")]
    vain = sorted(set[str]().union(*(one.vain for one in tries)))
    if vain and any(one.error or one.own.value < 1 for one in tries):
        return [_in_vain(place, vain, tries, wanted, returned)]
    done = [one for one in tries if one.error is None]
    return [
        *_failures(place, tries, wanted),
        *_credit(place, done, wanted),
        *_blindness(place, done, wanted),
        *_chance(place, done, wanted),
    ]


def _sample(data: Data) -> list[tuple[str, Row]]:
    found = []
    for split in data:
        n = min(ROWS, len(split))
        places = [turn * len(split) // n for turn in range(n)]
        found += [(split.ids[place], split.rows[place]) for place in places]
    return found


def _tried(metric: Metric, sample: Sequence[tuple[str, Row]], wanted: Expected, until: float) -> Iterator[_Try]:
    draw, often = random.Random(0), max(1, len(sample) // REPEATED)
    for number, (id_, row) in enumerate(sample):
        if number and time.monotonic() > until:
            return
        one = _Try(id_, row, Score(0.0))
        try:
            one.own = _judged(metric, row, row, wanted, one.vain)
            if number % often == 0:
                more = [_judged(metric, row, row, wanted, one.vain).value for _ in range(TIMES - 1)]
                one.again = (one.own.value, *more)
        except Exception as error:
            one.error = error
        try:
            if other := _another(row, sample, wanted, draw):
                one.other = _judged(metric, row, other, wanted, one.vain).value
        except Exception as error:
            one.other_error = error
        yield one


def _judged(metric: Metric, row: Row, answer: Row, wanted: Expected, vain: set[str]) -> Score:
    """The score that `row` gives to what `answer` expects."""
    example, answer = wanted.example(copy.deepcopy(row)), copy.deepcopy(answer)
    try:
        outputs = wanted.outputs(answer)
    except Exception:  # the row is told of elsewhere
        outputs = {name: answer[name] for name in wanted.fields}
    return metric.score(example, _Answer(vain, outputs))


def _another(row: Row, sample: Sequence[tuple[str, Row]], wanted: Expected, draw: random.Random) -> Row | None:
    """Another row that expects something else, or None if hardly any does."""
    for _ in range(_DRAWS):
        other = draw.choice(sample)[1]
        if any(row[name] != other[name] for name in wanted.compared):
            return other
    return None


def _in_vain(
    place: str, vain: Sequence[str], tries: Sequence[_Try], wanted: Expected, returned: Callable[[str], bool]
) -> Finding:
    """A metric that reads what neither a row nor the program's signature holds."""
    if any(map(returned, vain)):
        said = (
            f"not checked: it reads {vain[0]!r} of the prediction, which cannot be made from the rows of the dataset."
        )
        return Finding("note", place, said)
    hopeless = all(one.error or not one.own.value for one in tries)
    return Finding(
        "error" if hopeless else "warning",
        place,
        f"it reads {vain[0]!r} of the prediction, which the program does not return. Found: "
        f"{', '.join(wanted.field_of or wanted.fields)}. Rename one.",
    )


def _failures(place: str, tries: Sequence[_Try], wanted: Expected) -> Iterator[Finding]:
    """No score for what is expected, or for what another row expects."""
    failed = [(one, one.error) for one in tries if one.error is not None]
    others = [(one, one.other_error) for one in tries if one.other_error is not None]
    if not failed and not others:
        return
    (first, error), whose = (failed or others)[0], "the expected answer" if failed else "what another row expects"
    none = isinstance(error, MetricError)
    reason = str(error) if none else f"it raises {told(error)}."
    yield Finding(
        "error" if failed and (none or len(failed) == len(tries)) else "warning",
        place,
        f"it gives {whose} no score on {len(failed or others):,} of {len(tries):,} rows; on "
        f"{_answer(first, wanted)}: {reason} Correct the metric, or the row.",
    )


def _credit(place: str, tries: Sequence[_Try], wanted: Expected) -> Iterator[Finding]:
    """Less than full credit for what is expected."""
    less = [one for one in tries if one.own.value < 1]
    if less:
        first, types = less[0], wanted.changed(less[0].row)
        never = bool(types) and not any(one.own.value for one in tries)
        said = f" ({quoted(first.own.feedback)})" if first.own.feedback else ""
        fix = types or "Compare what the program returns with what the row holds: names, types, spelling."
        yield Finding(
            "error" if never else "warning",
            place,
            f"it gives the expected answer less than full credit on {len(less):,} of {len(tries):,} rows; "
            f"{_answer(first, wanted)} gets {first.own.value:.3g}{said}. {fix}",
        )
    elif tries:
        yield Finding("note", place, f"all {len(tries):,} expected answers that were tried get full credit.")


def _blindness(place: str, tries: Sequence[_Try], wanted: Expected) -> Iterator[Finding]:
    """As much for what another row expects."""
    pairs = [(one.other, one.own.value) for one in tries if one.other is not None]
    if not pairs:
        return
    other, own = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    said = f"answers that other rows expect get {other:.0%}, the row's own {own:.0%}"
    if own and other >= NEARLY * own:
        fix = f"Compare the prediction with the example's {', '.join(wanted.compared)}."
        yield Finding("warning", place, f"it cannot tell right from wrong: {said}. {fix}")
    else:
        yield Finding("note", place, f"{said}.")


def _chance(place: str, tries: Sequence[_Try], wanted: Expected) -> Iterator[Finding]:
    """Another score for the same answer."""
    changing = next((one for one in tries if len(set(one.again)) > 1), None)
    if changing:
        yield Finding(
            "warning",
            place,
            f"it is not deterministic: {_answer(changing, wanted)} gets "
            f"{', '.join(f'{value:.3g}' for value in changing.again)}. Fix its seed: luck would look like a difference "
            "between programs.",
        )


def _answer(one: _Try, wanted: Expected) -> str:
    held = {name: one.row[name] for name in wanted.compared}
    return f"{quoted(next(iter(held.values())) if len(held) == 1 else held)} of row {one.id!r}"
