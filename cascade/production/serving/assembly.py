"""The parts of a server, put together and taken apart again.

Invariant: what was promised to be recorded is on the disk when the parts are taken apart; what was only queued is
waited for a few seconds.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from cascade.mlflow_store.registry import CHALLENGER, CHAMPION
from cascade.production.ab.outcomes import Books
from cascade.production.live import REFRESH, Live, Target
from cascade.production.serving.arms import Arms
from cascade.production.serving.edge import Log
from cascade.production.serving.feedback import Desk
from cascade.production.serving.forms import form_of
from cascade.production.serving.keeping import Keeping
from cascade.production.serving.meters import Meters
from cascade.production.serving.mirror import Mirror
from cascade.production.serving.recent import Recent
from cascade.production.serving.service import Limits, Parts

_PATIENCE = 5.0
_AGAIN = 600.0


@dataclass(frozen=True)
class Plan:
    """What is to be served, and how.

    Args:
        target: whose program.
        port: 0 takes a free one.
        token: see `Edge`.
        refresh: seconds between two looks at the aliases.
        share: of the keys that the challenger answers.
        sampled: share of the requests whose traces are sent to MLflow, beside those that somebody says something of.
        remembered: last requests that feedback may come to.
    """

    target: Target
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    limits: Limits = field(default_factory=Limits)
    refresh: float = REFRESH
    share: float = 0.0
    sampled: float = 0.0
    remembered: int = 100_000


@contextlib.contextmanager
def assembled(plan: Plan, log: Log) -> Iterator[Parts]:
    """All parts, with the champion loaded.

    Raises:
        CascadeError: nothing serves, or it cannot be loaded.
    """
    target, tell, warn = plan.target, _teller(log, "info"), _teller(log, "warning")
    books = Books(target.settings.home, target.experiment)
    with contextlib.ExitStack() as last:
        arms = Arms(books, plan.share, tell=tell, warn=warn)
        if plan.share:
            target = replace(target, aliases=(CHAMPION, CHALLENGER), admit=arms.admit)
        live = Live(target, warn, tell, plan.refresh).start()
        last.callback(live.close)
        for served in live.now.values():
            form_of(served)
        recent = Recent(books.folder / "requests.db", rows=plan.remembered, on_error=_failing(warn, "Requests"))
        last.callback(recent.close, _PATIENCE)
        heard = _guarded(arms.heard, _failing(warn, "Outcomes"))
        mirror = Mirror(target.settings, books, warn=warn, tick=heard)
        last.callback(mirror.close, _PATIENCE)
        desk = Desk(books, recent, heard)
        last.callback(desk.drain.close, _PATIENCE)
        yield Parts(live, arms, Keeping(recent, mirror, plan.sampled), desk, Meters(), log)


def _teller(log: Log, level: str) -> Callable[[str], None]:
    return lambda sentence: log.tell(level, "serving", message=sentence)


def _failing(warn: Callable[[str], None], what: str) -> Callable[[Exception], None]:
    """Tells an error when it happens first, and every ten minutes while it happens."""
    last: dict[str, float] = {}

    def failed(error: Exception) -> None:
        now = time.monotonic()
        if now - last.get(str(error), -_AGAIN) >= _AGAIN:
            last[str(error)] = now
            warn(f"{what} could not be written or read: {error}")

    return failed


def _guarded(work: Callable[[], None], failed: Callable[[Exception], None]) -> Callable[[], None]:
    def guarded() -> None:
        try:
            work()
        except Exception as error:
            failed(error)

    return guarded
