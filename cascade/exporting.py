"""A program as plain DSPy JSON, which `program.load(FILE)` reads where cascade is not installed.

Invariant: the file holds what DSPy itself does with it, and no key, header or endpoint; what plain DSPy cannot do is
refused or said, never left out in silence.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError, DefinitionError, ModelError, Refused
from cascade.nearest import STATE as NEAREST
from cascade.redaction import redacted
from cascade.settings import Settings
from cascade.warm import Existing

_SAMPLING = ("temperature", "max_tokens", "top_p", "model_type")
"""Options of an LM that say how it answers and not where it is."""
_MEMBER = re.compile(r"members\[\d+\]\.")
_INSTEAD = "Load it with cascade.mlflow_store.load_program, or export another stage: --run RUN/STAGE."


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        document: as DSPy's `program.save` writes it.
        notes: what who loads it must know, a line each.
    """

    document: Mapping[str, Any]
    notes: tuple[str, ...]


def plain(existing: Existing, settings: Settings) -> Exported:
    """A program's state in DSPy's own form.

    Args:
        settings: whose LMs it runs under; an LM with an endpoint of its own is not written, because a state with
            another endpoint would send what it is asked to somebody else.

    Raises:
        Refused: plain DSPy has no program of this kind.
    """
    from dspy.utils.saving import get_dependency_versions

    state = dict(existing.taken.state)
    _refuse_ours(state)
    models = {name: existing.lms.get(model, model) for name, model in existing.taken.lms.items()}
    written = {name: _lm(model, settings) for name, model in models.items()}
    state = {name: {**part, "lm": written.get(name)} for name, part in state.items()}
    flat = dict(state["self"]) if set(state) == {"self"} else state
    document = {**flat, "metadata": {"dependency_versions": get_dependency_versions()}}
    apart = {name: model for name, model in models.items() if written[name] is None}
    unpinned = [name for name in state if name not in models]
    return Exported(document, tuple(_notes(apart, existing.lms.get("task", "") if unpinned else "", settings)))


def write(exported: Exported, file: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        DefinitionError: its name does not end in `.json`, as DSPy wants it.
        CascadeError: it cannot be written.
    """
    if file.suffix != ".json":
        raise DefinitionError(f"--to {file} does not end in .json, by which DSPy knows what to load. Add it.")
    draft = file.with_name(f".{file.name}.part")
    try:
        draft.write_text(redacted(json.dumps(exported.document, indent=1, ensure_ascii=False)) + "\n", "utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CascadeError(
            f"--to {file} cannot be written ({error.strerror}). Give a file in a folder that exists."
        ) from None


def _refuse_ours(state: Mapping[str, Any]) -> None:
    if any(_MEMBER.match(name) for name in state):
        members = len({name.partition(".")[0] for name in state})
        raise Refused(f"The program is a vote of {members}, which plain DSPy cannot load. {_INSTEAD}")
    for name, part in state.items():
        if said := part.get(NEAREST):
            raise Refused(
                f"The predictor {name!r} shows each question the nearest {said['k']} of {len(said['rows'])} rows, "
                f"which plain DSPy does not do. {_INSTEAD}"
            )


def _lm(model: str, settings: Settings) -> dict[str, Any] | None:
    options = next((spec.options for spec in settings.lm.values() if spec.model == model), {})
    if model.startswith("embedded/") or "api_base" in options:
        return None
    return {"model": model, **{name: options[name] for name in _SAMPLING if name in options}}


def _notes(apart: Mapping[str, str], task: str, settings: Settings) -> Iterator[str]:
    """How to give the program the LMs that are not in the file."""
    for model in dict.fromkeys(apart.values()):
        names = ", ".join(name for name, one in apart.items() if one == model)
        yield f"{names}: give it {_reached(model, settings)}."
    if task:
        others = " all others" if apart else ""
        yield f"Judged{others} under {task!r}: dspy.configure(lm={_reached(task, settings)})."
    if settings.force_format and any(model.startswith("embedded/") for model in (*apart.values(), task)):
        yield "Judged under a grammar that forces the format (force_format), which plain DSPy does not send."


def _reached(model: str, settings: Settings) -> str:
    """A `dspy.LM` in words, and how it is served where it is embedded."""
    if not model.startswith("embedded/"):
        options = next((spec.options for spec in settings.lm.values() if spec.model == model), {})
        return f"dspy.LM({model!r}{', api_base=…' if 'api_base' in options else ''})"
    name = model.removeprefix("embedded/")
    served = f"llama-server -m {_weights(model, settings)} --alias {name} --api-key any"
    return f"dspy.LM('openai/{name}', api_base='http://localhost:8080/v1', api_key='any'), served by `{served}`"


def _weights(model: str, settings: Settings) -> str:
    from cascade.lm.embedded import Models

    try:
        return str(Models(settings.home).path(model))
    except ModelError:
        return f"{model.removeprefix('embedded/')}.gguf"
