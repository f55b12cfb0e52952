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


class Loop(Flow):
    """Runs a step again with what it gave, by field name, and judges each time.

    >>> body = Step(lambda text: text + "!", gives="text")
    >>> grow = Loop(body, score=lambda text: len(text) / 10, at_least=0.5, limit=9)
    >>> grow(text="hi").scores
    [0.3, 0.4, 0.5]

    The prediction holds the fields of the best iteration (of equals the first), its `score`, all `scores`, and why it
    `stopped`: `at_least`, `patience`, `limit` or what failed after an iteration was done. Optimizers learn from the
    best iteration alone.

    Args:
        score: a function that returns a number, or a module that gives `score`; takes the input and what `body` gave by
            name. What else it gives, as `feedback`, the next iteration may take.
        at_least: the score that is good enough.
        patience: iterations in a row without a better score after which it stops.
        limit: iterations at most.
        start: what the first iteration takes in place of what a former one gave: `{"draft": ""}`.
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
        self.body, self.score = as_step(body), as_step(score, gives="score")
        self.at_least, self.patience, self.limit = at_least, patience, limit
        self.start = dict(start or {})
        self._check()

    @property
    def takes(self) -> Ports | None:
        """What its steps take from outside, beyond `start`."""
        taken = chained([ports_of(self.body), ports_of(self.score)])
        return None if taken is None else {name: port for name, port in taken.items() if name not in self.start}

    @property
    def gives(self) -> Ports | None:
        """What its steps give, and how it went."""
        own = {"scores": Port(list), "stopped": Port(str)}
        return both([own, gives_of(self.score), gives_of(self.body)])

    def steps(self, **fields: Any) -> Steps:
        """Run and judge, until it stops."""
        state: dict[str, Any] = {**self.start, **fields}
        scores: list[float] = []
        best: tuple[Any, ...] = ()
        stopped = ""
        while not stopped:
            said = None
            try:
                said = yield call("body", self.body, state)
                judged = yield call("score", self.score, {**state, **said})
                scores.append(number_of(value_of(judged, "score" if "score" in judged else "", "score")))
            except Exception as error:
                if not best:
                    raise
                stopped = Failed("body", error).reason
                yield Discard((said,))
                break
            worse: tuple[Any, ...] = (said, judged)
            if not best or scores[-1] > max(scores[:-1]):
                worse, best = best, worse
            yield Discard(worse)
            state = {**state, **judged, **said}
            stopped = self._stops(scores)
        kept, judged = best
        return {**judged, "score": max(scores), "scores": scores, "stopped": stopped, **kept}

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
        takes, gives, judged = takes_of(self.body), gives_of(self.body), gives_of(self.score)
        if "score" in (gives or {}):
            raise ProgramError("The body of a loop gives 'score', which is where it is judged. Rename that field.")
        if takes is None or gives is None or judged is None or self.limit == 1:
            return
        if not {*gives, *judged} & {*takes}:
            raise ProgramError(
                f"The body of a loop takes {told(takes)} and nothing that it or its score gives "
                f"({told([*gives, *judged])}), so each iteration would be the same. Let it take one of them."
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
