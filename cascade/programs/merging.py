"""What becomes of the fields of steps that ran at once.

Invariant: no field is lost silently: two of one name are refused, unless a strategy says what to do with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.errors import ProgramError, StepFailed
from cascade.programs.ports import Port, Ports, either
from cascade.programs.wrapper import ERROR_LOG, VERSIONS, united

REASONING = "reasoning"
"""Every `ChainOfThought` gives it; beside one another each is named by its branch."""


class Merge(Protocol):
    """A strategy."""

    def fields(self, said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The fields of branches (those that succeeded, in their order) as one."""

    def gives(self, branches: Mapping[str, Ports | None]) -> Ports | None:
        """The fields that it will give; raises `ProgramError` where they collide."""


@dataclass(frozen=True)
class ByName:
    """Every field under its own name; two of one name are an error."""

    def fields(self, said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """All fields."""
        return self._united(said, StepFailed)

    def gives(self, branches: Mapping[str, Ports | None]) -> Ports | None:
        """All fields; none is sure, because a branch may fail."""
        known = {name: ports for name, ports in branches.items() if ports is not None}
        united: dict[str, Port] = self._united(known, ProgramError)
        if len(known) < len(branches):
            return None
        return {name: Port(port.type, sure=False, sometimes=True) for name, port in united.items()}

    def _united(self, said: Mapping[str, Mapping[str, Any]], error: type[Exception]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        owner: dict[str, str] = {}
        for branch, fields in said.items():
            for field, value in fields.items():
                name = f"{branch}_{REASONING}" if field == REASONING else field
                if name in owner:
                    if name in (ERROR_LOG, VERSIONS):
                        found[name] = united(found[name], value)
                        continue
                    raise error(
                        f"Branches {owner[name]!r} and {branch!r} both give {name!r}. Rename one, or say what to do: "
                        f"merge=concatenate({name!r}), merge='first' or a function of the branches."
                    )
                found[name], owner[name] = value, branch
        return found


@dataclass(frozen=True)
class First:
    """The fields of the first branch, in their order, that did not fail."""

    def fields(self, said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Its fields."""
        return dict(next(iter(said.values())))

    def gives(self, branches: Mapping[str, Ports | None]) -> Ports | None:
        """Those of any branch."""
        return either(branches.values())


@dataclass(frozen=True)
class concatenate:
    """One field of all branches as one: lists are joined, doubles left out; texts stand below one another."""

    field: str

    def fields(self, said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The one field."""
        parts = [fields[self.field] for fields in said.values() if self.field in fields]
        if len(parts) < len(said):
            raise StepFailed(f"Not every branch gave {self.field!r}. Branches: {', '.join(said)}.")
        if all(isinstance(part, list | tuple) for part in parts):
            joined: list[Any] = []
            for value in (value for part in parts for value in part):
                joined += [] if value in joined else [value]
            return {self.field: joined}
        return {self.field: "\n\n".join(map(str, parts))}

    def gives(self, branches: Mapping[str, Ports | None]) -> Ports | None:
        """The one field, which every branch must give."""
        for branch, ports in branches.items():
            if ports is not None and self.field not in ports:
                raise ProgramError(
                    f"Branch {branch!r} gives no {self.field!r}. It gives: {', '.join(ports) or 'nothing'}."
                )
        kinds = [ports[self.field].type for ports in branches.values() if ports is not None]
        return {self.field: Port(kinds[0] if kinds else Any)}


MERGES: dict[str, Merge] = {"by_name": ByName(), "first": First()}


def merge_of(told: Any) -> Merge | None:
    """A strategy by its name, or itself; None for what is a step."""
    if isinstance(told, str):
        if told not in MERGES:
            raise ProgramError(
                f"There is no merge {told!r}. Known: {', '.join(map(repr, MERGES))}, concatenate('field')."
            )
        return MERGES[told]
    return told if isinstance(told, ByName | First | concatenate) else None
