"""What an A/B test has shown so far.

Invariant: it is made of the files alone, by the same functions by which the server decides, so the two cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade.errors import Refused
from cascade.production.ab import Advice, Evidence, Outcome, advise, first_of_each_key
from cascade.production.ab.outcomes import Books, Test, of_test

POINTS = 150
"""Of the course that is shown."""


@dataclass(frozen=True)
class Look:
    """The interval after some outcomes: of the mean difference of challenger and champion, fractions."""

    outcomes: int
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Account:
    """A test, what its outcomes say, and how that came about.

    Args:
        said: outcomes that were recorded.
        counted: those that count, the first of each key.
        course: the interval after more and more outcomes.
    """

    experiment: str
    test: Test
    said: int
    counted: int
    advice: Advice
    course: tuple[Look, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "experiment": self.experiment,
            "test": asdict(self.test),
            "said": self.said,
            "counted": self.counted,
            **self.advice.to_json(),
            "course": [asdict(look) for look in self.course],
        }


def account(books: Books, challenger: str = "") -> Account:
    """What a test has shown.

    Args:
        challenger: the version that is tested; default: that of the last test.

    Raises:
        Refused: there was no such test on this machine.
    """
    tests = [test for test in books.tests() if challenger in ("", test.challenger)]
    if not tests:
        of = f" of version {challenger}" if challenger else ""
        raise Refused(
            f"No A/B test{of} of {books.experiment!r} is known on this machine. Serve one with `cascade serve "
            f"{books.experiment} --challenger 10%`, and ask where it is served."
        )
    said = [outcome for some, _ in books.since() for outcome in of_test(some, tests[-1])]
    counted = first_of_each_key(said)
    course, evidence = _course(counted, tests[-1])
    return Account(
        books.experiment, tests[-1], len(said), len(counted), advise(evidence, tests[-1].rules), tuple(course)
    )


def _course(outcomes: Sequence[Outcome], test: Test) -> tuple[list[Look], Evidence]:
    evidence, looks = Evidence.at(test.least), list[Look]()
    step = -(-len(outcomes) // POINTS) or 1
    for start in range(0, len(outcomes), step):
        evidence = evidence.after(outcomes[start : start + step])
        found = evidence.interval(test.rules.confidence)
        looks.append(Look(evidence.outcomes, evidence.estimate, found.low, found.high))
    return looks, evidence
