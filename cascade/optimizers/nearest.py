"""Demos chosen anew for every question: the training examples that are most like it.

`dspy.KNNFewShot` bootstraps at every call and keeps its index in a closure, which saving loses. This one has DSPy's
interface, calls no LM to find demos, and what it makes is loaded like any other program. Invariant: nothing is chosen
on rows that are shown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import dspy
from dspy.teleprompt.teleprompt import Teleprompter

from cascade.errors import ExperimentError, StageFailed
from cascade.fields import plain as as_json
from cascade.nearest import ORDERS, Index, NearestPredict, Order, embed, give, text_of
from cascade.optimizers.labels import has_labels, held, labelled
from cascade.optimizers.work import Given, Work
from cascade.programs.lazy import computed_at_once
from cascade.threads import at_once

Rows = list[dict[str, Any]]


class NearestDemos(Teleprompter):  # type: ignore[misc]
    """Gives every predictor the rows of train that fit it, to show the nearest of them with each question.

    The rows of a predictor are the labels where train has its outputs (`cascade.optimizers.labels`); else what it said
    in runs of the program that were judged good.

    Args:
        metric: as for DSPy's optimizers.
        k: how many demos; of several numbers the best on the validation part is taken.
        order: how they are shown, see `cascade.nearest.ORDERS`; None takes the best.
        embedder: model string, `dspy.Embedder` or a function of a package; None compares letters without a model.
        refit: whether rows of the validation part are shown too, once everything is chosen. As a step of
            `dspy.BetterTogether`, which validates on the same rows afterwards, it is given False.
    """

    lever = "prompt"

    def __init__(
        self,
        metric: Callable[..., Any],
        k: int | Sequence[int] = (3, 6),
        order: Order | None = None,
        embedder: Any = None,
        refit: bool = True,
        num_threads: int | None = None,
    ) -> None:
        self.metric = metric
        self.ks, self.orders = _ks(k), _orders(order)
        self.embedder = _name(embedder)
        self.refit = refit
        self.num_threads = num_threads

    def compile(self, student: Any, *, trainset: Sequence[Any], teacher: Any = None, valset: Any = None) -> Any:
        """A copy of `student` whose predictors show the nearest rows.

        Args:
            valset: decides on `k` and order; default: train, of which no row sees itself.

        Raises:
            StageFailed: there are no rows for any predictor.
        """
        program = student.deepcopy()
        rows = self._rows(program, trainset, teacher or student)
        tried: list[tuple[float, int, int, Any]] = []
        for k in self.ks:
            tried.append(self._try(program, rows, k, 0, valset or trainset))
        for order in range(1, len(self.orders)):
            tried.append(self._try(program, rows, _best(tried)[1], order, valset or trainset))
        _, k, order, chosen = _best(tried)
        if valset and self.refit:
            chosen = self._showing(program, _joined(rows, self._labels(program, valset)), k, self.orders[order])
        return chosen

    @staticmethod
    def upper_bound(options: Mapping[str, Any], given: Given) -> Work:
        """Runs on the validation part, and one of each training example where labels do not fit."""
        tries = len(_ks(options["k"])) + len(_orders(options["order"])) - 1
        runs = (tries if tries > 1 else 0) * (given.val or given.train)
        told = 0 if _known(given.program, given.fields) >= set(_plain_ones(given.program)) else given.train
        return Work(runs=runs) + (Work(teacher_runs=told) if given.teacher else Work(runs=told))

    def _try(self, program: Any, rows: Mapping[str, Rows], k: int, order: int, judged_on: Sequence[Any]) -> Any:
        """Score, `k`, order and program; no score where there is nothing to choose."""
        made = self._showing(program, rows, k, self.orders[order])
        if len(self.ks) + len(self.orders) == 2:
            return 0.0, k, order, made
        judge = dspy.Evaluate(devset=list(judged_on), metric=self.metric, num_threads=self.num_threads)
        return judge(made).score, k, order, made

    def _showing(self, program: Any, rows: Mapping[str, Rows], k: int, order: Order) -> Any:
        made = program.deepcopy()
        for name, predictor in made.named_predictors():
            if name in rows:
                inputs = tuple(predictor.signature.input_fields)
                texts = [text_of(row, inputs) for row in rows[name]]
                vectors = tuple(embed(self.embedder, texts)) if self.embedder else ()
                give(predictor, Index(tuple(rows[name]), inputs, k, order, self.embedder, vectors))
        return made

    def _rows(self, program: Any, trainset: Sequence[Any], teacher: Any) -> dict[str, Rows]:
        """Rows by predictor; those that answer in a way of their own stay as they are."""
        labels = self._labels(program, trainset)
        wanted = set(_plain_ones(program))
        told = self._told(teacher, trainset) if wanted - set(labels) else {}
        rows = {name: labels.get(name, told.get(name, [])) for name in wanted}
        found = {name: kept for name, kept in rows.items() if kept}
        if not found:
            raise StageFailed(
                f"No predictor has rows to show: none of {len(trainset)} training examples was answered well enough, "
                "and their fields are not those of a predictor."
            )
        return found

    def _labels(self, program: Any, examples: Sequence[Any]) -> dict[str, Rows]:
        """Rows by predictor, for those of which all examples have labels, and those of which some were found."""
        wanted = _plain_ones(program)
        rows: dict[str, Rows] = {
            name: [] for name in wanted if all(name in _known(program, example.keys()) for example in examples)
        }
        names = {id(predictor): name for name, predictor in wanted.items()}
        for predictor, given, said in chain.from_iterable(labelled(program, examples, self.num_threads)):
            if id(predictor) in names:
                rows.setdefault(names[id(predictor)], []).append(_row(predictor, {**given, **said}))
        return rows

    def _told(self, teacher: Any, trainset: Sequence[Any]) -> dict[str, Rows]:
        """What each predictor said in runs that were judged good."""
        names = {id(predictor): name for name, predictor in teacher.named_predictors()}

        def run(example: Any) -> list[Any]:
            try:
                with dspy.context(trace=[]):
                    prediction = teacher(**example.inputs())
                    trace = list(dspy.settings.trace)
                    return trace if self.metric(example, prediction, trace) else []
            except Exception:  # A failing example is data: it is not shown.
                return []

        told: dict[str, Rows] = {}
        with computed_at_once(teacher):
            runs = at_once(run, trainset, self.num_threads)
        for predictor, inputs, outputs in chain.from_iterable(runs):
            if id(predictor) in names:
                row = _row(predictor, {**inputs, **outputs})
                kept = told.setdefault(names[id(predictor)], [])
                kept += [row] if row not in kept else []
        return told


def _row(predictor: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: as_json(fields[name]) for name in predictor.signature.fields if name in fields}


def _joined(rows: Mapping[str, Rows], more: Mapping[str, Rows]) -> dict[str, Rows]:
    return {name: [*kept, *(row for row in more.get(name, ()) if row not in kept)] for name, kept in rows.items()}


def _known(program: Any, fields: Iterable[str]) -> set[str]:
    """Names of the predictors whose labels rows with these fields hold, or lead to."""
    named, there = program.named_predictors(), set(fields)
    sure = has_labels((predictor for _, predictor in named), there)
    return {name for name, predictor in named if sure or held(predictor, there)}


def _plain_ones(program: Any) -> dict[str, Any]:
    return {name: predictor for name, predictor in program.named_predictors() if _plain(predictor)}


def _plain(predictor: Any) -> bool:
    return type(predictor).forward in (dspy.Predict.forward, NearestPredict.forward)


def _best(tried: Sequence[tuple[float, int, int, Any]]) -> tuple[float, int, int, Any]:
    """The best score; of equals the fewest demos, then the order that is cheapest to serve."""
    return max(tried, key=lambda one: (one[0], -one[1], -one[2]))


def _ks(k: int | Sequence[int]) -> list[int]:
    ks = [k] if isinstance(k, int) else list(k)
    if not ks or not all(isinstance(one, int) and one >= 1 for one in ks):
        raise ExperimentError(f"NearestDemos: k = {k!r} must be a whole number of at least 1, or several.")
    return ks


def _orders(order: Order | None) -> list[Order]:
    if order not in (None, *ORDERS):
        raise ExperimentError(f"NearestDemos: order = {order!r}. Use one of {', '.join(ORDERS)}, or leave it out.")
    return list(ORDERS) if order is None else [order]


def _name(embedder: Any) -> str:
    """How the state names an embedder."""
    model = getattr(embedder, "model", embedder) or ""
    if isinstance(model, str):
        return model
    module, name = getattr(model, "__module__", ""), getattr(model, "__qualname__", "<locals>")
    if "<" in name or "." in name or module == "__main__" or module.startswith("experiments."):
        raise ExperimentError(
            f"NearestDemos: embedder = {embedder!r} cannot be named in saved state. Give a model string, or a function "
            "of an installed package."
        )
    return f"{module}:{name}"
