"""Shows a journal to a tracker beside the run, so that a slow store costs the run no time.

Invariant: one publication at a time; what the tracker refuses is a warning, and is sent with the next one. A run that a
store refuses keeps back no other.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cascade.errors import CascadeError, TrackingError
from cascade.journal import Journal, Tracker

REFUSALS = 3
"""Earlier runs that a store may refuse at one publication before it is taken to be down."""


class Publisher:
    """Publishes a journal from a thread of its own.

    Args:
        tracker: None publishes nothing.
        warn: told once of each new reason why the tracker refuses.
        behind: earlier runs, newest first, of which the tracker may have missed something.
    """

    def __init__(
        self, tracker: Tracker | None, journal: Journal, warn: Callable[[str], None], *, behind: Sequence[Journal] = ()
    ) -> None:
        self._tracker = tracker
        self._journal = journal
        self._warn = warn
        self._behind = list(reversed(behind))
        self._warned: set[str] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._latest: Future[None] | None = None

    def publish(self) -> None:
        """Publish soon; a publication that has not begun serves this call too."""
        if self._tracker and (self._latest is None or self._latest.running() or self._latest.done()):
            self._latest = self._thread.submit(self._send, self._tracker)

    def close(self, *, wait: bool = True) -> None:
        """Publish the end and wait for it; without `wait`, leave it to the next run."""
        if self._tracker and wait:
            self._thread.submit(self._send, self._tracker)
        self._thread.shutdown(wait=wait, cancel_futures=not wait)

    def _send(self, tracker: Tracker) -> None:
        refused: list[Journal] = []
        if self._told(lambda: tracker.publish(self._journal)):
            while self._behind and len(refused) < REFUSALS:
                journal = self._behind.pop(0)
                if not self._told(lambda: tracker.catch_up([journal])):  # noqa: B023 - called at once
                    refused.append(journal)
        self._behind += refused

    def _told(self, send: Callable[[], object]) -> bool:
        """Whether the tracker could be reached; what it refuses is said, once."""
        try:
            send()
        except CascadeError as error:
            if str(error) not in self._warned:
                self._warned.add(str(error))
                self._warn(str(error))
            return not isinstance(error, TrackingError)
        return True
