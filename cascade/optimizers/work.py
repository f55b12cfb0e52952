"""What an optimizer is given and how much it asks for, as values: what upper bounds are made of.

Invariant: `Work` counts program runs and direct LM calls apart, because what a run costs is known elsewhere: it is
measured on the baseline.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Given:
    """What an optimizer works on.

    Args:
        program: the student, for its structure only; nothing is called.
        train: examples it learns from.
        val: examples it validates on; None or 0 where it is given none.
        teacher: whether it is given a teacher that has an LM of its own.
        fields: that every example of train has; empty where that is not known.
    """

    program: Any
    train: int
    val: int | None = None
    teacher: bool = False
    fields: frozenset[str] = frozenset()

    @property
    def predictors(self) -> int:
        """How many predictors the program has."""
        return len(self.program.predictors())


@dataclass(frozen=True)
class Work:
    """At most so much.

    Args:
        runs: of the program, on one example each.
        teacher_runs: of the program under the teacher's LM.
        task_calls: of the task's LM outside of programs.
        prompt_calls: of the LM that writes prompts.
        prompt_repairs: more of those, made only where an answer cannot be used.
    """

    runs: int = 0
    teacher_runs: int = 0
    task_calls: int = 0
    prompt_calls: int = 0
    prompt_repairs: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.runs + other.runs,
            self.teacher_runs + other.teacher_runs,
            self.task_calls + other.task_calls,
            self.prompt_calls + other.prompt_calls,
            self.prompt_repairs + other.prompt_repairs,
        )
