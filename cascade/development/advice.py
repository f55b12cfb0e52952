"""Which design a task asks for.

Invariant: `advise` is a pure function of five answers, specified by a table of cases; a reason stands beside each point
that a design gains or loses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.development.kinds import KINDS, PLAIN


@dataclass(frozen=True)
class Question:
    """One of the five.

    Args:
        asks: as a person is asked.
        answers: what each means.
    """

    asks: str
    answers: Mapping[str, str]


QUESTIONS: Mapping[str, Question] = {
    "predictable": Question(
        "Are the steps known before an input is seen?",
        {"yes": "always the same", "partly": "one of a few ways", "no": "they depend on what is found"},
    ),
    "latency": Question(
        "How long may an answer take?",
        {"tight": "one call, or calls at once", "normal": "a few calls", "loose": "as long as it helps"},
    ),
    "private": Question(
        "Do inputs hold what must not leave your machines?",
        {"yes": "names, health, money", "no": "nothing in them is secret"},
    ),
    "data": Question(
        "How many examples with answers are there?",
        {"none": "below 60", "some": "60 to 300", "many": "more"},
    ),
    "complexity": Question(
        "How much may it take to understand and run?",
        {"low": "one person, now and then", "medium": "a team", "high": "a team that is on call for it"},
    ),
}
"""By option: `--predictable yes`."""


@dataclass(frozen=True)
class Advice:
    """A design and why.

    Args:
        score: points for and against, by which designs are ranked; above 0 where something speaks for it.
        command: what scaffolds it.
    """

    kind: str
    score: int
    reasons: tuple[str, ...]
    command: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, with what the design does."""
        return {**vars(self), "what": KINDS[self.kind].what, "reasons": list(self.reasons)}


Weighed = tuple[int, str]
_POINTS: Mapping[tuple[str, str], Mapping[str, Weighed]] = {
    ("predictable", "yes"): {
        "plain": (2, "known steps may fit one call"),
        "pipeline": (3, "known steps are easiest to test and to optimize one by one"),
        "parallel": (1, "known steps that do not need each other can run at once"),
        "agent": (-4, "an agent would choose steps that are known already"),
    },
    ("predictable", "partly"): {
        "router": (4, "one of a few ways is a choice that can be trained"),
        "adaptive": (2, "rules can say how much work an input is worth"),
        "agent": (-1, "a few known ways need no free choice"),
    },
    ("predictable", "no"): {
        "agent": (6, "steps that depend on what is found must be chosen on the way"),
        "loop": (1, "how often to try again need not be known before"),
        "pipeline": (-2, "a fixed order does not fit steps that vary"),
        "parallel": (-2, "fixed branches do not fit steps that vary"),
    },
    ("latency", "tight"): {
        "plain": (3, "one call is the fastest"),
        "parallel": (2, "branches take as long as the slowest of them"),
        "pipeline": (-1, "steps wait for one another"),
        "loop": (-3, "each iteration waits for the last"),
        "vote": (-2, "asking again takes longer"),
        "agent": (-3, "each tool call waits for the last"),
        "privacy": (-1, "three calls in a row, two of them local"),
    },
    ("latency", "loose"): {
        "loop": (2, "there is time to try again"),
        "vote": (2, "there is time to ask again"),
    },
    ("private", "yes"): {
        **dict.fromkeys(KINDS, (0, "each model that it asks must then be on your machines")),
        "privacy": (9, "what is private must not reach a model elsewhere"),
        "agent": (-2, "each tool call could carry a secret out, and each model that it asks must be on your machines"),
    },
    ("private", "no"): {"privacy": (-6, "nothing is to be hidden")},
    ("data", "none"): {
        "plain": (2, "with no examples there is nothing to optimize or to compare by: begin small, gather rows"),
        "vote": (1, "agreement needs no examples"),
        "router": (-1, "a router learns its ways from examples"),
    },
    ("data", "many"): {
        "pipeline": (1, "enough examples to optimize every step"),
        "router": (1, "enough examples to learn the ways"),
    },
    ("complexity", "low"): {
        "plain": (3, "one predictor is the least to understand"),
        "agent": (-2, "an agent's trajectory is hard to follow"),
        "parallel": (-1, "threads, time-outs and merging are more to run"),
        "loop": (-1, "a critic is a second program to judge"),
        "privacy": (-1, "two models are more to run"),
    },
    ("complexity", "high"): {
        "agent": (1, "somebody can read its trajectories"),
        "adaptive": (1, "somebody can look after its rules"),
    },
}  # fmt: skip
"""What an answer says for and against designs, 0 for what only has to be known. The magnitudes are ours; their order is
that of the table of cases."""


def advise(answers: Mapping[str, str]) -> list[Advice]:
    """The designs, best first; of equals the one with less to it.

    Args:
        answers: one a question, by the names of `QUESTIONS`.

    Raises:
        ValueError: an answer that is none.
    """
    for name, question in QUESTIONS.items():
        if answers.get(name) not in question.answers:
            raise ValueError(f"{name} = {answers.get(name)!r}: one of {', '.join(question.answers)}.")
    found = []
    for kind in KINDS:
        weighed = [_POINTS.get((name, answers[name]), {}).get(kind) for name in QUESTIONS]
        points = [one for one in weighed if one]
        command = "cascade new NAME" if kind == PLAIN else f"cascade new NAME --kind {kind}"
        found.append(Advice(kind, sum(point for point, _ in points), tuple(map(_said, points)), command))
    return sorted(found, key=lambda advice: -advice.score)


def _said(weighed: Weighed) -> str:
    points, why = weighed
    return why if points > 0 else f"but {why}"
