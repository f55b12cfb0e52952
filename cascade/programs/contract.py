"""What a step takes and gives, as pydantic models that are held to.

Invariant: a step behind a contract is only run on inputs that fit, and only answers what fits; whatever does not is one
line with step, field and value. The version of the step stands in the saved state and in every prediction.
"""

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.predict.parameter import Parameter
from pydantic import BaseModel, ValidationError

from cascade.errors import ProgramError, StepFailed
from cascade.programs.awaiting import awaited
from cascade.programs.calling import PLACE, Place, prediction_of
from cascade.programs.flow import told
from cascade.programs.ports import Port, Ports, gives_of, takes_of
from cascade.programs.wrapper import VERSIONS, Wrapper, reserve

_LONGEST = 120
Model = type[BaseModel]


class Version(Parameter):  # type: ignore[misc]
    """The version of a step, as a part of a program's state: a state of another version is not loaded."""

    def __init__(self, number: str) -> None:
        self.number = number

    def reset(self) -> None:
        """Nothing is learned."""

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:  # noqa: ARG002
        """The version."""
        return {"version": self.number}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Compare; raises `ProgramError` where the state is of another version."""
        if state.get("version") != self.number:
            raise ProgramError(
                f"A state of step version {state.get('version')!r} does not fit step version {self.number!r}. "
                "Optimize the program again, or build the step with that version."
            )


class ContractBroken(StepFailed):
    """A step was given, or gave, what its contract does not allow.

    Args:
        field: the first that does not fit.
    """

    def __init__(self, message: str, step: str = "", field: str = "") -> None:
        super().__init__(message)
        self.step, self.field = step, field


class Contract(Wrapper):
    """A module with models of what it takes and gives.

    >>> from pydantic import Field
    >>> from cascade.programs import Step
    >>> class Rated(BaseModel):
    ...     stars: int = Field(ge=1, le=5)
    >>> step = Contract(Step(lambda text: {"stars": "4"}), gives=Rated, version="2")
    >>> step(text="Good.")
    Prediction(
        stars=4,
        step_versions={'Contract': '2'}
    )

    Values arrive as the models make them (the text above became a number). What a model does not name passes as it is,
    unless the model forbids it (`extra="forbid"`).

    Args:
        takes: model of the inputs.
        gives: model of the outputs.
        version: a text; kept in the state, in predictions (`step_versions`) and in traces.
    """

    def __init__(
        self, module: Any, *, takes: Model | None = None, gives: Model | None = None, version: str = "1"
    ) -> None:
        super().__init__(module)
        for name, model in (("takes", takes), ("gives", gives)):
            if model is not None and not (isinstance(model, type) and issubclass(model, BaseModel)):
                raise ProgramError(f"Contract(…, {name}={model!r}): a pydantic model class is needed.")
        self.model_in, self.model_out, self.version = takes, gives, Version(str(version))
        reserve(VERSIONS, self.module, "The step in a contract")
        _fit("takes", "does not take", takes, takes_of(self.module))
        _fit("gives", "does not give", gives, gives_of(self.module))

    @property
    def takes(self) -> Ports | None:
        """The module's, as the model types them."""
        inside = takes_of(self.module)
        if inside is None and self.model_in is None:
            return None
        return {**(inside or {}), **_ports(self.model_in), VERSIONS: Port(dict, sure=False)}

    @property
    def gives(self) -> Ports | None:
        """The module's, as the model types them, and the versions."""
        inside = gives_of(self.module)
        if inside is None and self.model_out is None:
            return None
        return {**(inside or {}), **_ports(self.model_out), VERSIONS: Port(dict)}

    def forward(self, **fields: Any) -> Any:
        """Check, run, check; raises `ContractBroken`."""
        before, fields = self._taken(fields)
        return self._given(prediction_of(self.module(**fields), _step() or type(self).__name__), before)

    async def aforward(self, **fields: Any) -> Any:
        """The same, awaited."""
        before, fields = self._taken(fields)
        return self._given(prediction_of(await awaited(self.module, fields), _step() or type(self).__name__), before)

    def _taken(self, fields: Mapping[str, Any]) -> tuple[Mapping[str, str], dict[str, Any]]:
        before = fields.get(VERSIONS) or {}
        fields = {name: value for name, value in fields.items() if name != VERSIONS}
        return before, _checked(self.model_in, fields, "was given")

    def _given(self, prediction: Any, before: Mapping[str, str]) -> Any:
        fields = dict(prediction)
        for name, value in _checked(self.model_out, fields, "gave").items():
            prediction[name] = value
        prediction[VERSIONS] = {**before, _step() or type(self).__name__: self.version.number}
        return prediction


def _step() -> str:
    return ".".join(dspy.settings.get(PLACE, Place()).path)


def _checked(model: Model | None, fields: Mapping[str, Any], verb: str) -> dict[str, Any]:
    """The fields, in the types of the model."""
    if model is None:
        return dict(fields)
    try:
        held = model.model_validate(dict(fields))
    except ValidationError as error:
        raise _broken(error, verb) from None
    return {**fields, **{name: getattr(held, name) for name in model.model_fields}}


def _broken(error: ValidationError, verb: str) -> ContractBroken:
    """The first of the errors, in a line."""
    first, step = error.errors(include_url=False)[0], _step()
    field = ".".join(map(str, first["loc"])) or "all fields together"
    value = "" if first["type"] == "missing" else f" = {_short(first['input'])}"
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = f"Step {step or error.title!r} {verb} {field}{value}: {first['msg']}{more}."
    return ContractBroken(" ".join(message.split()), step, field)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _ports(model: Model | None) -> dict[str, Port]:
    if model is None:
        return {}
    return {name: Port(field.annotation, field.is_required()) for name, field in model.model_fields.items()}


def _fit(which: str, verb: str, model: Model | None, inside: Ports | None) -> None:
    """Refuse a model that asks for fields which the module is known not to have."""
    if model is None or inside is None:
        return
    unknown = [name for name, field in model.model_fields.items() if name not in inside and field.is_required()]
    if unknown:
        raise ProgramError(
            f"Contract(…, {which}={model.__name__}) names {told(unknown)}, which the step {verb}. "
            f"It has: {told(inside)}. Change the model or the step."
        )
