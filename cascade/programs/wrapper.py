"""A module around another.

Invariant: it takes and gives what the module inside does, unless it says otherwise, and adds nothing to its state.
"""

from typing import Any

import dspy

from cascade.programs.ports import Ports, gives_of, takes_of
from cascade.programs.step import as_step


class Wrapper(dspy.Module):  # type: ignore[misc]
    """The base of what is put around one step; its predictors are found under `module`."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = as_step(module)

    @property
    def takes(self) -> Ports | None:
        """Input fields of the module."""
        return takes_of(self.module)

    @property
    def gives(self) -> Ports | None:
        """Output fields of the module."""
        return gives_of(self.module)

    def named_steps(self) -> dict[str, Any]:
        """The module, for who draws the program."""
        return {"module": self.module}
