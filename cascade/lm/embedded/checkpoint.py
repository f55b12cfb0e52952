"""Where a training stands, on disk, so that one that was killed goes on instead of starting over.

A checkpoint is a safetensors file and a small JSON file that names it, its step and its hash; nothing random is in it,
because the order of rows comes from the seed.

Invariant: the JSON file is replaced last, so that a kill at any moment leaves the checkpoint before or this one; what
is damaged, or another recipe's, counts as not there.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cascade.lm.embedded.models import sha256, write_json

EVERY = 45.0
"""Seconds of training between two checkpoints; one of ten trained layers is 425 MB and takes about 1.3 s."""
_SHARE = 0.025
"""Of the training's time, at most, where the disk is slow."""
_FORGOTTEN = 14 * 24 * 3600.0
"""Seconds after which another training's checkpoint goes when one is written."""


class Checkpoint:
    """The one checkpoint of one recipe; one training at a time uses its folder.

    Args:
        folder: made when it is needed.
        recipe: hash of all that determines the trained weights.
        every: seconds of training between two checkpoints.
        clock: seconds that never go back.
    """

    def __init__(
        self, folder: Path, recipe: str, *, every: float = EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = folder
        self.recipe = recipe
        self._every = every
        self._clock = clock
        self._last = clock()
        self._steps_written = 0

    @property
    def due(self) -> bool:
        """Whether it is time to write one."""
        return self._clock() - self._last >= self._every

    def load(self) -> tuple[int, dict[str, Any]]:
        """Steps done and torch tensors by name; 0 and none where nothing usable is there."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            note = json.loads(self._note.read_text("utf-8"))
            file = self._data(int(note["step"]))
            if note["recipe"] != self.recipe or sha256(file) != note["sha256"]:
                return 0, {}
            self._steps_written = int(note["step"])
            return self._steps_written, load_file(file)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return 0, {}

    def save(self, step: int, tensors: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a disk that takes no more costs the checkpoint, not the training."""
        if step == self._steps_written:
            return
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        began = self._clock()
        draft = self.folder / ".draft"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(dict(tensors), draft)
            note = {"recipe": self.recipe, "step": step, "sha256": sha256(draft)}
            os.replace(draft, self._data(step))
            write_json(self._note, note)
            self._steps_written = step
            self._sweep(keep=self._data(step))
        except (OSError, SafetensorError):
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        self._last = self._clock()
        self._every = max(self._every, (self._last - began) / _SHARE)

    def remove(self) -> None:
        """Forget it: the weights are stored."""
        with suppress(OSError):
            self._note.unlink(missing_ok=True)
            self._sweep(keep=None)

    def _sweep(self, keep: Path | None) -> None:
        """Remove this recipe's other files, and what no training has come back to."""
        now = time.time()
        for path in self.folder.glob("*.safetensors"):
            own = path.name.startswith(self.recipe)
            if path != keep and (own or now - path.stat().st_mtime > _FORGOTTEN):
                path.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.folder / f"{self.recipe}.json"

    def _data(self, step: int) -> Path:
        return self.folder / f"{self.recipe}-{step}.safetensors"
