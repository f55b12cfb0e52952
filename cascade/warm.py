"""Programs that exist, read as values, and made the first stage of a run.

A program may come from a file that DSPy's `program.save("x.json")` wrote, from an earlier run's journal, or from
MLflow.
Invariant: what is read is JSON and nothing in it is run: no pickle, no class, no function as an embedder. LMs are taken
by their model string alone; their options are those of today's settings.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dspy
from pydantic import BaseModel, TypeAdapter, ValidationError

from cascade.errors import CascadeError, ExperimentError, ModelError, SettingsError
from cascade.experiment import Experiment, Stage
from cascade.journal import Journal, StageRecord
from cascade.lm.lms import LMs
from cascade.nearest import function_in
from cascade.optimizers.start import Brought, Start
from cascade.program import Snapshot, called, fields_of_state, predictor_lms, restore
from cascade.redaction import told

PROGRAM, RECORD, RUN = "program.json", "record.json", "run.json"
_PICKLES = (".pkl", ".pickle")
_AS_JSON = 'Save it as JSON: program.save("x.json").'
_DIFFERENT = "Begin from a program of the same shape, or from scratch."


@dataclass(frozen=True)
class Existing:
    """A program as it was saved.

    Args:
        where: as it can be given again.
        origin: what is shown.
        taken: its state, and a model string by predictor that has an LM of its own.
        lms: model strings by name, as they were when it was judged; empty where that is not known.
        coming: trained weights that are not here yet and that come with it when a run begins.
        ours: it stands in a journal of this project, so that it may name functions of the project.
        factory: the name of what built it, or "".
    """

    where: str
    origin: str
    taken: Snapshot
    lms: Mapping[str, str] = field(default_factory=dict)
    coming: frozenset[str] = frozenset()
    ours: bool = False
    factory: str = ""


class _Field(BaseModel):
    prefix: str
    description: str


class _Signature(BaseModel):
    instructions: str
    fields: list[_Field]


class _Lm(BaseModel):
    model: str


class _Predictor(BaseModel):
    """What a predictor's state must be; what else is in it is kept as it is."""

    signature: _Signature
    demos: list[dict[str, Any]] = []
    lm: _Lm | None = None


_STATES: TypeAdapter[dict[str, dict[str, Any]]] = TypeAdapter(dict[str, dict[str, Any]])


def read_file(where: str | Path, project: Path, home: Path) -> Existing:
    """A program by path: a file that DSPy wrote, or the folder of a run or of one of its stages.

    Args:
        where: relative to `project`.
        home: whose journals are this project's own.

    Raises:
        ExperimentError: it is not there, a pickle, damaged, or holds no program.
    """
    path = project / where
    if (path / RUN).is_file():
        return best_of(Journal(path), str(where))
    file = path / PROGRAM if (path / PROGRAM).is_file() else path
    if file.suffix in _PICKLES or (file / "program.pkl").is_file():
        raise ExperimentError(f"start = {str(where)!r} is a pickle, which can run any code when it is read. {_AS_JSON}")
    own = Journal(file.parent)
    record = own.read(RECORD) if (file.parent / RECORD).is_file() and file.name == PROGRAM else None
    taken = _parsed(_json(file, where), f"start = {str(where)!r}")
    if isinstance(record, Mapping):
        taken = replace(taken, lms={**taken.lms, **_strings(record.get("lms"))})
    ours = file.resolve().is_relative_to(home.resolve() / "runs")
    return Existing(str(where), str(where), taken, ours=ours)


def best_of(journal: Journal, where: str, stage: str = "") -> Existing:
    """The program of a run that was kept last, or that of a stage.

    Args:
        stage: its folder or its name.

    Raises:
        CascadeError: there is none, or the journal is damaged.
    """
    run = journal.run
    judged = [record for record in journal.stages() if (journal.folder / record.folder / PROGRAM).is_file()]
    wanted = [one for one in judged if (stage in (one.folder, one.name) if stage else one.kept == "new")]
    if not wanted:
        found = ", ".join(one.folder for one in judged) or "none"
        raise ExperimentError(
            f"Run {run.id} has no program{f' of a stage {stage!r}' if stage else ''}. Found: {found}."
        )
    record: StageRecord = wanted[-1]
    state = journal.read(f"{record.folder}/{PROGRAM}")
    taken = replace(_parsed(state, f"{journal.folder / record.folder / PROGRAM}"), lms=dict(record.lms))
    factory = str(run.factory.get("name", ""))
    return Existing(where, f"run {run.id}, {record.folder}", taken, run.lms, ours=True, factory=factory)


def begun_from(existing: Existing, experiment: Experiment, lms: LMs) -> Experiment:
    """The experiment with a first stage `start` that brings the program.

    Raises:
        ExperimentError: it does not fit the experiment's program, or an LM that it names is not there.
    """
    module = _fitted(existing, experiment.program, lms)
    stage = Stage("start", Start, program=Brought(module, existing.where, existing.origin))
    return replace(experiment, start=None, stages=(stage, *experiment.stages))


def brought(experiment: Experiment) -> Brought | None:
    """The program that an experiment begins from."""
    first = next(iter(experiment.stages), None)
    return first.options["program"] if first and first.optimizer is Start else None


