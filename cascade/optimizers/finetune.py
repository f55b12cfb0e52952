"""`dspy.BootstrapFinetune` that survives examples it cannot answer, and may learn those from their labels.

DSPy 3.4.1 loses the whole stage to one answer that does not parse, takes a failed parse (score −1, which is true) for a
training row, trains on nothing when no row is left, and trains each of several LMs on what all of them said.
Invariant: what is trained on was answered, parsed and judged good enough, or is a label of the train split; with no
such row nothing is trained; and no LM is shown what only another one was asked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from cascade.errors import StageFailed
from cascade.lm.embedded.adapter import training_adapter
from cascade.nearest import NearestPredict, as_shown
from cascade.optimizers.labels import labelled
from cascade.optimizers.work import Given, Work
from cascade.programs.lazy import computed_at_once
from cascade.threads import at_once


class BootstrapFinetune(dspy.BootstrapFinetune):  # type: ignore[misc]
    """Drops failing examples first, then does what its base does; stands in for it in every stage.

    Args:
        max_labeled_rows: rows made of the labels of examples that were not answered well, as `max_labeled_demos` does
            for demos: a small model is right on the easy ones, and they alone teach it little. At most so many for
            each predictor (`cascade.optimizers.labels`); one that has none learns from answers alone.
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
        max_labeled_rows: int = 0,
    ) -> None:
        super().__init__(metric, multitask, train_kwargs, adapter, exclude_demos, num_threads)
        self.max_labeled_rows = max_labeled_rows
        self._labeled: list[dict[str, Any]] = []
        self._place: dict[int, int] = {}
        self._lms: list[Any] = []

    def compile(self, student: Any, trainset: Sequence[Any], teacher: Any = None) -> Any:
        """Fine-tune the LMs of `student` on what the teachers (default: itself) answered well.

        Raises:
            StageFailed: no example was answered well enough to learn from.
        """
        teachers = teacher if isinstance(teacher, list) else [teacher or student]
        with computed_at_once(*teachers):
            return self._compiled(student, trainset, teacher, teachers)

    def _compiled(self, student: Any, trainset: Sequence[Any], teacher: Any, teachers: Sequence[Any]) -> Any:
        answered = list(trainset)
        for program in teachers:
            answered = self._answered(program, answered)
        if not answered:
            raise StageFailed(f"None of {len(trainset)} training examples was answered in the right format.")
        self._labeled = self._labels(student, trainset) if self.max_labeled_rows else []
        self._lms = [predictor.lm for predictor in student.predictors()]
        programs = (student, *teachers)
        self._place = {id(one): place for program in programs for place, one in enumerate(program.predictors())}
        tuned = super().compile(student, answered, teacher)
        for predictor in tuned.predictors():
            if self.exclude_demos and isinstance(predictor, NearestPredict):
                predictor.nearest = None
        return tuned

    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> Work:
        """What it asks for at most: each teacher answers train twice, the second time from the ledger."""
        teachers = options["teacher"] if isinstance(options["teacher"], list) else [None]
        runs = 2 * given.train * len(teachers)
        return Work(teacher_runs=runs) if given.teacher else Work(runs=runs)

    def _answered(self, program: Any, examples: Sequence[Any]) -> list[Any]:
        """The examples that do not fail; the answers are in the ledger, so looking costs no second call."""

        def answers(example: Any) -> bool:
            try:
                with dspy.context(trace=[]):
                    program(**example.inputs())
            except Exception:
                return False
            return True

        answered = at_once(answers, examples, self.num_threads)
        return [example for example, good in zip(examples, answered, strict=True) if good]

    def _prepare_finetune_data(self, trace_data: Sequence[Any], lm: Any, pred_ind: int | None = None) -> Any:
        good = [row for row in trace_data if self.metric is None or row["score"] > 0]
        calls = [
            {**row, "trace": [call]} for row in good for call in row["trace"] if self._is_for(call[0], lm, pred_ind)
        ]
        calls += self._labels_for({id(row["example"]) for row in good}, lm, pred_ind)
        if not calls:
            raise StageFailed(
                f"None of {len(trace_data)} training answers was good enough to learn from. Improve prompts first, "
                "give a better teacher, or lower the metric's threshold."
            )
        with dspy.context(adapter=training_adapter(lm)):
            return super()._prepare_finetune_data([_with_demos_as_shown(row) for row in calls], lm)

    def _labels(self, program: Any, trainset: Sequence[Any]) -> list[dict[str, Any]]:
        """Rows as bootstrapping makes them, one a label, with the label for an answer."""
        traces = labelled(program, trainset, self.num_threads)
        if not any(traces):
            wanted = dict.fromkeys(name for one in program.predictors() for name in one.signature.output_fields)
            raise StageFailed(
                f"max_labeled_rows needs examples with the outputs of a predictor ({', '.join(wanted)}). Leave it out, "
                "or add them to the rows."
            )
        return [
            {"example": example, "score": 1.0, "trace": [call]}
            for example, trace in zip(trainset, traces, strict=True)
            for call in trace
        ]

    def _labels_for(self, known: set[int], lm: Any, pred_ind: int | None) -> list[dict[str, Any]]:
        """Labels of examples that were not answered well, at most so many for each predictor."""
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in self._labeled:
            predictor = row["trace"][0][0]
            mine = rows.setdefault(id(predictor), [])
            fits = id(row["example"]) not in known and self._is_for(predictor, lm, pred_ind)
            if fits and len(mine) < self.max_labeled_rows:
                mine.append(row)
        return [row for mine in rows.values() for row in mine]

    def _is_for(self, predictor: Any, lm: Any, pred_ind: int | None) -> bool:
        """Whether what this predictor of a teacher said is for an LM of the student, and for that predictor of it."""
        place = self._place.get(id(predictor))
        return place is None or (self._lms[place] is lm and pred_ind in (None, place))


def _with_demos_as_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is trained on is the prompt that was asked: demos that depend on the question are in it."""
    return {**row, "trace": [(as_shown(one, inputs), inputs, told) for one, inputs, told in row["trace"]]}
