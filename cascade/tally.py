"""What a run has spent since its journal was last booked, written down after every call.

Invariant: a process that is killed takes at most the calls in flight with it, so that a cap holds over all attempts at
a run. The file is written over in place: replacing it would cost each call more than the ledger does.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from cascade.spending import Spent, in_json

_SIZE = 1024


class Tally:
    """A file of a run's folder, there until the run is over.

    Args:
        stage: on which what is spent is booked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stage = ""
        self._file = -1

    def left(self) -> tuple[str, Spent, dict[str, Spent]]:
        """Stage, all that was spent when an attempt was killed, and on which LM.

        The stage is "" where it was booked, or is not to be read.
        """
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            noted = orjson.loads(self.path.read_bytes())
            by_lm = {name: Spent.from_json(spent) for name, spent in noted.get("by_lm", {}).items()}
            return str(noted["stage"]), Spent.from_json(noted["spent"]), by_lm
        return "", Spent(), {}

    def note(self, spent: Spent, by_lm: Mapping[str, Spent]) -> None:
        """Write down all that was spent so far."""
        with suppress(OSError):
            if self._file < 0:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            noted = {"stage": self.stage, "spent": spent.to_json(), "by_lm": in_json(by_lm)}
            os.pwrite(self._file, orjson.dumps(noted).ljust(_SIZE), 0)

    def close(self) -> None:
        """Note no more; what is there stays for who goes on."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def remove(self) -> None:
        """Remove it: the run is over, and everything is booked."""
        self.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
