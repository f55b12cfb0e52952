"""The designs that an experiment can begin with, beside the plain program.

Invariant: each is a template of that name, and what it renders builds and is held to by a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PLAIN = "plain"


@dataclass(frozen=True)
class Kind:
    """A design.

    Args:
        what: it does, in a line.
        factory: the beginning of its factory's name.
        uses: names of `cascade.programs`.
        own: fields that it puts beside those of the data.
    """

    what: str
    factory: str = ""
    uses: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    PLAIN: Kind("one predictor"),
    "pipeline": Kind("steps in an order that is known", "piped", ("Pipeline",), ("facts",)),
    "parallel": Kind(
        "several looks at once, then one answer", "parallel", ("Parallel", "Pipeline"), ("facts", "doubts")
    ),
    "router": Kind("one of several ways, by what is asked", "routed", ("Router",), ("kind", "route")),
    "adaptive": Kind(
        "as much work as an input is worth, by rules", "adaptive", ("Adaptive", "Rule"), ("structure", "why")
    ),
    "loop": Kind("again with a critique, until it is good enough", "looped", ("Loop",), ("critique", "score")),
    "vote": Kind("asked again until answers agree", "voted", ("AskUntilAgreed",), ("asked", "agreed", "votes")),
    "agent": Kind("it chooses tools and steps itself", "agent", ("Agent",), ("turns", "stopped")),
    "privacy": Kind("a local model hides, one in the cloud answers", "private", ("Pipeline",), ("request", "draft")),
}
