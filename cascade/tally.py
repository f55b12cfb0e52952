"""What a run has spent since its journal was last booked, written down after every call.

Invariant: a process that is killed takes at most the calls in flight with it, so that a cap holds over all attempts at
a run. The file is written over in place: replacing it would cost each call more than the ledger does.
"""

import os
from contextlib import suppress
from pathlib import Path

import orjson

from cascade.spending import Spent

_SIZE = 512


class Tally:
    """A file of a run's folder, there until the run is over.

    Args:
        stage: on which what is spent is booked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stage = ""
        self._file = -1

    def left(self) -> tuple[str, Spent]:
        """Stage and all that was spent when an attempt was killed; "" where it was booked, or is not to be read."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            noted = orjson.loads(self.path.read_bytes())
            return str(noted["stage"]), Spent.from_json(noted["spent"])
        return "", Spent()

    def note(self, spent: Spent) -> None:
        """Write down all that was spent so far."""
        with suppress(OSError):
            if self._file < 0:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(self._file, orjson.dumps({"stage": self.stage, "spent": spent.to_json()}).ljust(_SIZE), 0)

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
