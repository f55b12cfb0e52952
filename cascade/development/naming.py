"""Programs as a person names them: a factory, or one that was saved.

Invariant: a name means one thing. What is a name of the experiment's file is that; then a module's function; then a
file, a model or a run, as `cascade run --from` takes them.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import dspy

from cascade.check import Prepared, prepare
from cascade.discover import import_file
from cascade.errors import CascadeError, ExperimentError
from cascade.existing import MODEL, find
from cascade.experiment import Experiment
from cascade.lm.lms import LMs
from cascade.redaction import told
from cascade.settings import Settings
from cascade.warm import Existing, brought

Factory = Callable[[], Any]


@dataclass(frozen=True)
class Rival:
    """A program that is to be judged beside others.

    Args:
        label: as it was named.
        program: a module, or None for what `prepared` builds.
        selected: it came out of a search, so that its dev score may flatter it.
    """

    label: str
    prepared: Prepared
    program: Any
    selected: bool = False


def rival(name: str, experiment: Experiment, settings: Settings, lms: LMs) -> Rival:
    """The program that is meant by `name`.

    Args:
        name: a factory in the experiment's file; `MODULE:FACTORY`, with a module that is installed or a file of the
            project that ends in `.py`; else what `cascade.existing.find` takes.
        experiment: whose data, metric and LMs it is judged under.

    Raises:
        DefinitionError: there is no such program, or it does not fit the data.
    """
    bare = replace(experiment, stages=(), start=None, headroom=None, target=None)
    if factory := _factory(name, experiment, settings.project):
        prepared = prepare(replace(bare, program=factory), settings, lms)
        return Rival(name, prepared, prepared.program)
    existing = _existing(name, experiment, settings)
    own = _in_file(existing.factory, experiment) if existing.factory.isidentifier() else None
    bare = replace(bare, program=own or experiment.program, start=existing.where)
    prepared = prepare(bare, settings, lms, lambda _: existing)
    found = brought(prepared.experiment)
    return Rival(name, prepared, found.module if found else prepared.program, selected=True)


def under_program(experiment: Experiment, name: str, project: Path) -> Experiment:
    """The experiment with another program in the place of its own.

    Args:
        name: a factory in the experiment's file, or `MODULE:FACTORY`, as for `rival`.

    Raises:
        ExperimentError: there is no such factory.
    """
    if factory := _factory(name, experiment, project):
        return replace(experiment, program=factory)
    raise ExperimentError(
        f"--program {name} is no factory in experiments/{experiment.name}.py (found: "
        f"{', '.join(factories(experiment)) or 'none'}). Give one, or MODULE:FACTORY; what was saved is for --from."
    )


def factories(experiment: Experiment) -> list[str]:
    """Names of the factories that the experiment's file defines, as far as that can be told without running them.

    A class of modules, or a function that says it returns one, that needs no argument and has no name that begins with
    `_`. A second name of the same is left out.
    """
    module, found = _module(experiment), dict[int, str]()
    for name, value in vars(module).items():
        own = not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
        if value is experiment.program or (own and _makes_program(value)):
            found.setdefault(id(value), name)
    return list(found.values())


def _makes_program(value: Any) -> bool:
    is_class = isinstance(value, type)
    made = value if is_class else _returned(value)
    if not (isinstance(made, type) and issubclass(made, dspy.Module)):
        return False
    called, given = (value.__init__, (value,)) if is_class else (value, ())
    try:
        inspect.signature(called).bind(*given)
    except (TypeError, ValueError):
        return False
    return True


def _returned(value: Any) -> Any:
    """What a function says it returns, also where annotations are kept as text; None where it says nothing."""
    try:
        return get_type_hints(value).get("return")
    except Exception:  # a name in an annotation that is not there, or no function
        return None


def _factory(name: str, experiment: Experiment, project: Path) -> Factory | None:
    if name.isidentifier():
        return _in_file(name, experiment)
    place, _, attribute = name.rpartition(":")
    if not place or not attribute.isidentifier():
        return None
    module = _imported(place, project, name)
    found: Factory | None = getattr(module, attribute, None)
    if not callable(found):
        raise ExperimentError(f"--program {name}: {place} has no factory {attribute!r}. Give a class or a function.")
    return found


def _in_file(name: str, experiment: Experiment) -> Factory | None:
    found = getattr(_module(experiment), name, None)
    return found if callable(found) else None


def _module(experiment: Experiment) -> Any:
    return sys.modules[f"experiments.{experiment.name}"]


def _imported(place: str, project: Path, name: str) -> Any:
    if place.endswith(".py"):
        path = (project / place).resolve()
        if not path.is_file():
            raise ExperimentError(f"--program {name}: there is no file {place!r} in {project}.")
        return import_file(path, ".".join(("programs", *path.with_suffix("").parts[1:])))
    try:
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise ExperimentError(
            f"--program {name}: {place!r} cannot be imported ({told(error)}). Give an installed module, or a file such "
            "as experiments/other.py:Name."
        ) from None


def _existing(name: str, experiment: Experiment, settings: Settings) -> Existing:
    try:
        return find(name, experiment.name, settings)
    except CascadeError as error:
        if name.startswith(MODEL) or not isinstance(error, ExperimentError) or "as a run" not in str(error):
            raise
        raise ExperimentError(
            f"--program {name} is no factory in experiments/{experiment.name}.py (found: "
            f"{', '.join(factories(experiment)) or 'none'}), no file, no model (models:/NAME@ALIAS) and no run of "
            f"{experiment.name!r}."
        ) from None
