"""`dspy.Ensemble` as a stage: the incumbent and the best programs of earlier stages vote.

DSPy's draws its members anew for every question, by a random number that nothing repeats, and its program cannot be
saved. Invariant: the same members vote on every question, and they are in the program's state.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from cascade.ensemble import Vote
from cascade.errors import ExperimentError, StageFailed
from cascade.optimizers.work import Given


class Ensemble:
    """Stands in for `dspy.Ensemble` in every stage.

    Args:
        reduce_fn: None or `dspy.majority`; a function of one's own cannot be saved.
        size: how many programs vote.
        deterministic: as in DSPy; it always is.
    """

    lever = "both"

    def __init__(
        self,
        *,
        reduce_fn: Callable[..., Any] | None = None,
        size: int | None = 3,
        deterministic: bool = False,  # noqa: ARG002 - DSPy's option
    ) -> None:
        if reduce_fn not in (None, dspy.majority):
            raise ExperimentError(f"Ensemble: reduce_fn = {reduce_fn!r} cannot be saved. Leave it out: members vote.")
        self.size = size

    def compile(self, student: Any, *, programs: Sequence[Any]) -> Any:
        """The student and the first of `programs`, best first, as one program.

        Raises:
            StageFailed: there is no other program than the student.
        """
        members = [student, *programs][: self.size]
        if len(members) < 2:
            raise StageFailed(
                f"{len(members)} program: a vote needs two at least. Put Ensemble after stages that made others, "
                "with size = 2 or more."
            )
        return Vote(members)

    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> str:  # noqa: ARG004
        """It asks for nothing itself, but judging its program takes what its members take together."""
        return "Ensemble's program asks once a member, and their number is known when the stage begins"
