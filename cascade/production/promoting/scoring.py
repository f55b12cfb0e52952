"""Programs out of the registry on today's test, through the ledger.

Invariant: nothing that was answered is paid for again: where data, metric and models are as they were when a program
was judged, scoring it costs no LM call; where they changed, it is scored anew.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dspy

from cascade.check import Prepared
from cascade.dataset import Split
from cascade.errors import BudgetSpent, CascadeError
from cascade.evaluation import Evaluation, evaluate
from cascade.lm.gateway import Gateway, installed
from cascade.lm.meter import Meter
from cascade.lm.named import offering
from cascade.mlflow_store.programs import Program, load_program
from cascade.mlflow_store.versions import Version
from cascade.outcome import Outcome
from cascade.progress import Progress
from cascade.session import interruptible, open_ledger
from cascade.spending import Spent


@dataclass(frozen=True)
class Scorer:
    """Scores programs by an experiment's metric, within its budget."""

    prepared: Prepared
    gateway: Gateway
    progress: Progress

    @property
    def spent(self) -> Spent:
        """On all programs so far."""
        return self.gateway.meter.spent

    def score(self, program: Callable[..., Any], split: Split, name: str) -> Evaluation:
        """Evaluate a program.

        Args:
            name: shown while it runs, such as `champion 3`.

        Raises:
            CascadeError: the budget does not suffice, or so many examples failed that a score would say nothing.
        """
        experiment, threads = self.prepared.experiment, self.prepared.lms.threads
        self.progress.step(name, split.name, len(split) * experiment.repeats)

        def tick(outcome: Outcome) -> None:
            self.progress.tick(f"{outcome.id}: {outcome.error}" if outcome.error else "")

        try:
            return evaluate(
                program, split, experiment.metric, threads=threads, repeats=experiment.repeats, on_outcome=tick
            )
        except BudgetSpent as error:
            raise CascadeError(
                f"{name} was not scored on {split.name}: {error}. Raise the experiment's budget; what was answered is "
                "kept."
            ) from None

    def load(self, version: Version) -> Program:
        """A program out of the registry, under the LMs of the experiment; raises `CascadeError` where it cannot be."""
        return load_program(f"models:/{version.model_id}", self.prepared.settings, lms=self.prepared.lms.under)


@contextmanager
def scoring(prepared: Prepared, progress: Progress) -> Iterator[Scorer]:
    """What scores programs of an experiment; inside, every LM call passes the ledger.

    Raises:
        LedgerError: the ledger cannot be used.
        Interrupted: Ctrl-C or SIGTERM; doing it again goes on, because answers are kept.
    """
    lms = prepared.lms
    with open_ledger(prepared.settings, time.time(), progress) as ledger:
        meter = Meter(prepared.experiment.budget)
        gateway = Gateway(ledger, meter, lms.identity, warn=progress.warn, rates=lms)
        context = dspy.context(
            lm=lms["task"], adapter=lms.adapter, num_threads=lms.threads, max_errors=1_000_000, disable_history=True
        )
        with interruptible(meter, progress.tell), offering(lms):
            try:
                with installed(gateway), context:
                    yield Scorer(prepared, gateway, progress)
            except BaseException:
                if gateway.failure:
                    raise gateway.failure from None
                raise
            finally:
                lms.close()
