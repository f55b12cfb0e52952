"""Typed requests and responses out of a program's signatures.

Invariant: a form is made from the program that answers, so what a request may hold is what that program takes; the
types of the signature are kept, nested ones too.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import to_jsonable_python

from cascade.mlflow_store.programs import Program
from cascade.production.live import Served
from cascade.redaction import told

USER = "user"
"""Field of a request by which A/B tests stick, where the program has no input of that name."""
Extra = Literal["allow", "forbid"]
_UNFIT = "The request does not fit the program's inputs."
Key = Annotated[str, Field(max_length=256)]


class WrongRequest(Exception):
    """A request that does not fit; `details` say where and why."""

    def __init__(self, message: str, details: list[dict[str, str]]) -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Form:
    """What one program is asked and answers.

    Args:
        inputs: names of the program's inputs, and whether it can do without.
        request: model of a request: the inputs, and `user`.
        outputs: model of the outputs that its signature has.
    """

    inputs: Mapping[str, bool]
    request: type[BaseModel]
    outputs: type[BaseModel]

    @classmethod
    def of(cls, program: Program) -> "Form":
        """The form of a program out of MLflow."""
        needed = _inputs(program)
        given, answered = _annotations(program, "input_fields"), _annotations(program, "output_fields")
        asked = {name: given.get(name, Any) for name in needed}
        optional = {name for name, required in needed.items() if not required}
        if USER not in needed:
            asked[USER] = Key
            optional.add(USER)
        named = program.config["outputs"]
        outputs = {name: answered.get(name, Any) for name in named}
        # A program may return other fields than its last predictor: then those are its outputs, of whatever type.
        return cls(needed, _model("Inputs", asked, optional, "forbid"), _model("Outputs", outputs, set(named), "allow"))

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of a request; equal schemas take the same requests."""
        return self.request.model_json_schema()

    def read(self, body: bytes) -> tuple[dict[str, Any], str]:
        """Inputs of a request, in the types of the signature, and its user, or "".

        Raises:
            WrongRequest: the body is no JSON object, or does not fit.
        """
        try:
            asked = self.request.model_validate_json(body, strict=True)
        except ValidationError as error:
            raise WrongRequest(_UNFIT, details_of(error)) from None
        except Exception as error:  # of a type's own validator
            raise WrongRequest(_UNFIT, [{"field": "", "message": told(error)}]) from None
        values = {field.alias or name: getattr(asked, name) for name, field in _fields(asked)}
        user = values.get(USER, "")
        return {name: values[name] for name in self.inputs if name in values}, user if isinstance(user, str) else ""

    def checked(self, name: str, value: Any) -> Any:
        """A JSON value as the program would give it in this output field; raises `WrongRequest` where it cannot."""
        known = self._types.get(name)
        try:
            found = to_jsonable_python(known.validate_python(value), fallback=str) if known else value
            json.dumps(found, allow_nan=False)  # pydantic reads NaN, which no JSON has
        except Exception as error:
            said = details_of(error) if isinstance(error, ValidationError) else [{"field": "", "message": told(error)}]
            details = [{**one, "field": f"outputs.{name}.{one['field']}".strip(".")} for one in said]
            raise WrongRequest(_UNFIT, details) from None
        return found

    def write(self, prediction: Any) -> dict[str, Any]:
        """Output fields of a prediction as JSON values; raises `ValueError` where one is not of its type."""
        found = prediction.toDict() if hasattr(prediction, "toDict") else {"prediction": prediction}
        types = self._types
        wanted = {name: types[name].validate_python(found[name]) for name in types if name in found}
        return dict(to_jsonable_python(wanted or found, fallback=str, inf_nan_mode="null"))

    @cached_property
    def _types(self) -> dict[str, TypeAdapter[Any]]:
        fields: dict[str, Any] = dict(self.outputs.model_fields)
        return {field.alias: TypeAdapter(field.annotation) for field in fields.values()}


def form_of(served: Served) -> Form:
    """The form of a version, made once."""
    if served.form is None:
        served.form = Form.of(served.program)
    form: Form = served.form
    return form


def _inputs(program: Program) -> dict[str, bool]:
    """Whether each input must be given."""
    _, *own = inspect.signature(type(program.module).forward).parameters.values()
    forward = {one.name: one for one in own if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    names = program.config["inputs"] or forward
    return {name: name not in forward or forward[name].default is inspect.Parameter.empty for name in names}


def _annotations(program: Program, side: str) -> dict[str, Any]:
    """Types of fields by name, the first predictor's inputs and the last one's outputs before those of others."""
    predictors = program.module.predictors()
    found: dict[str, Any] = {}
    for predictor in reversed(predictors) if side == "input_fields" else predictors:
        found |= {name: field.annotation for name, field in getattr(predictor.signature, side).items()}
    return {name: annotation for name, annotation in found.items() if _speaks_json(annotation)}


def _speaks_json(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).json_schema()
    except Exception:  # a type of somebody else's, which pydantic does not know: it is not checked
        return False
    return True


def _model(name: str, types: Mapping[str, Any], optional: set[str], extra: Extra) -> type[BaseModel]:
    """A model whose attributes cannot be taken for pydantic's own, whatever the fields are called."""
    fields: dict[str, Any] = {}
    for number, (field, annotation) in enumerate(types.items()):
        shown = Field(alias=field, title=field)
        if field in optional:
            shown = Field(None, alias=field, title=field, json_schema_extra=without_default)
        fields[f"field_{number}"] = (annotation, shown)
    config = ConfigDict(extra=extra, protected_namespaces=(), allow_inf_nan=False)
    return create_model(name, __config__=config, **fields)


def without_default(schema: dict[str, Any]) -> None:
    """For the schema of a field that may be left out, and not be null."""
    del schema["default"]


def _fields(asked: BaseModel) -> list[tuple[str, Any]]:
    """Fields that were given."""
    return [(name, field) for name, field in type(asked).model_fields.items() if name in asked.model_fields_set]


def details_of(error: ValidationError) -> list[dict[str, str]]:
    """Where a value does not fit and why, without the value."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{"field": ".".join(map(str, one["loc"])), "message": one["msg"][:200]} for one in found[:10]]
