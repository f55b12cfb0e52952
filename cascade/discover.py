"""Experiments by name: files in `experiments/`, and the hash that says whether two runs ran the same thing.

Invariant: a file is imported only when it is asked for, by path, and nothing else of the project becomes importable.
"""

import dataclasses
import difflib
import hashlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from cascade.dataset import Data
from cascade.errors import CascadeError, ExperimentError
from cascade.experiment import Experiment
from cascade.sources import judge_code, reachable, statements


def names(project: Path) -> list[str]:
    """Names of all experiments of a project, sorted."""
    return sorted(path.stem for path in (project / "experiments").glob("*.py") if not path.stem.startswith("_"))


def discover(name: str, project: Path) -> Experiment:
    """Import `experiments/NAME.py` and return its `experiment`, named after the file.

    Raises:
        ExperimentError: no such file, a file that does not import, or one without an `experiment`.
    """
    path = project / "experiments" / f"{name}.py"
    if name not in names(project):
        close = difflib.get_close_matches(name, names(project), 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        found = ", ".join(names(project)) or "none"
        raise ExperimentError(f"There is no experiment {name!r} in {project / 'experiments'}.{hint} Found: {found}.")
    module = import_file(path, f"experiments.{name}")
    experiment = getattr(module, "experiment", None)
    if not isinstance(experiment, Experiment):
        raise ExperimentError(f"experiments/{name}.py defines no `experiment`. Add experiment = Experiment(…).")
    hypothesis = inspect.cleandoc(module.__doc__ or "")
    return dataclasses.replace(experiment, name=name, hypothesis=hypothesis, path=path)


class _AsItIs(SourceFileLoader):
    """Reads the source each time: compiled code that Python keeps is taken for the same after a change within a second.

    Nothing is written beside a file that is only looked at, either.
    """

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """What the file says now."""
        return self.source_to_code(self.get_data(self.path), self.path)


def import_file(path: Path, name: str) -> Any:
    """Import one file under `name`; a fault in it, or an end of the process, becomes an `ExperimentError`."""
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItIs(name, str(path)))
    if spec is None or spec.loader is None:
        raise ExperimentError(f"{path} cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except CascadeError:
        raise
    except SystemExit as error:
        sys.modules.pop(name, None)
        raise ExperimentError(f"{path} calls exit({error.code!r}) when it is imported. Remove that call.") from None
    except Exception as error:
        sys.modules.pop(name, None)
        raise ExperimentError(f"{_place(error, path)}: {type(error).__name__}: {error}.{_hint(error)}") from error
    return module


def source_file(experiment: Experiment) -> Path:
    """The file that defines the program's factory; raises `ExperimentError` if there is none."""
    try:
        return Path(inspect.getfile(experiment.program))
    except (TypeError, OSError):
        raise ExperimentError(
            f"The source of program = {experiment.program!r} cannot be found. Define it in a file, not at a prompt."
        ) from None


def judging_parts(experiment: Experiment, data: Data) -> dict[str, str]:
    """Hashes of the rows and of the metric, by part: where they are equal, programs were judged alike."""
    judged = judge_code(experiment.metric.judge)
    return {
        "data": _data(data),
        "metric": _digest([experiment.metric.name, experiment.metric.threshold, experiment.repeats]),
        **({"metric_code": _digest(judged)} if judged else {}),
    }


def signature_parts(experiment: Experiment, data: Data, settings: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of what defines a run, by part; two runs with equal parts do the same work.

    The budget and the plateau are not in it: an interrupted run goes on under a raised cap.

    Args:
        settings: `Settings.defining`, a part each.
    """
    source, factory = source_file(experiment), getattr(experiment.program, "__qualname__", "")
    files = dict.fromkeys((*reachable(source), *reachable(_metric_file(experiment) or source)))
    code = {os.path.relpath(path, source.resolve().parent): statements(path) for path in sorted(files)}
    return {
        **judging_parts(experiment, data),
        "source": _digest([factory, list(data.train.inputs), code]),
        "stages": _digest(
            [[stage.name, stage.lever, stage.aim, stage.margin, stage.describe()] for stage in experiment.stages]
            + ([dataclasses.asdict(experiment.headroom)] if experiment.headroom else [])
        ),
        **{name: _digest(value) for name, value in settings.items()},
    }


def _data(data: Data) -> str:
    """Its fingerprint, and which rows belong together where that is said: verdicts rest on it."""
    groups = [split.groups for split in data]
    return _digest([data.fingerprint, groups]) if any(groups) else data.fingerprint


def signature(parts: Mapping[str, str]) -> str:
    """One hash of the parts."""
    return _digest(dict(parts))


def _metric_file(experiment: Experiment) -> Path | None:
    try:
        return Path(inspect.getfile(experiment.metric.judge))
    except (TypeError, OSError):  # an object that is called, or made at a prompt
        return None


def _place(error: Exception, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {frames[-1].lineno}" if frames else str(path)


def _hint(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f" Install {error.name!r}, or keep what it holds in this file: a program must load without its project."
    return ""


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
