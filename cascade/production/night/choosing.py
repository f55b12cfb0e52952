"""Which of a night's programs goes to the gate, and how its budget is shared.

Invariant: pure functions of values. A challenger is chosen on dev, by the rule that keeps a stage's program in a
cascade, and never by test; where the champion wins, nobody looks at test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cascade.comparison import Comparison, compare, corrected
from cascade.decision import Kept, decide
from cascade.evidence import Evidence, Standing
from cascade.experiment import Budget, Plateau
from cascade.spending import Serving, Spent

Groups = Mapping[str, str] | None
"""Group by example, where examples depend on each other."""


@dataclass(frozen=True)
class Candidate:
    """A program as it did on dev.

    Args:
        name: such as `from scratch`.
        program: hash of what it does.
        scores: on dev, by example.
        serving: what answering one example takes: tokens, and dollars and weights where they are known.
        lms: model string by predictor that has one of its own.
        margin: how much lower it may score, where it aimed at costing less; else None.
        run: that found it, or "".
        barred: why it must not go to the gate, or "".
    """

    name: str
    program: str
    scores: Mapping[str, float]
    serving: Mapping[str, float]
    lms: Mapping[str, str] = field(default_factory=dict)
    margin: float | None = None
    run: str = ""
    barred: str = ""

    @property
    def mean(self) -> float:
        """Of its scores."""
        return sum(self.scores.values()) / len(self.scores)


def choose(
    incumbent: Candidate, found: Sequence[Candidate], plateau: Plateau, groups: Groups = None
) -> tuple[Candidate | None, str]:
    """The program that goes to the gate, or None where the incumbent stays, and why, in a sentence.

    Args:
        incumbent: what serves, or the baseline.
        found: in the order in which they were found.
        groups: group by example, where examples depend on each other.
    """
    best, said = incumbent, list[str]()
    for one in found:
        if one.program in (incumbent.program, best.program):
            said.append(
                f"{one.name}: the same program as {best.name if one.program == best.program else incumbent.name}"
            )
        elif one.barred:
            said.append(f"{one.name}: {one.barred}")
        else:
            kept, words = _kept(one, best, incumbent, plateau, corrected(plateau.confidence, len(found)), groups)
            best = one if kept else best
            said.append(f"{one.name}: {words}")
    detail = f" ({'; '.join(said)})" if said else ""
    if best is incumbent:
        return None, f"Nothing was kept over {incumbent.name} on dev, so no look at test is spent{detail}."
    return best, f"The program {best.name} goes to the gate{detail}."


def _kept(
    one: Candidate, best: Candidate, anchor: Candidate, plateau: Plateau, confidence: float, groups: Groups
) -> tuple[bool, str]:
    told, costs = _compared(one, anchor, plateau, confidence, groups), _costs(one, best)
    evidence = Evidence(one.name, "prompt", against_anchor=told, dev_score=one.mean, serving=costs)
    kept = _keeps(evidence, best, plateau)
    if not kept and one.margin is not None:
        against = _compared(one, best, plateau, confidence, groups)
        evidence = replace(evidence, aim="cheaper", margin=one.margin, against_incumbent=against)
        kept = _keeps(evidence, best, plateau)
    cheaper = f", {costs}" if kept and costs and costs.cheaper else ""
    return kept, (
        f"dev {one.mean:.1%} against {best.mean:.1%} of {best.name}, {told.verdict}{cheaper}, "
        f"{'kept' if kept else 'not kept'}"
    )


def _keeps(evidence: Evidence, best: Candidate, plateau: Plateau) -> bool:
    return decide(evidence, Standing(best.mean), plateau, ahead=())[0].kept is Kept.NEW


def _compared(one: Candidate, other: Candidate, plateau: Plateau, confidence: float, groups: Groups) -> Comparison:
    ids = list(one.scores)
    return compare(
        list(one.scores.values()),
        [other.scores[id_] for id_ in ids],
        groups=[groups[id_] for id_ in ids] if groups else None,
        confidence=confidence,
        margin=plateau.equivalence_margin,
    )


def _costs(one: Candidate, other: Candidate) -> Serving | None:
    """In one unit, or None; the rule of `cascade.costs.serving` on plain values."""
    sides = (one.serving, other.serving)
    for name, unit in (("cost_usd", "dollars"), ("weights_gb", "weights_gb")):
        known = [side[name] for side in sides if name in side]
        if len(known) == 2 and any(known):
            return Serving(known[0], known[1], unit)  # type: ignore[arg-type]
    if dict(one.lms) != dict(other.lms):
        return None
    tokens = [float(side.get("input_tokens", 0) + side.get("output_tokens", 0)) for side in sides]
    return Serving(tokens[0], tokens[1], "tokens")


def left(budget: Budget, spent: Spent) -> Budget | None:
    """What is left of a budget; None where a cap is used up.

    >>> left(Budget(lm_calls=100), Spent(lm_calls=30)).describe()
    {'lm_calls': '70'}
    """
    used = {
        "lm_calls": spent.lm_calls,
        "tokens": spent.input_tokens + spent.output_tokens,
        "usd": spent.cost_usd or 0.0,
        "minutes": spent.seconds / 60,
    }
    rest = {name: cap - used[name] for name, cap in vars(budget).items() if cap is not None}
    return None if any(cap <= 0 for cap in rest.values()) else replace(budget, **rest)


def half(budget: Budget) -> Budget:
    """Half of each cap, rounded up where it counts something.

    >>> half(Budget(lm_calls=5, minutes=1.5)).describe()
    {'lm_calls': '3', 'minutes': '0.75'}
    """
    caps = {name: cap for name, cap in vars(budget).items() if cap is not None}
    whole = ("lm_calls", "tokens")
    return replace(budget, **{name: -(-cap // 2) if name in whole else cap / 2 for name, cap in caps.items()})
