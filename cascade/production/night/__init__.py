"""A night: new rows are taken up, and where something has changed, one challenger goes to the gate.

    nightly                 the night from its beginning to its end
    due                     whether it has anything to do
    newest, drift           what is new, and whether it is like what was there
    challenging, searching  two searches, as runs of the cascade
    choosing                which program goes to the gate
    watch, nights           a night under way; what each did, on the disk
    telling                 a night in sentences

Invariant: a night is done once, however often it is begun.
"""

from cascade.production.night.nightly import hold_night
from cascade.production.night.nights import PAGE, Night, Nights
from cascade.production.night.telling import document
from cascade.production.night.watch import Asked

__all__ = ["PAGE", "Asked", "Night", "Nights", "document", "hold_night"]
