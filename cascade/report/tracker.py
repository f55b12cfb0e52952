"""Writes `report.html` into the journal each time that the journal is shown to a tracker.

Invariant: a report that cannot be written costs the run nothing and keeps nothing from the tracker behind it.
"""

from collections.abc import Iterable

from cascade.errors import TrackingError
from cascade.journal import Journal, Tracker


class ReportTracker:
    """A `cascade.journal.Tracker` that renders the journal and then shows it, report included, to another one.

    Args:
        behind: is shown the journal after that; None keeps the run local.
    """

    def __init__(self, behind: Tracker | None = None) -> None:
        self.behind = behind

    def publish(self, journal: Journal) -> None:
        """Write the report and publish the journal with it.

        Raises:
            TrackingError: the report could not be written, or the tracker behind refuses.
        """
        failure = _write(journal)
        if self.behind:
            self.behind.publish(journal)
        if failure:
            raise TrackingError(failure)

    def catch_up(self, journals: Iterable[Journal]) -> int:
        """Leave it to the tracker behind: the report of an earlier run is in its journal."""
        return self.behind.catch_up(journals) if self.behind else 0


def _write(journal: Journal) -> str:
    """Write the report; returns why that failed, or ""."""
    try:
        # Imported here: a run that is never shown to anyone needs no templates.
        from cascade.report.page import run_page
        from cascade.report.reading import read

        journal.write("report.html", run_page(read(journal)))
    except Exception as error:
        return f"report.html of {journal.folder} could not be written: {type(error).__name__}: {error}."
    return ""
