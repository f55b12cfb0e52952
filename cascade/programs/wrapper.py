"""A module around another.

Invariant: it takes and gives what the module inside does, unless it says otherwise, and adds nothing to its state.
"""

from typing import Any

import dspy

from cascade.errors import ProgramError
from cascade.programs.ports import Ports, gives_of, takes_of
from cascade.programs.step import as_step

ERROR_LOG = "error_log"
"""The field of a prediction that holds what was handled: a list of `{step, error, action}`."""
VERSIONS = "step_versions"
"""The field of a prediction that holds versions by step."""


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


def reserve(field: str, module: Any, what: str) -> None:
    """Raise `ProgramError` where a module gives a field in which the wrapper says what it did."""
    if field in (gives_of(module) or ()):
        raise ProgramError(f"{what} gives a field {field!r}, in which its wrapper says what it did. Rename it.")


def united(one: Any, other: Any) -> Any:
    """Logs, or versions, of two branches as one."""
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *(entry for entry in other if entry not in one)]
    return {**one, **other} if isinstance(one, dict) and isinstance(other, dict) else one