def _fitted(existing: Existing, factory: Callable[[], Any], lms: LMs) -> Any:
    place = f"start = {existing.where!r}"
    for part in existing.taken.state.values():
        if not existing.ours and (function := function_in(part)):
            raise ExperimentError(f"{place} has the function {function!r} as embedder, which is not run. {_DIFFERENT}")
    from cascade.ensemble import built

    bare = built(factory, existing.taken.state)
    parameters = dict(bare.named_parameters())
    if differs := _difference(existing.taken.state, parameters):
        raise ExperimentError(f"{place} does not fit the program: {differs}. {_DIFFERENT}")
    own = {name: called(lm) for name, lm in predictor_lms(bare).items()}
    state = {
        name: {key: value for key, value in existing.taken.state[name].items() if key in fields_of_state(parameter)}
        for name, parameter in parameters.items()
    }
    named = {name: model for name, model in existing.taken.lms.items() if model not in existing.coming}
    known = {called(lm): lm for lm in predictor_lms(bare).values()}
    made = {model: _lm(model, name, place, lms) for name, model in named.items() if model not in known}
    try:
        return restore(factory, Snapshot(state, {**own, **named}), lambda model: {**known, **made}[model])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ExperimentError(f"{place} does not fit the program: {told(error)}. {_DIFFERENT}") from error


def _lm(model: str, predictor: str, place: str, lms: LMs) -> Any:
    try:
        return lms.by_model(model)
    except (SettingsError, ModelError) as error:
        why = str(error).partition(": ")[2] if isinstance(error, SettingsError) else str(error)
        also = " Weights that a run trained come with its model: models:/NAME/VERSION." if _embedded(model) else ""
        raise ExperimentError(
            f"{place}: its predictor {predictor!r} runs under {model!r}. {why}{also} To run it under the LM 'task', "
            'write "lm": null there.'
        ) from error


def _embedded(model: str) -> bool:
    return model.startswith("embedded/")


def _difference(state: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """The first thing in which a state is not one of these predictors', or ""."""
    here = ", ".join(parameters)
    for name in parameters:
        if name not in state:
            return f"it has no predictor {name!r}. Found: {', '.join(state) or 'none'}"
    for name in state:
        if name not in parameters:
            return f"it has a predictor {name!r}, the program has {here}"
    differences = (_other_fields(name, state[name], one) for name, one in parameters.items())
    return next(filter(None, differences), "")


def _other_fields(name: str, said: Mapping[str, Any], predictor: Any) -> str:
    """States hold no names of fields, but their prefix and description, of which optimizers change one at most."""
    if not isinstance(predictor, dspy.Predict):
        return ""
    if "signature" not in said:
        return f"its predictor {name!r} has no signature"
    saved, fields = said["signature"]["fields"], predictor.signature.fields
    if len(saved) != len(fields):
        return f"its predictor {name!r} has {len(saved)} fields, the program's has {len(fields)}: {', '.join(fields)}"
    for (field_name, one), before in zip(fields.items(), saved, strict=True):
        extra = one.json_schema_extra
        if before["prefix"] != extra["prefix"] and before["description"] != extra["desc"]:
            return f"its predictor {name!r} has a field {before['prefix']!r} where the program has {field_name!r}"
    return ""


def _parsed(document: Any, place: str) -> Snapshot:
    """A state as DSPy saves it, without its LMs but for their model strings."""
    wrong = f"{place} holds no saved DSPy program"
    if not isinstance(document, dict):
        raise ExperimentError(f"{wrong}. {_AS_JSON}")
    state = {name: part for name, part in document.items() if name != "metadata"}
    if "signature" in state and "demos" in state:
        state = {"self": state}  # of a program that is one predictor
    lms: dict[str, str] = {}
    try:
        for name, part in _STATES.validate_python(state).items():
            if "signature" in part and (lm := _Predictor.model_validate(part).lm):
                lms[name] = lm.model
    except ValidationError as error:
        first = error.errors()[0]
        raise ExperimentError(f"{wrong} ({'.'.join(map(str, first['loc']))}: {first['msg']}). {_AS_JSON}") from None
    if not state:
        raise ExperimentError(f"{wrong}: it has no predictor. {_AS_JSON}")
    if bad := next((model for model in lms.values() if "/" not in model), ""):
        raise ExperimentError(f"{place} names the LM {bad!r}. Write it as provider/model, such as openai/{bad}.")
    return Snapshot({name: {**part, "lm": None} for name, part in state.items()}, lms)


def _json(file: Path, where: str | Path) -> Any:
    try:
        content = file.read_bytes()
        if content[:1] == b"\x80":
            raise ExperimentError(
                f"start = {str(where)!r} is a pickle, which can run any code when it is read. {_AS_JSON}"
            )
        return json.loads(content)
    except CascadeError:
        raise
    except OSError as error:
        raise ExperimentError(f"start = {str(where)!r} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise ExperimentError(f"start = {str(where)!r} is not JSON: {told(error)}. {_AS_JSON}") from None


def _strings(value: Any) -> dict[str, str]:
    return {str(name): one for name, one in value.items() if isinstance(one, str)} if isinstance(value, Mapping) else {}
