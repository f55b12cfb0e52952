"""Everything that can be found wrong before an LM is called.

Invariant: what passes here has data, a program that builds, stages whose options exist, and LMs that can be called.
"""

import inspect
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from cascade.comparison import MIN_UNITS
from cascade.dataset import Data, Split, declared, load
from cascade.discover import signature, signature_parts, source_file
from cascade.errors import DatasetError, ExperimentError, MetricError, ProgramError
from cascade.experiment import Experiment
from cascade.fields import types_of
from cascade.lm.lms import LMs
from cascade.lm.named import offering
from cascade.redaction import told
from cascade.settings import Settings
from cascade.sources import unwritten
from cascade.warm import Existing, begun_from, brought, read_file

Find = Callable[[str | Path], Existing]
"""Finds a program that exists by where it is."""


@dataclass(frozen=True)
class Prepared:
    """An experiment that can run.

    Args:
        program: as its factory builds it, to look at; it is never run.
        outputs: fields of the program's last predictor.
        parts, signature: hashes of the definition.
        clock: seconds that never go back, by which minutes are counted.
    """

    experiment: Experiment
    settings: Settings
    data: Data
    lms: LMs
    program: Any
    outputs: tuple[str, ...]
    parts: dict[str, str]
    git_sha: str
    clock: Callable[[], float] = time.monotonic

    @property
    def signature(self) -> str:
        """One hash of the definition."""
        return signature(self.parts)

    @property
    def name(self) -> str:
        """The experiment's name: given, or that of the program's file."""
        return self.experiment.name or source_file(self.experiment).stem

    @property
    def about_draws(self) -> str:
        """What repeats and ledger mean for answers that are drawn, where that is not what one might think; else ""."""
        temperature, repeats = self.lms["task"].kwargs.get("temperature"), self.experiment.repeats
        if temperature and repeats == 1:
            return (
                f"LM 'task' draws at temperature {temperature}: the ledger keeps one draw of each "
                "answer, so another run shows the same scores. Experiment(repeats=3) shows how they spread."
            )
        if repeats > 1 and not temperature and self.settings.lm_named("task").embedded and self.settings.deterministic:
            return (
                f"repeats = {repeats}: the embedded model answers the same each time at temperature 0, so this "
                "pays for nothing. Give it a temperature, or leave repeats out."
            )
        return ""

    def params(self) -> dict[str, str]:
        """What defines the run, as flat text for params."""
        experiment = self.experiment
        values: dict[str, Any] = {
            "metric": experiment.metric.name,
            "repeats": experiment.repeats,
            "seed": self.settings.seed,
            "force_format": self.settings.force_format,
            "deterministic": self.settings.deterministic,
            **{f"plateau.{name}": value for name, value in vars(experiment.plateau).items() if value is not None},
            **{f"budget.{name}": value for name, value in experiment.budget.describe().items()},
            **{f"dataset.{split.name}": len(split) for split in self.data},
            **{f"lm.{name}": model for name, model in self.settings.describe().items()},
        }
        if experiment.target is not None:
            values["target"] = experiment.target
        if begins := brought(experiment):
            values["start"] = begins.where
        return {name: str(value) for name, value in values.items()}


def prepare(experiment: Experiment, settings: Settings, lms: LMs | None = None, find: Find | None = None) -> Prepared:
    """Load the data, build the program, find the LMs and the program to begin from.

    Args:
        find: where that program is; default: in files.

    Raises:
        DefinitionError: the first thing that is wrong; nothing was spent.
    """
    _check_metric(experiment)
    data = load(experiment.dataset, settings.project)
    for split in (data.dev, data.test):
        _check_size(split, data.name)
    _check_name(experiment)
    lms = lms or LMs(settings)
    with offering(lms):
        program = build_program(experiment)
    settings = lms.settings  # with the names that the program asks for
    data = declared(data, types_of(program))
    _check_inputs(program, data)
    _check_budget(experiment, data, len(program.predictors()))
    _check_prices(experiment, lms)
    for name in dict.fromkeys(("task", *(("prompt",) if experiment.stages else ()), *settings.lm)):
        if name != "default":
            lms[name]
    if experiment.start:
        find = find or (lambda where: read_file(where, settings.project, settings.home))
        with offering(lms):
            experiment = begun_from(find(experiment.start), experiment, lms)
    parts = signature_parts(experiment, data, settings.defining())
    outputs = tuple(program.predictors()[-1].signature.output_fields)
    return Prepared(experiment, settings, data, lms, program, outputs, parts, _git_sha(settings.project))


