"""`dspy.BootstrapFinetune` that survives examples it cannot answer, and may try an example more than once.

DSPy 3.4.1 loses the whole stage to one answer that does not parse, takes a failed parse (score −1, which is true) for a
training row, and trains on nothing when no row is left. Invariant: what is trained on was answered, parsed and judged
good enough, one row an example and predictor call; with no such row nothing is trained.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import dspy

from cascade.errors import StageFailed

_WARM = 1.0
"""Temperature of attempts after the first."""


class BootstrapFinetune(dspy.BootstrapFinetune):  # type: ignore[misc]
    """Drops failing examples first, then does what its base does; stands in for it in every stage.

    Args:
        attempts: answers drawn for each example: the first as the program would give it, the others at temperature 1.
            A small model that is right one time in four learns from most examples in four attempts (rejection
            sampling; STaR, Zelikman et al. 2022, arXiv:2203.14465).
        options: of `dspy.BootstrapFinetune`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - those of its base, and one
        self,
        metric: Any = None,
        multitask: bool = True,
        train_kwargs: Any = None,
        adapter: Any = None,
        exclude_demos: bool = False,
        num_threads: int | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(metric, multitask, train_kwargs, adapter, exclude_demos, num_threads)
        self.attempts = attempts

    def compile(self, student: Any, trainset: Sequence[Any], teacher: Any = None) -> Any:
        """Fine-tune the LMs of `student` on what the teachers (default: itself) answered well.

        Raises:
            StageFailed: no example was answered well enough to learn from.
        """
        given = teacher if isinstance(teacher, list) else [teacher]
        teachers = [*given, *(_warmed(one or student, turn) for turn in range(1, self.attempts) for one in given)]
        answered = list(trainset)
        for program in teachers:
            answered = self._answered(program or student, answered)
        if not answered:
            raise StageFailed(f"None of {len(trainset)} training examples was answered in the right format.")
        return super().compile(student, answered, teachers)

    def _answered(self, program: Any, examples: Sequence[Any]) -> list[Any]:
        """The examples that do not fail; the answers are in the ledger, so looking costs no second call."""

        def answers(example: Any) -> bool:
            try:
                with dspy.context(trace=[]):
                    program(**example.inputs())
            except Exception:
                return False
            return True

        with ThreadPoolExecutor(self.num_threads or dspy.settings.num_threads) as pool:
            futures = [pool.submit(copy_context().run, answers, example) for example in examples]
        return [example for example, future in zip(examples, futures, strict=True) if future.result()]

    def _prepare_finetune_data(self, trace_data: Sequence[Any], lm: Any, pred_ind: int | None = None) -> Any:
        good = {row["example_ind"]: row for row in reversed(trace_data) if self.metric is None or row["score"] > 0}
        if not good:
            raise StageFailed(
                f"None of {len(trace_data)} training answers was good enough to learn from. Improve prompts first, "
                "give a better teacher, or lower the metric's threshold."
            )
        return super()._prepare_finetune_data(list(good.values()), lm, pred_ind)


def _warmed(program: Any, turn: int) -> Any:
    """A copy whose LMs draw at temperature 1, another draw each turn."""
    twin = program.deepcopy()
    for ours, theirs in zip(twin.predictors(), program.predictors(), strict=True):
        ours.lm = theirs.lm.copy(temperature=_WARM, rollout_id=turn)
    return twin
