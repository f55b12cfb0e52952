"""What the server takes and gives, as an OpenAPI document.

Invariant: it is made from the form of the program that serves now.
"""

from typing import Any

from cascade.production.serving.feedback import Feedback
from cascade.production.serving.forms import Form

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "request_id": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["field", "message"],
                        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                    },
                },
            },
        }
    },
}
_REASONS = {
    "401": "No token, or a wrong one.", "404": "Not found.", "408": "The body took too long to come.",
    "409": "Enough was said of this answer.",
    "413": "The body is too large.", "415": "The body is no JSON.", "422": "The request does not fit.",
    "502": "The program failed.", "503": "Busy, not ready, or the model does not answer; try again.",
    "504": "The answer took too long.",
}  # fmt: skip
_KEY = {
    "name": "X-Cascade-Key",
    "in": "header",
    "required": False,
    "description": "Whose request it is: in an A/B test the same key is always answered by the same program.",
    "schema": {"type": "string", "maxLength": 256},
}


def document(title: str, version: str, form: Form, *, guarded: bool) -> dict[str, Any]:
    """The document.

    Args:
        version: that serves.
        guarded: whether a token is needed.
    """
    schemas: dict[str, Any] = {"Error": _ERROR}
    inputs, outputs = _taken(form.request, schemas), _taken(form.outputs, schemas)
    schemas["Answer"] = {
        "type": "object",
        "required": ["outputs", "request_id", "version", "arm"],
        "properties": {
            "outputs": outputs,
            "request_id": {"type": "string", "description": "By which feedback refers to the answer."},
            "version": {"type": "string"},
            "arm": {"type": "string", "enum": ["champion", "challenger"]},
        },
    }
    said = _taken(Feedback, schemas)
    schemas["Recorded"] = {
        "type": "object",
        "required": ["recorded", "request_id"],
        "properties": {"recorded": {"const": True}, "request_id": {"type": "string"}},
    }
    guard: dict[str, Any] = {"components": {"schemas": schemas}}
    if guarded:
        guard["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": _paths(inputs, said, guarded=guarded),
        **guard,
    }


def _paths(inputs: dict[str, Any], said: dict[str, Any], *, guarded: bool) -> dict[str, Any]:
    told = ("401",) if guarded else ()
    guard: list[dict[str, list[str]]] = [{"token": []}] if guarded else []
    asked = ("408", "413", "415", "422", "502", "503", "504", *told)
    predict = _operation("Ask the program", _json(_ref("Answer")), asked, body=inputs, parameters=[_KEY])
    feedback = _operation(
        "Say what an answer was worth, or what would have been right",
        _json(_ref("Recorded")),
        ("404", "408", "409", "413", "415", "422", "503", *told),
        body=said,
    )
    ready = _operation("Whether it can answer, and which version serves", _json({"type": "object"}), ("503", *told))
    text = {"text/plain": {"schema": {"type": "string"}}}
    operations: dict[str, dict[str, Any]] = {
        "/predict": {"post": predict},
        "/feedback": {"post": feedback},
        "/healthz": {"get": _operation("Whether the process lives", _json({"type": "object"}), ())},
        "/readyz": {"get": ready},
        "/metrics": {"get": _operation("Counts and durations for Prometheus", text, told)},
    }
    for path, methods in operations.items():
        for operation in methods.values():
            operation["security"] = [] if path == "/healthz" else guard
    return operations


def _operation(
    summary: str,
    content: dict[str, Any],
    problems: tuple[str, ...],
    *,
    body: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "As asked.", "content": content}}
    responses |= {status: {"description": _REASONS[status], "content": _json(_ref("Error"))} for status in problems}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    if parameters:
        operation["parameters"] = parameters
    return operation


def _taken(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A model's schema, its parts among `schemas` under its name, so that no name is there twice."""
    name = model.__name__
    schema = model.model_json_schema(ref_template=f"#/components/schemas/{name}.{{model}}")
    schemas |= {f"{name}.{part}": inner for part, inner in schema.pop("$defs", {}).items()}
    schemas[name] = schema
    return _ref(name)


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
