"""What each night did, on local disk.

    .cascade/production/EXPERIMENT/nights/2026-11-27/
      night.json    what was seen, done and found; night.html: the same to read
      rows.json     a short hash of each row before the night's new rows joined, and after

Invariant: `night.json` is replaced whole after each step, so that a night that was killed is gone on with, and one that
is over is never done again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from cascade.errors import CascadeError
from cascade.journal import Journal
from cascade.production.incoming.taking import Taken
from cascade.production.night.due import Due, Seen
from cascade.spending import Spent

State = Literal["running", "done", "nothing due", "failed"]
OVER: tuple[State, ...] = ("done", "nothing due")
"""States of a night that is never gone on with."""
FROM_CHAMPION, FROM_SCRATCH = "from the champion", "from scratch"
FILE, ROWS, PAGE = "night.json", "rows.json", "night.html"


@dataclass(frozen=True)
class Search:
    """A run of the cascade as the night tells of it.

    Args:
        start: `from the champion` or `from scratch`.
        run, status: of the journal; "" where it did not begin.
        earlier: the run of another night, found again: nothing of it had changed.
        best_stage, dev_score: of the program that it kept; None where it judged none.
        spent: by the run in this night.
        unfinished: why it might have gone further, or "".
    """

    start: str
    run: str = ""
    status: str = ""
    earlier: bool = False
    best_stage: str = ""
    dev_score: float | None = None
    spent: Mapping[str, Any] = field(default_factory=dict)
    unfinished: str = ""

    @property
    def warning(self) -> str:
        """The same, in a sentence."""
        how = "might have gone further" if self.run else "found nothing"
        return f"The search {self.start} {how}: {self.unfinished}." if self.unfinished else ""


@dataclass(frozen=True)
class Ruled:
    """What the gate said of the challenger.

    Args:
        version, reference: of the challenger, and what it was compared with ("" is the baseline).
        attempt, alpha: which look at this test it was, and what it spent.
    """

    version: str
    reference: str
    granted: bool
    reason: str
    attempt: int
    alpha: float


@dataclass(frozen=True)
class Night:
    """One night of one experiment.

    Args:
        id: its date in the zone of the machine, such as `2026-11-27`; `2026-11-27-2` where one was done over.
        began, ended: in seconds since 1970.
        due: what was to be done and why; None until it is decided.
        seen: what it was decided on.
        since: the night since which nothing had changed, or this one.
        taken: what came of new rows.
        champion: version that served when the night began; "" is none.
        champion_scores: its mean on dev and on test as they are; empty where it was not scored.
        noted: what a person should look at, searches apart.
        searches: in order.
        proposed: version that was the challenger when the night began, or "".
        choice: which program went to the gate, or why none did.
        promoted: version that was taken into service, or "".
        spent_beside: on scoring the champion, and at the gate.
        error: why it failed, or "".
    """

    id: str
    experiment: str
    began: float
    state: State = "running"
    ended: float | None = None
    due: Due | None = None
    seen: Seen = field(default_factory=Seen)
    since: str = ""
    taken: Taken = field(default_factory=Taken)
    champion: str = ""
    proposed: str = ""
    champion_scores: Mapping[str, float] = field(default_factory=dict)
    noted: tuple[str, ...] = ()
    searches: tuple[Search, ...] = ()
    choice: str = ""
    ruled: Ruled | None = None
    promoted: str = ""
    spent_beside: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.state in OVER

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should look at."""
        return (*self.noted, *(search.warning for search in self.searches if search.warning))

    @property
    def unfinished(self) -> str:
        """Why its searches might have gone further, or ""."""
        return "; ".join(f"{search.start}: {search.unfinished}" for search in self.searches if search.unfinished)

    @property
    def spent(self) -> Spent:
        """In all."""
        parts = [self.spent_beside, *(search.spent for search in self.searches)]
        return sum((Spent.from_json(part) for part in parts if part), Spent())


class Nights:
    """The nights of one experiment; whoever writes holds its lock.

    Args:
        home: the state folder.
        clock: seconds since 1970.
    """

    def __init__(self, home: Path, experiment: str, clock: Callable[[], float] = time.time) -> None:
        self.folder = home / "production" / experiment / "nights"
        self.experiment = experiment
        self.clock = clock

    def all(self) -> list[Night]:
        """Newest first.

        Raises:
            CascadeError: one is damaged.
        """
        found = [self.read(path.parent.name) for path in self.folder.glob(f"*/{FILE}")]
        return sorted(found, key=lambda night: (night.began, night.id), reverse=True)

    def read(self, id_: str) -> Night:
        """One of them."""
        place = self.journal(id_).folder / FILE
        try:
            return _ADAPTER.validate_python(self.journal(id_).read(FILE))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise CascadeError(
                f"{place} is damaged ({where}: {first['msg']}). Remove the folder {place.parent} to do the night over."
            ) from None

    def write(self, night: Night) -> Night:
        """Replace its record."""
        self.journal(night.id).write(FILE, asdict(night))
        return night

    def journal(self, id_: str) -> Journal:
        """The folder of a night, as a place to write to."""
        return Journal(self.folder / id_)

    def tonight(self) -> Night | None:
        """The newest night of today, if there was one."""
        return next((night for night in self.all() if night.id[:10] == self.today), None)

    @property
    def today(self) -> str:
        """The date here, which is a night's id."""
        return time.strftime("%Y-%m-%d", time.localtime(self.clock()))

    def begin(self, began: float) -> Night:
        """A night that begins: the first of this date, or one more."""
        held = self.all()
        today = sum(night.id[:10] == self.today for night in held)
        id_ = f"{self.today}-{today + 1}" if today else self.today
        began = max(began, *(night.began + 2**-16 for night in held), 0.0)  # also where the clock was put back
        return self.write(Night(id_, self.experiment, began))


_ADAPTER: TypeAdapter[Night] = TypeAdapter(Night)