def build_program(experiment: Experiment) -> Any:
    """Call the factory; raises `ExperimentError` when it fails or returns no module with a predictor."""
    name = getattr(experiment.program, "__name__", repr(experiment.program))
    try:
        program = experiment.program()
    except ProgramError as error:
        raise ExperimentError(f"program = {name}: {error}") from error
    except Exception as error:
        raise ExperimentError(
            f"program = {name} cannot be built without arguments: {told(error).rstrip('.')}."
        ) from error
    if not isinstance(program, dspy.Module) or not program.predictors():
        raise ExperimentError(f"program = {name} built {program!r}, which is no dspy.Module with a predictor.")
    return program


def _check_metric(experiment: Experiment) -> None:
    """Refuse a metric that is still to be written: it comes before the data, and both before the program."""
    if unwritten(experiment.metric.judge):
        raise MetricError(
            f"Metric {experiment.metric.name!r} is not written yet: it does nothing, or only raises "
            f"NotImplementedError. Write what success is in {source_file(experiment).name}; nothing is run before that."
        )


def _check_name(experiment: Experiment) -> None:
    """Refuse a factory that its file alone does not give: no program of it could be loaded again."""
    name = getattr(experiment.program, "__qualname__", "")
    if "<lambda>" in name or "<locals>" in name:
        raise ExperimentError(
            f"program = {name} cannot be found by its name in {source_file(experiment).name}, so what a run finds "
            "could not be loaded again. Write it as a function or a class of the file, outside of any function."
        )


def _check_size(split: Split, dataset: str) -> None:
    units, kind = (len(set(split.groups)), "groups") if split.groups else (len(split), "examples")
    if units < MIN_UNITS:
        raise DatasetError(
            f"Dataset {dataset!r}, split {split.name!r} has {units} {kind}; a comparison needs "
            f"at least {MIN_UNITS}. Add {kind}."
        )


def _check_inputs(program: Any, data: Data) -> None:
    forward = getattr(type(program), "forward", None)
    if forward is None:
        return
    accepted = inspect.signature(forward).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values()):
        wanted = program.signature.input_fields if isinstance(program, dspy.Predict) else data.train.inputs
    else:
        wanted = accepted
    for name in data.train.inputs:
        if name not in wanted:
            raise ExperimentError(
                f"{type(program).__name__}.forward takes {', '.join(n for n in wanted if n != 'self')}, but dataset "
                f"{data.name!r} gives it the input {name!r}. Rename one."
            )
    given, kind = data.train.rows[0], (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [name for name, one in accepted.items() if one.default is inspect.Parameter.empty and one.kind not in kind]
    for name in needed[1:]:
        if name not in data.train.inputs:
            there = f"Add {name!r} to its inputs" if name in given else "Add the field to its rows and its inputs"
            raise ExperimentError(
                f"{type(program).__name__}.forward needs {name!r}, which dataset {data.name!r} does not give. {there}."
            )


def _check_budget(experiment: Experiment, data: Data, predictors: int) -> None:
    """Refuse a cap on calls below one call a predictor and answer that is judged."""
    dev, test = (predictors * experiment.repeats * len(split) for split in (data.dev, data.test))
    looks = 2 if experiment.start else 1
    cap, needed = experiment.budget.lm_calls, looks * dev + 2 * test
    if cap is not None and cap < needed:
        counted = f", one for each of the program's {predictors} predictors" if predictors > 1 else ""
        raise ExperimentError(
            f"Budget: lm_calls = {cap} does not even pay for judging: {'twice ' * (looks - 1)}{dev} calls on dev and "
            f"twice {test} on test{counted}. Raise it to more than {needed}."
        )


def _check_prices(experiment: Experiment, lms: LMs) -> None:
    if experiment.budget.usd is None:
        return
    for name in lms:
        if not lms.priced(name):
            raise ExperimentError(
                f"Budget: usd = {experiment.budget.usd} cannot be held: the price of {lms.model(name)!r} (LM {name!r}) "
                "is not known. Give it a price in [tool.cascade.lm], or cap lm_calls, tokens or minutes instead."
            )


def _git_sha(project: Path) -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
