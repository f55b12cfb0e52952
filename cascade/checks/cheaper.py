"""Stages that aim at cheaper: whether what they make could ever be kept.

Invariant: a function of the definition, the data and settings; what it finds are warnings, because another program than
the baseline may be the one that is made cheaper.
"""

from collections.abc import Iterator

from cascade.check import Prepared
from cascade.checks.finding import Finding
from cascade.comparison import compare, corrected
from cascade.experiment import Stage

_FREE = "embedded/"
"""Models whose weights are weighed, because they cost no dollars."""


def cheaper(prepared: Prepared) -> Iterator[Finding]:
    """What speaks against keeping a program, before one is made."""
    for stage in prepared.experiment.stages:
        if stage.aim == "cheaper":
            for sentence in (*_student(prepared), *_margin(stage, prepared)):
                yield Finding("warning", f"Stage {stage.name!r}", sentence)


def least_margin(prepared: Prepared) -> tuple[float, float]:
    """What two programs that score the same on all of dev may still differ by, and the confidence; both fractions."""
    dev, experiment = prepared.data.dev, prepared.experiment
    confidence = corrected(experiment.plateau.confidence, experiment.claims)
    level = [0.0] * len(dev)
    found = compare(level, level, groups=dev.groups, confidence=confidence, margin=0.0)
    return -found.interval.low, confidence


def _student(prepared: Prepared) -> Iterator[str]:
    lms = prepared.lms
    student, task = lms.model("student"), lms.model("task")
    if student == task:
        yield (
            f"it aims at cheaper, but the LM 'student' is the task's, {task!r}: only shorter prompts could make it so. "
            "Name a smaller one, as CASCADE_LM_STUDENT or in [tool.cascade.lm]."
        )
    elif not (student.startswith(_FREE) and task.startswith(_FREE)) and not all(map(lms.priced, ("student", "task"))):
        unknown = next(name for name in ("student", "task") if not lms.priced(name))
        yield (
            f"it aims at cheaper, but what the LM {unknown!r}, {lms.model(unknown)!r}, costs is not known, so its "
            "program could not be kept. Give it a price in [tool.cascade.lm]."
        )


def _margin(stage: Stage, prepared: Prepared) -> Iterator[str]:
    least, confidence = least_margin(prepared)
    if stage.margin <= least:
        dev = prepared.data.dev
        units = f"{len(set(dev.groups))} groups" if dev.groups else f"{len(dev)} examples"
        yield (
            f"margin = {stage.margin:g} is less than {units} of dev can show: of programs that score the same on all "
            f"of them, one may still be {100 * least:.1f} points worse, at {100 * confidence:.1f}% confidence. Raise "
            "it, or add to dev."
        )
