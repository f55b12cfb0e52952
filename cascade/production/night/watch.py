"""A night under way: what its steps share.

Invariant: what a step found is noted before the next begins.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from cascade.production.night.nights import PAGE, Night, Nights, State
from cascade.production.night.searching import Workplace
from cascade.production.night.telling import document
from cascade.production.promoting.registrar import Registrar, registrar
from cascade.report.page import nights_page


@dataclass(frozen=True)
class Asked:
    """What is asked of a night.

    Args:
        promote: take what the gate grants into service.
        anyway: search although nothing has changed, and hold another night where tonight's is over.
        accept_data: take up rows although `dataset.toml` pins a fingerprint.
        caps: of the night's budget, in place of the experiment's.
    """

    promote: bool = False
    anyway: bool = False
    accept_data: bool = False
    caps: Mapping[str, Any] = field(default_factory=dict)


class Watch:
    """One night in one hand; `night` is what was noted last, `last` the one before it that came to its end."""

    def __init__(self, place: Workplace, nights: Nights, asked: Asked, night: Night) -> None:
        self.place = place
        self.nights = nights
        self.asked = asked
        self.night = night
        self.last = next((other for other in nights.all() if other.over and other.id != night.id), None)

    def note(self, **found: Any) -> None:
        """Write down what was found."""
        self.night = self.nights.write(replace(self.night, **found))

    def end(self, state: State, error: str = "") -> None:
        """Close the night, or leave it to the next call."""
        self.note(state=state, error=error, ended=max(self.nights.clock(), self.night.began))
        self.nights.journal(self.night.id).write(PAGE, nights_page([document(self.night)]))

    def warn(self, sentence: str) -> None:
        """Say and note what a person should look at; "" is nothing."""
        if sentence and sentence not in self.night.noted:
            self.place.progress.warn(sentence)
            self.note(noted=(*self.night.noted, sentence))

    def desk(self) -> AbstractContextManager[Registrar]:
        """The promotion log and the registry of the experiment, while nobody else has them."""
        return registrar(self.place.settings, self.night.experiment, self.place.progress)

    @property
    def signed(self) -> str:
        """What a promotion by this night has as its note."""
        return f"By the night of {self.night.id}."
