"""Two steps as one call of a model.

Invariant: a fused step takes what both steps took from outside and gives what both gave, so it stands where they stood.
Whether it answers as well is another question, which only data answer: see `cascade.adopting`.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from cascade.errors import ProgramError, StepFailed
from cascade.programs.flow import Flow, Steps, call, told
from cascade.programs.ports import Ports, both, chained, gives_of, ports_of, signature_of
from cascade.programs.sequential import Pipeline
from cascade.programs.step import Step, as_step
from cascade.programs.wrapper import Wrapper

_REASONING = "reasoning"
Fields = Mapping[str, Any]


def fuse(first: Any, second: Any, *, keep: bool = True) -> Any:
    """One predictor for two, of which the second takes what the first gives.

    >>> fuse(dspy.Predict("text -> topic"), dspy.Predict("text, topic -> answer")).signature.signature
    'text -> topic, answer'

    The instructions of both are joined, in their order. Demos are dropped: those of two predictors are of two
    questions. If either is a `dspy.ChainOfThought`, so is the result.

    Args:
        first, second: `dspy.Predict` or `dspy.ChainOfThought`.
        keep: fields that the first gave and the second took are outputs still, which the model writes before the
            answer, as it would reason; False drops them, which saves their tokens.

    Raises:
        ProgramError: they are of another kind, the second takes nothing that the first gives, a field has two types
            or two origins, or their models or options differ.
    """
    one, two = _predictor(first), _predictor(second)
    joint = [name for name in one.signature.output_fields if name in two.signature.input_fields]
    if not joint:
        raise _no(
            f"the second takes {told(two.signature.input_fields)}, nothing of which the first gives "
            f"({told(_outputs(one))})"
        )
    inputs = {
        **one.signature.input_fields,
        **_without(two.signature.input_fields, [*joint, *one.signature.input_fields]),
    }
    middle = _without(one.signature.output_fields, () if keep else joint)
    outputs = {**_without(middle, [_REASONING]), **_without(two.signature.output_fields, [_REASONING])}
    _same_types(one, two)
    _one_origin(inputs, outputs, set(_outputs(one)) & set(_outputs(two)))
    thinks = any(isinstance(part, dspy.ChainOfThought) for part in (first, second))
    make = dspy.ChainOfThought if thinks else dspy.Predict
    signature = dspy.Signature(_fields({**inputs, **outputs}), _instructions(one, two, outputs))
    fused = make(signature, **_options(one, two))
    fused.set_lm(one.lm)
    return fused


class Filtered(Flow):
    """A filter, and what changes what passes it: two calls for what passes, one for the rest.

    The fields of the second are None where `passes` is false.

    Args:
        keep: gives `passes`, a truth value.
        change: what is done with what passes.
        passes: the field.
    """

    def __init__(self, keep: Any, change: Any, *, passes: str) -> None:
        super().__init__()
        self.keep, self.change, self.passes = as_step(keep), as_step(change), passes

    @property
    def takes(self) -> Ports | None:
        """What both take from outside."""
        return chained(map(ports_of, self.named_steps().values()))

    @property
    def gives(self) -> Ports | None:
        """What both give."""
        return both(map(gives_of, self.named_steps().values()))

    def steps(self, **fields: Any) -> Steps:
        """Change what passes."""
        said = yield call("keep", self.keep, fields)
        if self.passes not in said:
            raise StepFailed(
                f"The filter gave {told(said)}, not {self.passes!r}. Name the field that says what passes."
            )
        if not said[self.passes]:
            return {**said, **dict.fromkeys(_without(gives_of(self.change) or {}, [_REASONING]))}
        changed = yield call("change", self.change, {**fields, **said})
        return {**said, **changed}


def fuse_filter(keep: Any, change: Any, *, passes: str = "") -> Any:
    """One predictor for a filter and a change: it says whether something passes and, if so, gives it changed.

    Args:
        keep: a predictor with an output of type bool.
        change: a predictor that takes fields of the same question. Its outputs may be None in the fused step.
        passes: the output of `keep` that says it; by default its only one of type bool.

    Raises:
        ProgramError: as `fuse`, or `keep` has no such output.
    """
    one, two = _predictor(keep), _predictor(change)
    bools = [name for name, field in one.signature.output_fields.items() if field.annotation is bool]
    passes = passes or (bools[0] if len(bools) == 1 else "")
    if passes not in bools:
        raise _no(f"the filter has no single output of type bool (it gives {told(_outputs(one))}); name it: passes=…")
    known = [*_outputs(one), *one.signature.input_fields]
    inputs = {**one.signature.input_fields, **_without(two.signature.input_fields, known)}
    optional = {name: _optional(field) for name, field in two.signature.output_fields.items() if name != _REASONING}
    outputs = {**_without(one.signature.output_fields, [_REASONING]), **optional}
    _same_types(one, two)
    _one_origin(inputs, outputs, set(_outputs(one)) & set(_outputs(two)))
    thinks = any(isinstance(part, dspy.ChainOfThought) for part in (keep, change))
    only = f"Give {_ticked(optional)} only if `{passes}` is true, else null."
    signature = dspy.Signature(_fields({**inputs, **outputs}), f"{_instructions(one, two, outputs)}\n\n{only}")
    fused = (dspy.ChainOfThought if thinks else dspy.Predict)(signature, **_options(one, two))
    fused.set_lm(one.lm)
    return Sifted(fused, passes, tuple(optional))


class Sifted(Wrapper):
    """A filter and a change in one predictor, whose changed fields are None where nothing passes, whatever it wrote."""

    def __init__(self, module: Any, passes: str, changed: tuple[str, ...]) -> None:
        super().__init__(module)
        self.passes, self.changed = passes, changed

    def forward(self, **fields: Any) -> Any:
        """Ask it."""
        return self._sifted(self.module(**fields))

    async def aforward(self, **fields: Any) -> Any:
        """The same, awaited."""
        return self._sifted(await self.module.acall(**fields))

    def _sifted(self, said: Any) -> Any:
        return said if said[self.passes] else dspy.Prediction(**{**said, **dict.fromkeys(self.changed)})


def fuse_retrieval(search: Callable[..., Any] | Any, process: Any, *, passages: str, passage: str) -> Pipeline:
    """Search, and process all that was found in one call, in place of one call for each passage.

    What it replaces is `Pipeline(search=search, process=Each(process, over=passages, each=passage))`; both give each
    output of `process` as a list, in the passages' order. A model that answers with more or fewer than there are
    passages fails the step.

    Args:
        search: a function or module that gives `passages`, a list of texts.
        process: a predictor that takes one `passage`.
        passages: the field of the list.
        passage: the field of one of them.

    Raises:
        ProgramError: `process` is no predictor or takes no `passage`.
    """
    one = _predictor(process)
    if passage not in one.signature.input_fields:
        raise _no(f"the second takes {told(one.signature.input_fields)}, not {passage!r}")
    plain = {name: field for name, field in one.signature.input_fields.items() if name != passage}
    asked = {passages: (list[str], dspy.InputField(desc="one entry each"))}
    answers = {
        name: (list[field.annotation], dspy.OutputField(desc=f"for each of {passages}, in the same order"))  # type: ignore[name-defined]
        for name, field in one.signature.output_fields.items()
        if name != _REASONING
    }
    told_once = (
        f"{one.signature.instructions}\n\nDo so for each of `{passages}`, and answer with lists in the same order."
    )
    make = dspy.ChainOfThought if isinstance(process, dspy.ChainOfThought) else dspy.Predict
    fused = make(dspy.Signature({**_fields(plain), **asked, **answers}, told_once), **one.config)
    fused.set_lm(one.lm)
    return Pipeline(
        search=as_step(search, gives=passages), process=fused, check=Step(_Lengths(passages, tuple(answers)))
    )


class _Lengths:
    """Refuses lists that are not as long as that of the passages."""

    def __init__(self, passages: str, answers: tuple[str, ...]) -> None:
        self.passages, self.answers = passages, answers

    def __call__(self, **fields: Any) -> Fields:
        wanted = len(fields[self.passages])
        for name in self.answers:
            if len(fields[name]) != wanted:
                raise StepFailed(f"{len(fields[name])} entries of {name!r} for {wanted} passages: one each is needed.")
        return {name: fields[name] for name in self.answers}


def _predictor(module: Any) -> Any:
    """The predictor of a module that is one, or thinks before one; raises `ProgramError` of any other."""
    if type(module) is dspy.ChainOfThought:
        return module.predict
    if type(module) is dspy.Predict:
        return module
    raise _no(f"{type(module).__name__} is no dspy.Predict and no dspy.ChainOfThought")


def _no(why: str) -> ProgramError:
    return ProgramError(f"The steps cannot be fused: {why}. Leave them as two.")


def _outputs(predictor: Any) -> list[str]:
    return [name for name in signature_of(predictor).output_fields if name != _REASONING]


def _without(fields: Fields, names: Any) -> dict[str, Any]:
    return {name: field for name, field in fields.items() if name not in names}


def _same_types(one: Any, two: Any) -> None:
    """Both must mean the same by a name."""
    ours, theirs = one.signature.fields, two.signature.fields
    for name in ours.keys() & theirs.keys() - {_REASONING}:
        if ours[name].annotation != theirs[name].annotation:
            raise _no(f"{name!r} is {_kind(ours[name])} in the first and {_kind(theirs[name])} in the second")


def _one_origin(inputs: Fields, outputs: Fields, twice: set[str]) -> None:
    if both := [name for name in outputs if name in inputs]:
        raise _no(f"{both[0]!r} is both what they take and what they give")
    if twice:
        raise _no(f"both give {min(twice)!r}")


def _options(one: Any, two: Any) -> dict[str, Any]:
    """Of both; raises `ProgramError` where they differ."""
    if one.lm is not two.lm:
        raise _no("they ask two different models")
    for name in one.config.keys() & two.config.keys():
        if one.config[name] != two.config[name]:
            raise _no(f"their option {name!r} is {one.config[name]!r} and {two.config[name]!r}")
    return {**one.config, **two.config}


def _fields(fields: Fields) -> dict[str, Any]:
    return {name: (field.annotation, field) for name, field in fields.items()}


def _optional(field: Any) -> Any:
    twin = copy.deepcopy(field)
    twin.annotation = field.annotation | None
    return twin


def _kind(field: Any) -> str:
    return str(getattr(field.annotation, "__name__", field.annotation))


def _instructions(one: Any, two: Any, outputs: Fields) -> str:
    given = _ticked(outputs)
    return (
        f"Do two things, one after the other, and give {given}.\n\n"
        f"First: {one.signature.instructions}\n\nThen: {two.signature.instructions}"
    )


def _ticked(names: Fields) -> str:
    return told(names).replace("'", "`")
