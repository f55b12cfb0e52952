"""Again, until it is good enough.

Invariant: what is returned is the best iteration, not the last, and there is a last one.
"""

import math
from collections.abc import Mapping
from typing import Any

from cascade.errors import ProgramError, StepFailed
from cascade.programs.calling import Failed
from cascade.programs.flow import Discard, Flow, Steps, call, told, value_of
from cascade.programs.ports import Port, Ports, both, chained, gives_of, ports_of, takes_of
from cascade.programs.step import as_step

FORMER = "former_"


class Loop(Flow):
    """Runs a step again with what it gave, by field name, and judges each time.

    >>> body = Step(lambda topic, former_text: former_text + topic, gives="text")
    >>> grow = Loop(body, score=lambda text: len(text) / 10, at_least=0.5, limit=9)
    >>> grow(topic="hi").scores
    [0.2, 0.4, 0.6]

    A signature of DSPy cannot have one name on both sides, so what an iteration gave as `text`, the next one may take
    as `former_text`; or as `text`, where that is an input too.

    The prediction holds the fields of the best iteration (of equals the first), its `score`, all `scores`, and why it
    `stopped`: `at_least`, `patience`, `limit` or what failed after an iteration was done. Optimizers learn from the
    best iteration alone.

    Args:
        score: a function that returns a number, or a module that gives `score`; takes the input and what `body` gave by
            name. What else it gives, as `feedback`, the next iteration may take as `former_feedback`.
        at_least: the score that is good enough.
        patience: iterations in a row without a better score after which it stops.
        limit: iterations at most.
        start: what the first iteration takes for what a former one gave; by default "" for text, else None.
    """

    shape = "loop"

    def __init__(
        self,
        body: Any,
        score: Any,
        *,
        at_least: float | None = None,
        patience: int | None = None,
        limit: int = 5,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.body, self.judge = as_step(body), as_step(score, gives="score")
        self.at_least, self.patience, self.limit = at_least, patience, limit
        self.start = dict(start or {})
        self._check()

    @property
    def takes(self) -> Ports | None:
        """What its steps take from outside: nothing that comes from a former iteration."""
        taken = chained([ports_of(self.body), ports_of(self.judge)])
        return None if taken is None else {name: port for name, port in taken.items() if name not in self._former()}

    @property
    def gives(self) -> Ports | None:
        """What its steps give, and how it went."""
        own = {"scores": Port(list), "stopped": Port(str)}
        return both([own, gives_of(self.judge), gives_of(self.body)])

    def steps(self, **fields: Any) -> Steps:
        """Run and judge, until it stops."""
        state: dict[str, Any] = {**self._former(), **fields}
        scores: list[float] = []
        best: tuple[Any, ...] = ()
        stopped = ""
        while not stopped:
            said = judged = None
            try:
                said = yield call("body", self.body, state)
                judged = yield call("judge", self.judge, {**state, **said})
                scores.append(number_of(value_of(judged, "score" if "score" in judged else "", "judge")))
            except Exception as error:
                if not best:
                    raise
                stopped = Failed("body", error).reason
                yield Discard((said, judged))
                break
            worse: tuple[Any, ...] = (said, judged)
            if not best or scores[-1] > max(scores[:-1]):
                worse, best = best, worse
            yield Discard(worse)
            gave = {**judged, **said}
            state = {**state, **gave, **{f"{FORMER}{name}": value for name, value in gave.items()}}
            stopped = self._stops(scores)
        kept, judged = best
        return {**judged, "score": max(scores), "scores": scores, "stopped": stopped, **kept}

    def _former(self) -> dict[str, Any]:
        """What the first iteration takes in place of what a former one gave."""
        taken = (takes_of(self.body) or {}).items()
        empty = {name: "" if port.type in (str, Any) else None for name, port in taken if name.startswith(FORMER)}
        return {**empty, **self.start}

    def _stops(self, scores: list[float]) -> str:
        if self.at_least is not None and scores[-1] >= self.at_least:
            return "at_least"
        if len(scores) >= self.limit:
            return "limit"
        since = len(scores) - 1 - scores.index(max(scores))
        return "patience" if self.patience is not None and since >= self.patience else ""

    def _check(self) -> None:
        if self.limit < 1 or (self.patience is not None and self.patience < 1):
            raise ProgramError(f"A loop has limit={self.limit}, patience={self.patience}. Both are at least 1.")
        takes, gives, judged = takes_of(self.body), gives_of(self.body), gives_of(self.judge)
        if "score" in (gives or {}):
            raise ProgramError("The body of a loop gives 'score', which is where it is judged. Rename that field.")
        if takes is None or gives is None or judged is None or self.limit == 1:
            return
        if not {*gives, *judged} & {name.removeprefix(FORMER) for name in takes}:
            raise ProgramError(
                f"The body of a loop takes {told(takes)} and nothing that it or its score gives "
                f"({told([*gives, *judged])}), so each iteration would be the same. "
                f"Let it take one of them: {FORMER + next(iter(gives), '…')!r}."
            )


def number_of(value: Any) -> float:
    """A score or a confidence; raises `StepFailed` for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise StepFailed(
            f"A score or a confidence is {value!r}, which is no number. Return a number, or declare its field as float."
        )
    return number
