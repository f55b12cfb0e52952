"""`dspy.BootstrapFinetune` that survives examples it cannot answer.

DSPy 3.4.1 loses the whole stage to one answer that does not parse, takes a failed parse (score −1, which is true) for a
training row, and trains on nothing when no row is left. Invariant: what is trained on was answered, parsed and judged
good enough; with no such row nothing is trained.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import dspy

from cascade.errors import StageFailed


class TolerantFinetune(dspy.BootstrapFinetune):  # type: ignore[misc]
    """Drops failing examples first, then does what its base does.

    The answers found while looking are in the ledger, so looking costs no second call.
    """

    def compile(self, student: Any, trainset: Sequence[Any], teacher: Any = None) -> Any:
        """Fine-tune the LMs of `student` on what the teachers (default: itself) answered well.

        Raises:
            StageFailed: no example was answered well enough to learn from.
        """
        teachers = teacher if isinstance(teacher, list) else [teacher or student]
        answered = [example for example in trainset if True]
        for program in teachers:
            answered = self._answered(program, answered)
        if not answered:
            raise StageFailed(f"None of {len(trainset)} training examples was answered in the right format.")
        return super().compile(student, answered, teacher)

    def _answered(self, program: Any, examples: Sequence[Any]) -> list[Any]:
        def answers(example: Any) -> bool:
            try:
                with dspy.context(trace=[]):
                    program(**example.inputs())
            except Exception:
                return False
            return True

        with ThreadPoolExecutor(self.num_threads or 1) as pool:
            verdicts = list(pool.map(lambda pair: pair[0].run(answers, pair[1]),
                                     [(copy_context(), example) for example in examples]))  # fmt: skip
        return [example for example, verdict in zip(examples, verdicts, strict=True) if verdict]

    def _prepare_finetune_data(self, trace_data: Sequence[Any], lm: Any, pred_ind: int | None = None) -> Any:
        good = [row for row in trace_data if self.metric is None or row["score"] > 0]
        if not good:
            raise StageFailed(
                f"None of {len(trace_data)} training answers was good enough to learn from. Improve prompts first, "
                "give a better teacher, or lower the metric's threshold."
            )
        return super()._prepare_finetune_data(good, lm, pred_ind)
