"""Which of a night's programs goes to the gate, and how its budget is shared.

Invariant: pure functions of values. A challenger is chosen on dev, by the rule that keeps a stage's program in a
cascade, and never by test; where the champion wins, nobody looks at test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cascade.comparison import Verdict, compare, corrected
from cascade.decision import Evidence, Kept, Standing, decide
from cascade.experiment import Budget, Plateau
from cascade.spending import Spent


@dataclass(frozen=True)
class Candidate:
    """A program as it did on dev.

    Args:
        name: such as `from scratch`.
        program: hash of what it does.
        scores: on dev, by example.
        serving: what answering one example takes: tokens, and dollars where they are known.
        run: that found it, or "".
        barred: why it must not go to the gate, or "".
    """

    name: str
    program: str
    scores: Mapping[str, float]
    serving: Mapping[str, float]
    run: str = ""
    barred: str = ""

    @property
    def mean(self) -> float:
        """Of its scores."""
        return sum(self.scores.values()) / len(self.scores)


def choose(
    incumbent: Candidate, found: Sequence[Candidate], plateau: Plateau, groups: Mapping[str, str] | None = None
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
            kept, words = _kept(one, best, incumbent, plateau, len(found), groups)
            best = one if kept else best
            said.append(f"{one.name}: {words}")
    detail = f" ({'; '.join(said)})" if said else ""
    if best is incumbent:
        return None, f"Nothing was kept over {incumbent.name} on dev, so no look at test is spent{detail}."
    return best, f"The program {best.name} goes to the gate{detail}."


def _kept(
    one: Candidate,
    best: Candidate,
    incumbent: Candidate,
    plateau: Plateau,
    count: int,
    groups: Mapping[str, str] | None,
) -> tuple[bool, str]:
    ids = list(one.scores)
    told = compare(
        list(one.scores.values()),
        [incumbent.scores[id_] for id_ in ids],
        groups=[groups[id_] for id_ in ids] if groups else None,
        confidence=corrected(plateau.confidence, count),
        margin=plateau.equivalence_margin,
    )
    new, old = _costs(one.serving, best.serving)
    evidence = Evidence(one.name, "prompt", against_anchor=told, dev_score=one.mean, serving_cost=new)
    decision, _ = decide(evidence, Standing(best.mean, old), plateau, ahead=())
    kept = decision.kept is Kept.NEW
    cheaper = ", cheaper to serve" if kept and told.verdict is not Verdict.BETTER and new < old else ""
    return kept, (
        f"dev {one.mean:.1%} against {best.mean:.1%} of {best.name}, {told.verdict}{cheaper}, "
        f"{'kept' if kept else 'not kept'}"
    )


def _costs(one: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, float]:
    """In dollars where both are known and not both zero, else in tokens; see `cascade.evaluation.serving_costs`."""
    dollars = [side.get("cost_usd") for side in (one, other)]
    if None not in dollars and any(dollars):
        return dollars[0] or 0.0, dollars[1] or 0.0
    first, second = (float(side.get("input_tokens", 0) + side.get("output_tokens", 0)) for side in (one, other))
    return first, second


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
