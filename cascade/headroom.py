"""Whether any prompt could gain something, asked before a search is paid for.

A few cheap prompts, the program's own with other demos each, answer the same examples of train. What any of them gets
right and the program does not is room. The best of several looks better than any single prompt can be, so where even
that gains nothing, a search of prompts is not worth its calls; trained weights may still be.

Invariant: dev and test are not touched, and the demos are never among the examples that are answered.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade.building import parted
from cascade.comparison import MIN_UNITS, compare
from cascade.dataset import Split
from cascade.errors import BudgetSpent
from cascade.evaluation import Evaluation
from cascade.experiment import Headroom
from cascade.program import thawed
from cascade.session import Session

DEMOS = 4
"""Demos of a cheap prompt."""
Judge = Callable[[Any, Split, str], Evaluation]
"""`judge(program, split, what)` evaluates a program."""


@dataclass(frozen=True)
class Room:
    """What was found; scores are fractions.

    Args:
        own: mean score of the program as it is.
        variants: mean scores of the other prompts.
        any: mean over examples of the best score that any of them all had.
        n: examples.
        at_most: upper bound of what `any` gains over `own`; None where the examples are too few for an interval.
        confidence: of that bound, two-sided.
        needed: least gain that is worth a stage.
    """

    own: float
    variants: tuple[float, ...]
    any: float
    n: int
    at_most: float | None
    confidence: float
    needed: float

    @property
    def gain(self) -> float:
        """What choosing the right prompt for every example would gain."""
        return self.any - self.own

    @property
    def nothing(self) -> bool:
        """Whether that is less than what is worth a stage."""
        return self.gain < self.needed

    @property
    def sentence(self) -> str:
        """What was found, in percent and points."""
        bound = "" if self.at_most is None else f", at most {100 * self.at_most:+.1f} at {self.confidence:.0%}"
        end = "nothing for prompts to gain" if self.nothing else "room to climb"
        return (
            f"{self.n} examples of train: the program's own prompt {self.own:.1%}, the best of {len(self.variants)} "
            f"others {max(self.variants):.1%}, any of them {self.any:.1%}: {100 * self.gain:+.1f} points{bound}: {end}."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "gain": self.gain, "nothing": self.nothing, "sentence": self.sentence}


def stages_without_room(session: Session, program: Any) -> dict[str, str]:
    """Stages of prompts that are not worth their calls and why, if the experiment asks for a look at its headroom.

    Args:
        program: the baseline.
    """
    experiment, data = session.prepared.experiment, session.prepared.data
    if experiment.headroom is None:
        return {}
    if not shows_rows(program, data.train):
        session.progress.tell(
            "Headroom: not known, no predictor has both an input and an output among the fields "
            f"of dataset {data.name!r} ({', '.join(sorted(data.train.rows[0]))}), so its rows cannot be demos."
        )
        return {}
    try:
        with session.accounted("headroom"), session.meter.holding(session.judging(data.dev, data.test, data.test)):
            room = look(
                program,
                data.train,
                experiment.headroom,
                lambda program, split, what: session.evaluate(program, split, "headroom", what),
                seed=session.prepared.settings.seed,
                confidence=experiment.plateau.confidence,
                needed=experiment.plateau.min_gain,
            )
    except BudgetSpent as error:
        session.progress.tell(f"Headroom: not known, {error}.")
        return {}
    session.journal.write("headroom.json", {**room.to_json(), "spent": session.spent_by_stage["headroom"].to_json()})
    session.progress.tell(f"Headroom: {room.sentence}")
    prompts = (stage.name for stage in experiment.stages if (stage.lever, stage.aim) == ("prompt", "better"))
    return dict.fromkeys(prompts if room.nothing else (), f"skipped by the look at headroom: {room.sentence}")


def look(  # noqa: PLR0913 - a pure function of what the session holds
    program: Any, train: Split, wanted: Headroom, judge: Judge, *, seed: int, confidence: float, needed: float
) -> Room:
    """Answer `wanted.examples` of train (at most half) with the program's own prompt and with the variants.

    Args:
        judge: evaluates a program; may raise an order to stop.
        confidence: of the bound.
        needed: least gain that is worth a stage, a fraction.
    """
    rest, asked = shared_out(train, wanted, seed)
    own = judge(program, asked, "own prompt")
    others = [
        judge(variant, asked, f"other prompt {number} of {wanted.variants}").scores
        for number, variant in enumerate(_variants(program, rest, wanted.variants, seed), 1)
    ]
    best = [max(scores) for scores in zip(own.scores, *others, strict=True)]
    return Room(
        own.mean,
        tuple(_mean(scores) for scores in others),
        _mean(best),
        len(asked),
        _upper_bound(best, own, asked, confidence),
        confidence,
        needed,
    )


def shared_out(train: Split, wanted: Headroom, seed: int) -> tuple[Split, Split]:
    """What gives demos, and what is answered."""
    return parted(train, min(wanted.examples, len(train) // 2), seed)


def shows_rows(program: Any, rows: Split) -> bool:
    """Whether rows are demos for a predictor of the program: adapters leave out one without an input or an output."""
    fields = set(rows.rows[0])
    return any(
        fields & set(predictor.signature.input_fields) and fields & set(predictor.signature.output_fields)
        for predictor in program.predictors()
    )


def _variants(program: Any, rest: Split, count: int, seed: int) -> Iterator[Any]:
    examples = rest.examples()
    for number in range(count):
        variant = thawed(program)
        for predictor in variant.predictors():
            predictor.demos = random.Random(f"{seed} {number}").sample(examples, min(DEMOS, len(examples)))
        yield variant


def _upper_bound(best: Sequence[float], own: Evaluation, asked: Split, confidence: float) -> float | None:
    if len(set(asked.groups or asked.ids)) < MIN_UNITS:
        return None
    return compare(best, own.scores, groups=asked.groups, confidence=confidence, margin=0.0).interval.high


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)
