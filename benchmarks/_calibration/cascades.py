"""Whole cascades on programs whose true scores are known: the real `decide`, the verdicts of many samples at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from _calibration.measures import quantile
from _calibration.worlds import Array, token_f1
from cascade.comparison import Comparison, Interval, Verdict, corrected
from cascade.decision import Kept, decide
from cascade.evidence import Ahead, Evidence, Standing
from cascade.experiment import Plateau
from cascade.intervals import tail

LEVERS = ("prompt", "prompt", "both", "weights")
Scores = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Programs:
    """A baseline and what is made of it.

    Args:
        mean: true mean score of the baseline.
        scores: draws scores of independent examples.
        agree: share of units in which a candidate scores what the baseline does; elsewhere it is drawn anew.
        spoilt: share of examples at which a candidate scores 0, paid back by the others, so that its mean is the same.
        per_group: examples of a group, which score alike.
    """

    name: str
    mean: float
    scores: Scores
    agree: float = 0.5
    spoilt: float = 0.0
    per_group: int = 1

    def draw(self, rng: np.random.Generator, samples: int, units: int, gains: Sequence[float]) -> Array:
        """Scores `[1 + gains, samples, units]` of the baseline and of candidates that are truly so much better."""
        baseline = self.scores(rng, (samples, units))
        made = [baseline]
        for gain in gains:
            fresh = self.scores(rng, (samples, units))
            made.append(self._moved(rng, np.where(rng.random((samples, units)) < self.agree, baseline, fresh), gain))
        return np.stack(made)

    def _moved(self, rng: np.random.Generator, scores: Array, gain: float) -> Array:
        if self.spoilt:
            kept = np.minimum(1.0, scores / (1 - self.spoilt))
            scores = np.where(rng.random(scores.shape) < self.spoilt, 0.0, kept)
        share, to = (gain / (1 - self.mean), 1.0) if gain > 0 else (-gain / self.mean, 0.0)
        return np.where(rng.random(scores.shape) < share, to, scores)

    def sizes(self, units: int) -> Array:
        """Of the units."""
        return np.full(units, float(self.per_group))


def passing(rate: float) -> Scores:
    """Pass/fail scores."""
    return lambda rng, shape: (rng.random(shape) < rate).astype(float)


PROGRAMS = [
    Programs("pass/fail, 50 %", 0.5, passing(0.5), 0.6),
    Programs("pass/fail, 90 %", 0.9, passing(0.9), 0.5),
    Programs("pass/fail, 50 %, 5 % drawn anew", 0.5, passing(0.5), 0.95),
    Programs("token F1", 0.475, token_f1, 0.6),
    Programs("0, ½, 1", 0.65, lambda rng, shape: rng.choice([0.0, 0.5, 1.0], shape, p=[0.2, 0.3, 0.5]), 0.6),
    Programs("0.9, 4 % of a candidate score 0", 0.9, lambda _, shape: np.full(shape, 0.9), 0.0, spoilt=0.04),
    Programs("groups of 4, alike", 0.5, passing(0.5), 0.6, per_group=4),
]


@dataclass(frozen=True)
class Found:
    """What whole cascades said, `[samples]` each; `best` is the number of the program at the end, 0 the baseline."""

    better: NDArray[np.bool_]
    worse: NDArray[np.bool_]
    equivalent: NDArray[np.bool_]
    proven: NDArray[np.bool_]
    best: NDArray[np.int_]
    dev: Array

    def false(self) -> dict[str, float]:
        """Shares of cascades that said something false, in percent."""
        either = self.better | self.worse | self.equivalent
        named = {"better": self.better, "worse": self.worse, "equivalent": self.equivalent, "any": either}
        return {name: 100 * float(flags.mean()) for name, flags in (named | {"proven": self.proven}).items()}


def verdicts(sums: Array, sizes: Array, confidence: float, margin: float) -> NDArray[np.str_]:
    """What `cascade.comparison.compare` says of each sample `[samples, units]` of differences."""
    least = quantile(confidence)

    def above(mean: float) -> NDArray[np.bool_]:
        return np.asarray(tail(sums, sizes, mean) < least)

    def below(mean: float) -> NDArray[np.bool_]:
        return np.asarray(tail(-sums, sizes, -mean) < least)

    within = above(-margin) & below(margin)
    chosen = np.where(within, Verdict.EQUIVALENT.value, Verdict.INCONCLUSIVE.value)
    return np.where(above(0.0), Verdict.BETTER.value, np.where(below(0.0), Verdict.WORSE.value, chosen))


Judge = Callable[[Array, Array, float, float], NDArray[np.str_]]
"""(differences summed over units `[samples, units]`, sizes, confidence, margin) → verdicts `[samples]`."""


def cascades(
    programs: Programs, units: int, gains: Sequence[float], samples: int, *, plateau: Plateau | None = None,
    judge: Judge = verdicts,
) -> Found:  # fmt: skip
    """Run `samples` cascades of one stage a gain on dev, each on its own rows, and look at test as `cascade` does.

    Args:
        units: of dev and of test: groups, or examples where there are no groups.
        gains: true gain of each stage's program over the baseline.
        plateau: the rules; None is the default of `Experiment`.
        judge: what is said of a candidate and its anchor.
    """
    rules = plateau or Plateau()
    rng = np.random.default_rng([11, units, samples, *programs.name.encode(), *(round(1e3 + 1e3 * g) for g in gains)])
    dev, truth = programs.draw(rng, samples, units, gains), np.array([0.0, *gains])
    sizes, confidence = programs.sizes(units), corrected(rules.confidence, len(gains))
    anchor, best = np.zeros(samples, int), np.zeros(samples, int)
    standings = [Standing(float(mean)) for mean in dev[0].mean(-1)]
    said = {verdict: np.zeros(samples, bool) for verdict in (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT)}
    rows, left = np.arange(samples), [set(range(1, len(gains) + 1)) for _ in range(samples)]
    for stage in range(1, len(gains) + 1):
        told = judge((dev[stage] - dev[anchor, rows]) * programs.per_group, sizes, confidence,
                        rules.equivalence_margin)  # fmt: skip
        off = truth[stage] - truth[anchor]
        wrong = {Verdict.BETTER: off <= 0, Verdict.WORSE: off >= 0,
                 Verdict.EQUIVALENT: np.abs(off) >= rules.equivalence_margin - 1e-9}  # fmt: skip
        for row in (row for row in rows if stage in left[row]):
            verdict = Verdict(told[row])
            kept = _decided(row, stage, verdict, float(dev[stage, row].mean()), rules, standings, left)
            if verdict in said:
                said[verdict][row] |= wrong[verdict][row]
            anchor[row] = stage if verdict is Verdict.BETTER else anchor[row]
            best[row] = stage if kept else best[row]
    test = programs.draw(rng, samples, units, gains)
    above = tail((test[best, rows] - test[0]) * programs.per_group, sizes, 0.0) < quantile(rules.confidence)
    false_proof = above & (best > 0) & (truth[best] <= 0)
    return Found(said[Verdict.BETTER], said[Verdict.WORSE], said[Verdict.EQUIVALENT], false_proof, best,
                 dev[best, rows].mean(-1))  # fmt: skip


def _decided(  # noqa: PLR0913, PLR0917 - what the runner knows after a stage
    row: int, stage: int, verdict: Verdict, score: float, rules: Plateau, standings: list[Standing],
    left: list[set[int]],
) -> bool:  # fmt: skip
    """Let `decide` decide; returns whether the new program is kept."""
    comparison = Comparison(verdict, 0.0, Interval(-1.0, 1.0, 0.9), 0, 0, "simulated", 1.0)
    ahead = [Ahead(str(number), _lever(number)) for number in sorted(left[row]) if number > stage]
    evidence = Evidence(str(stage), _lever(stage), against_anchor=comparison, dev_score=score)
    decision, standings[row] = decide(evidence, standings[row], rules, ahead=ahead)
    left[row] -= set(map(int, decision.skipped))
    return decision.kept is Kept.NEW


def _lever(stage: int) -> str:
    return LEVERS[min(stage, len(LEVERS)) - 1]
