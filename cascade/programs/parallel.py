"""Several steps at once.

Invariant: branches see the caller's context and LMs, and what they said stands in the caller's trace in their order; a
branch that fails is data, as long as one does not.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from cascade.errors import ProgramError, StepFailed
from cascade.programs.calling import Failed
from cascade.programs.flow import Flow, Steps, Together, call, free_name, told
from cascade.programs.merging import Merge, merge_of
from cascade.programs.ports import Port, Ports, both, gives_of, takes_of
from cascade.programs.step import Step, as_step


class Parallel(Flow):
    """Branches by name, each given what it takes of the same fields.

    >>> counted = Parallel(long=Step(lambda text: len(text), gives="letters"),
    ...                    many=Step(lambda text: len(text.split()), gives="words"))
    >>> counted(text="one two").words
    2

    The prediction holds `failed` (reason by the path of the branch, as a rule empty) and what the merge makes of the
    rest.

    Args:
        merge: `by_name` (every field; two of one name are an error), `first` (the first branch in their order that did
            not fail), `concatenate("field")`, or a function or module that takes the branches' predictions by their
            names (None for one that failed) and what else it takes of the input.
        timeout: seconds that a branch may take, for all or by name; over that it failed. Its thread cannot be ended: it
            may finish the module that it is in, but calls no further step.
        required: branches that must not fail; True for all.
    """

    shape = "branches"

    def __init__(
        self,
        *,
        merge: Any = "by_name",
        timeout: float | Mapping[str, float] | None = None,
        required: bool | Collection[str] = (),
        **branches: Any,
    ) -> None:
        super().__init__()
        self._order = tuple(free_name(name, Parallel, "Branch") for name in branches)
        for name, part in branches.items():
            setattr(self, name, as_step(part))
        strategy = merge_of(merge)
        self._strategy: Merge | None = strategy
        self._merge = None if strategy else as_step(merge)
        self._timeouts = dict(timeout) if isinstance(timeout, Mapping) else dict.fromkeys(branches, timeout)
        self._required = (self._order if required else ()) if isinstance(required, bool) else tuple(required)
        self._check()

    def named_steps(self) -> dict[str, Any]:
        """The branches, then `merge` if it is a step."""
        own = {} if self._merge is None else {"merge": self._merge}
        return {**{name: getattr(self, name) for name in self._order}, **own}

    @property
    def takes(self) -> Ports | None:
        """What the branches take, and the merge beyond them."""
        merge = {} if self._merge is None else takes_of(self._merge)
        rest = None if merge is None else {name: port for name, port in merge.items() if name not in self._order}
        return both([*(takes_of(getattr(self, name)) for name in self._order), rest])

    @property
    def gives(self) -> Ports | None:
        """What the merge gives, and `failed`."""
        found = {name: gives_of(getattr(self, name)) for name in self._order}
        branches = {name: None if ports is None else own(ports) for name, ports in found.items()}
        return both(
            [{"failed": Port(dict)}, self._strategy.gives(branches) if self._strategy else gives_of(self._merge)]
        )

    def steps(self, **fields: Any) -> Steps:
        """All at once, then the merge."""
        calls = [call(name, getattr(self, name), fields, self._timeouts.get(name)) for name in self._order]
        outcomes = dict(zip(self._order, (yield Together(tuple(calls))), strict=True))
        said, failed = parted(outcomes)
        for name in self._required:
            if name not in said:
                raise outcomes[name].error
        refuse_none(said, outcomes)
        if self._strategy:
            merged: Mapping[str, Any] = self._strategy.fields({name: own(one) for name, one in said.items()})
        else:
            plain = {name: said.get(name) for name in self._order}
            if not isinstance(self._merge, Step):
                plain = {name: None if one is None else dict(one) for name, one in plain.items()}
            merged = yield call("merge", self._merge, {**fields, **plain})
        return {"failed": failed, **own(merged)}

    def _check(self) -> None:
        if not self._order:
            raise ProgramError("Parallel has no branches. Name some: Parallel(web=…, wiki=…).")
        for name in [*self._timeouts, *self._required]:
            if name not in self._order:
                raise ProgramError(f"There is no branch {name!r}. Branches: {told(self._order)}.")
        _ = self.gives  # the strategy refuses what collides


class Each(Flow):
    """One step for each item of a list, at most `at_once` at a time.

    >>> lengths = Each(Step(lambda word: len(word), gives="letters"), over="words", each="word")
    >>> lengths(words=["one", "three"]).letters
    [3, 5]

    The prediction holds a list of each field that the step gives, in the order of the items, and `failed` (reason by
    the path of the call, as `body[2]`). Items that failed are not in the lists; if all fail, so does this.

    Args:
        over: the field that is a list.
        each: the field under which the step takes one item.
        timeout: seconds for each.
    """

    shape = "branches"

    def __init__(self, body: Any, *, over: str, each: str, timeout: float | None = None, at_once: int = 8) -> None:
        super().__init__()
        if at_once < 1:
            raise ProgramError(f"Each has at_once={at_once}. At least 1.")
        self.body, self.over, self.each = as_step(body), over, each
        self.timeout, self.at_once = timeout, at_once

    @property
    def takes(self) -> Ports | None:
        """The list, and what else the step takes."""
        taken = takes_of(self.body)
        rest = None if taken is None else {name: port for name, port in taken.items() if name != self.each}
        return both([{self.over: Port(list)}, rest])

    @property
    def gives(self) -> Ports | None:
        """Lists."""
        given = gives_of(self.body)
        lists = None if given is None else {name: Port(list[port.type]) for name, port in given.items()}  # type: ignore[name-defined]
        return both([{"failed": Port(dict)}, lists])

    def steps(self, **fields: Any) -> Steps:
        """In portions."""
        if self.over not in fields:
            raise StepFailed(f"Each needs {self.over!r}, which is not there. There is: {told(fields)}.")
        items = fields[self.over]
        if isinstance(items, str) or not isinstance(items, Sequence):
            raise StepFailed(f"{self.over!r} is {items!r}, which is no list. Declare the field that gives it as one.")
        calls = [call(f"body[{place}]", self.body, {**fields, self.each: item}, self.timeout)
                 for place, item in enumerate(items)]  # fmt: skip
        outcomes: dict[str, Any] = {}
        for portion in _portions(calls, self.at_once):
            answered = yield Together(tuple(portion))
            outcomes |= {one.name: outcome for one, outcome in zip(portion, answered, strict=True)}
        said, failed = parted(outcomes)
        if outcomes:
            refuse_none(said, outcomes)
        names = dict.fromkeys([*(gives_of(self.body) or ()), *(name for one in said.values() for name in dict(one))])
        lists = {name: [one[name] for one in said.values() if name in one] for name in names}
        return {"failed": failed, **own(lists)}


def parted(outcomes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Predictions by name, and reasons of failures by path; what failed inside a branch is told too."""
    said = {name: one for name, one in outcomes.items() if not isinstance(one, Failed)}
    failed = {one.step: one.reason for one in outcomes.values() if isinstance(one, Failed)}
    for one in said.values():
        failed |= one["failed"] if "failed" in one and isinstance(one["failed"], dict) else {}
    return said, failed


def own(said: Any) -> dict[str, Any]:
    """The fields of a branch without what failed in it, which its flow tells once for all."""
    return {name: value for name, value in said.items() if name != "failed"}


def refuse_none(said: Mapping[str, Any], outcomes: Mapping[str, Any]) -> None:
    """Raise `StepFailed` if nobody said anything."""
    if not said:
        reasons = "; ".join(f"{one.step}: {one.reason}" for one in outcomes.values())
        first = next(iter(outcomes.values())).error
        raise StepFailed(f"All of {told(outcomes)} failed. {reasons}") from first


def _portions(calls: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(calls), size):
        yield calls[start : start + size]
