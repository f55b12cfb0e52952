"""Several programs that vote, as one program.

Invariant: a vote is its members' states: it is built from the same factory as they are, and saved and loaded like them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from cascade.programs.voting import count, opinion

_MEMBER = re.compile(r"members\[\d+\](\.|$)")
_ITSELF = "self"
"""How DSPy calls the parameter of a program that is one predictor."""


class Vote(dspy.Module):  # type: ignore[misc]
    """Asks every member and returns the first prediction that says what most of them say.

    They are compared by their last output field, spelling aside, as `dspy.majority` does; of equals the earlier member
    counts. A member that fails has no vote.
    """

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self.members = list(members)

    def forward(self, **inputs: Any) -> Any:
        """One prediction; raises what the last member raised if all fail."""
        said, failure = [], None
        for member in self.members:
            try:
                said.append(member(**inputs))
            except Exception as error:
                failure = error
        if not said:
            raise failure or ValueError("A vote needs members.")
        return said[count([opinion(prediction[list(prediction.keys())[-1]]) for prediction in said]).winner]


def built(factory: Callable[[], Any], state: Mapping[str, Any]) -> Any:
    """The program that the factory makes, or a vote of as many as the state holds."""
    program = factory()
    found = [_MEMBER.match(name) for name in state]
    if not found or None in found or set(state) <= {name for name, _ in program.named_parameters()}:
        return program
    members: dict[str, dict[str, Any]] = {}
    for name, one in state.items():
        member, _, rest = name.partition("]")
        members.setdefault(member, {})[rest.removeprefix(".") or _ITSELF] = one
    return Vote([built(factory, members[member]) for member in sorted(members, key=lambda one: (len(one), one))])
