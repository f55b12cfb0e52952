"""A run's journal, shown in MLflow.

Invariant: MLflow is a copy. Everything it shows is in the journal, is sent in an order that a crash may cut anywhere,
and is found again by its tags, so that sending again completes the copy and never makes a second one.
"""

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cascade.journal import Journal
from cascade.mlflow_store.names import Names
from cascade.mlflow_store.publication import NOTES, Publication, digests, sent
from cascade.mlflow_store.store import connect, reaching


def _no_weights(_model: str) -> Path | None:
    return None


class MlflowTracker:
    """A `cascade.journal.Tracker` that writes to MLflow.

    Args:
        tracking_uri: MLflow's store.
        weights: the GGUF file of an embedded model that a stage has trained; None for every other model.
        model_prefix, experiment_prefix: see `cascade.mlflow_store.names.Names`.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        weights: Callable[[str], Path | None] = _no_weights,
        model_prefix: str = "",
        experiment_prefix: str = "",
    ) -> None:
        self.tracking_uri = tracking_uri
        self.weights = weights
        self.names = Names(experiment_prefix, model_prefix)

    def publish(self, journal: Journal) -> None:
        """Bring MLflow up to what the journal says; sends nothing twice.

        Raises:
            TrackingError: the store cannot be reached or refuses.
        """
        consequence = f"The journal {journal.folder} keeps everything; it is sent by the next run."
        with reaching(self.tracking_uri, "could not be written", consequence), _alone(journal.folder):
            client = connect(self.tracking_uri)
            Publication(client, self.tracking_uri, journal, self.weights, self.names).send()

    def is_current(self, journal: Journal) -> bool:
        """Whether everything was sent to this store already, by the notes in the journal; asks no server."""
        return digests(journal) == sent(journal, self.tracking_uri)

    def catch_up(self, journals: Iterable[Journal]) -> int:
        """Publish those of `journals` that no store has got in full; returns how many. Asks no server if there is none.

        Raises:
            TrackingError: the store cannot be reached or refuses.
        """
        waiting = [journal for journal in journals if digests(journal) != sent(journal, None)]
        for journal in sorted(waiting, key=lambda journal: journal.folder.name):
            self.publish(journal)
        return len(waiting)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time send a journal."""
    with (folder / f".{NOTES}.lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
