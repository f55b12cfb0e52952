"""What a check says.

Invariant: a finding is data; who asked for it decides what it stops.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cascade.fields import shortened

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From what stops a run to what is only shown where it was asked for."""
LONGEST = 60
"""Characters of a value that are quoted."""


@dataclass(frozen=True)
class Finding:
    """Something that was found about an experiment before anything was spent.

    Args:
        severity: an `error` stops a run before it begins; a `warning` is told when it begins; a `note` is shown by
            `cascade check` only.
        place: what it is about, such as `Metric 'right'`.
        sentence: quotes the value and says the fix.
    """

    severity: Severity
    place: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def quoted(value: object) -> str:
    """A value of a row, cut where it is long.

    >>> quoted("how do I " + 100 * "really ")
    "'how do I really really really really really really really r…'"
    """
    text = repr(shortened(value))
    if len(text) <= LONGEST + 2:
        return text
    return f"{text[:LONGEST]}…{text[-1] if text[0] == text[-1] else ''}"
