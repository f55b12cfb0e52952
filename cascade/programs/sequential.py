"""One step after the other.

Invariant: state flows by field name. A step is given what it takes of all fields so far; what it gives is added, and
of two fields of one name the later counts.
"""

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.signatures.signature import ensure_signature

from cascade.errors import ProgramError, StepFailed
from cascade.programs.flow import Flow, Steps, added, call, free_name, told
from cascade.programs.ports import Ports, both, chained, gives_of, ports_of, takes_of
from cascade.programs.step import as_step


class Renamed(Flow):
    """A step under other names of fields, where two steps call one thing differently.

    >>> search = Step(lambda query: [query], gives="found")
    >>> Renamed(search, takes={"query": "question"}, gives={"found": "passages"})(question="why").passages
    ['why']

    Args:
        takes: name outside by name inside.
        gives: name outside by name inside.
    """

    def __init__(
        self, part: Any, takes: Mapping[str, str] | None = None, gives: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.part = as_step(part)
        self._outside, self._given = dict(takes or {}), dict(gives or {})
        for names, known in ((self._outside, takes_of(self.part)), (self._given, gives_of(self.part))):
            if known is not None and (lost := [name for name in names if name not in known]):
                raise ProgramError(f"Renamed names {told(lost)}, which its step does not have. It has: {told(known)}.")

    @property
    def takes(self) -> Ports | None:
        """Under the names outside."""
        known = takes_of(self.part)
        return None if known is None else _under(self._outside, known)

    @property
    def gives(self) -> Ports | None:
        """Under the names outside."""
        known = gives_of(self.part)
        return None if known is None else _under(self._given, known)

    def steps(self, **fields: Any) -> Steps:
        """Rename, call, rename."""
        hidden = set(self._outside.values()) - set(self._outside)
        state = {name: value for name, value in fields.items() if name not in hidden}
        inside = {name: fields[outside] for name, outside in self._outside.items() if outside in fields}
        said = yield call("part", self.part, {**state, **inside})
        return _under(self._given, said)


class Pipeline(Flow):
    """Named steps in their order.

    >>> double = Pipeline("text -> words", count=Step(lambda text: len(text.split()), gives="words"))
    >>> double(text="one two").words
    2

    The prediction holds every field that a step gave, those of the last step (or of the signature) last.

    Args:
        signature: fields in and out, as of a predictor. With it, a step that needs what is not there is an error here;
            without it, what no step gives must come from outside.
        steps: modules or functions by name. The names are attributes: `pipeline.retrieve`.
    """

    def __init__(self, signature: Any = None, /, **steps: Any) -> None:
        super().__init__()
        self._order = tuple(free_name(name, Pipeline) for name in steps)
        self._signature = None if signature is None else ensure_signature(signature)
        for name, part in steps.items():
            setattr(self, name, as_step(part))
        self._check()

    def named_steps(self) -> dict[str, Any]:
        """The steps in their order."""
        return {name: getattr(self, name) for name in self._order}

    def add(self, **steps: Any) -> "Pipeline":
        """A pipeline with these steps at the end."""
        return Pipeline(self._signature, **self.named_steps(), **self._new(steps))

    def insert(self, *, before: str = "", after: str = "", **steps: Any) -> "Pipeline":
        """A pipeline with these steps before, or after, a step."""
        if bool(before) == bool(after):
            raise ProgramError(f"insert(before={before!r}, after={after!r}) names no place. Give one of the two.")
        place = self._order.index(self._known(before or after)) + bool(after)
        old = list(self.named_steps().items())
        return Pipeline(self._signature, **dict([*old[:place], *self._new(steps).items(), *old[place:]]))

    def replace(self, **steps: Any) -> "Pipeline":
        """A pipeline with other modules under the names of these steps."""
        return Pipeline(self._signature, **{**self.named_steps(), **{self._known(name): steps[name] for name in steps}})

    def without(self, *names: str) -> "Pipeline":
        """A pipeline without these steps."""
        gone = {self._known(name) for name in names}
        return Pipeline(
            self._signature, **{name: part for name, part in self.named_steps().items() if name not in gone}
        )

    @property
    def takes(self) -> Ports | None:
        """Of the signature; else what its steps need and none before gives."""
        if self._signature:
            return takes_of(dspy.Predict(self._signature))
        return chained(map(ports_of, self.named_steps().values()))

    @property
    def gives(self) -> Ports | None:
        """What its steps give; None if one does not say."""
        return both(map(gives_of, self.named_steps().values()))

    def steps(self, **fields: Any) -> Steps:
        """Call them, one after the other."""
        given: dict[str, Any] = {}
        for name, part in self.named_steps().items():
            said = yield call(name, part, {**fields, **given})
            given = added(given, said)
        wanted = self._signature.output_fields if self._signature else ()
        if missing := [field for field in wanted if field not in given]:
            raise StepFailed(f"No step of the pipeline gave {told(missing)}. They gave: {told(given)}.")
        return {**{field: value for field, value in given.items() if field not in wanted},
                **{field: given[field] for field in wanted}}  # fmt: skip

    def _check(self) -> None:
        if not self._order:
            raise ProgramError("A pipeline has no steps. Name some: Pipeline(answer=dspy.Predict(…)).")
        if self._signature is None:
            return
        there, known = dict(self.takes or {}), True
        for name, part in self.named_steps().items():
            missing = [field for field, port in (takes_of(part) or {}).items() if port.wanted and field not in there]
            if missing and known:
                raise ProgramError(
                    f"Step {name!r} needs {told(missing)}, which is neither an input nor given by a step before it. "
                    f"There is: {told(there)}. Add a step that gives it, or put it into the signature."
                )
            gives = gives_of(part)
            known = known and gives is not None
            there |= gives or {}
        missing = [field for field in self._signature.output_fields if field not in there]
        if missing and known:
            raise ProgramError(
                f"No step of the pipeline gives {told(missing)} of its signature. They give: {told(there)}."
            )

    def _new(self, steps: Mapping[str, Any]) -> Mapping[str, Any]:
        if double := [name for name in steps if name in self._order]:
            raise ProgramError(f"The pipeline has a step {double[0]!r} already. Use replace({double[0]}=…).")
        return steps

    def _known(self, name: str) -> str:
        if name not in self._order:
            raise ProgramError(f"The pipeline has no step {name!r}. It has: {told(self._order)}.")
        return name


def _under(names: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}
