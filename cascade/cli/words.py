"""A result as a person reads it, stage by stage.

Invariant: an unknown figure is shown as unknown, never as zero.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.report.figures import UNKNOWN, clock, dollars, percent, percent_interval, points

if TYPE_CHECKING:
    from cascade.bounds import Bound
    from cascade.result import StageResult
    from cascade.spending import Spent

CALLS = "LM calls +ledger"
HEADINGS = ("stage", "state", "dev", "gain", "verdict", "kept", CALLS, "cost", "time")


def calls(spent: "Spent") -> tuple[str, str]:
    """LM calls that a model answered, and those that the ledger answered, or "" where there were none.

    >>> from cascade.spending import Spent
    >>> calls(Spent(lm_calls=1200, lm_calls_cached=3))
    ('1,200', '+3')
    """
    return f"{spent.lm_calls:,}", f"+{spent.lm_calls_cached:,}" if spent.lm_calls_cached else ""


def at_most(bound: "Bound") -> str:
    """An upper bound in a phrase.

    >>> from cascade.bounds import Bound, Calls
    >>> at_most(Bound(Calls(task=1200), Calls(task=600)))
    'at most 1,200 LM calls'
    """
    return "LM calls not bounded" if bound.total is None else f"at most {bound.total:,} LM calls"


def bounded(bound: "Bound") -> str:
    """An upper bound with what it is made of.

    >>> from cascade.bounds import Bound, Calls
    >>> bounded(Bound(Calls(task=120, prompt=4), Calls(task=60, prompt=2)))
    'at most 124 LM calls (task 120, prompt 4), 62 where every answer can be read'
    >>> bounded(Bound(None, Calls(), "Mine does not say how much it asks for"))
    'LM calls not bounded (Mine does not say how much it asks for): the budget is the only bound'
    """
    if bound.at_most is None:
        return f"{at_most(bound)} ({bound.unknown}): the budget is the only bound"
    roles = [f"{role} {calls:,}" for role, calls in vars(bound.at_most).items() if calls]
    said = at_most(bound) + (f" ({', '.join(roles)})" if len(roles) > 1 else "")
    less = bound.parsed.total
    return said if less == bound.total else f"{said}, {less:,} where every answer can be read"


def cells(result: "StageResult") -> dict[str, str]:
    """A stage that ended, by heading; LM calls without those that the ledger answered."""
    decision, interval = result.decision, result.interval
    dev = percent(result.dev.mean) if result.dev else UNKNOWN
    if result.dev and interval:
        dev += f" {percent_interval(interval.low, interval.high)}"
    if result.dev and result.dev.spread is not None:
        dev += f" ±{100 * result.dev.spread:.1f} a run"
    skipped = result.status == "skipped"
    return {
        "stage": result.name,
        "state": result.status,
        "dev": dev,
        "gain": points(decision.gain) if decision else UNKNOWN,
        "verdict": str(decision.verdict or UNKNOWN) if decision else UNKNOWN,
        "kept": str(decision.kept) if decision else UNKNOWN,
        CALLS: UNKNOWN if skipped else calls(result.spent)[0],
        "cost": UNKNOWN if skipped else dollars(result.spent.cost_usd),
        "time": UNKNOWN if skipped else clock(result.spent.seconds),
    }


def line(result: "StageResult") -> str:
    """A stage that ended, in one line."""
    shown = cells(result)
    if result.status != "done":
        return f"{shown['stage']}: {shown['state']}: {result.error}"
    parts = [f"dev {shown['dev']}"]
    if result.decision:
        parts += [f"gain {shown['gain']}", shown["verdict"], f"kept {shown['kept']}"]
        if result.decision.aim == "cheaper" and result.decision.serving:
            parts.append(f"to serve {result.decision.serving}")
    free = calls(result.spent)[1]
    parts += [f"{shown[CALLS]} LM calls{f' ({free} from the ledger)' if free else ''}", shown["cost"], shown["time"]]
    return f"{shown['stage']}: {', '.join(parts)}"


def reasons(results: "Sequence[StageResult]") -> list[str]:
    """Why, a line a stage after the baseline."""
    told = [(result.name, result.decision.reason if result.decision else result.error) for result in results[1:]]
    width = max((len(name) for name, _ in told), default=0)
    return [f"  {name:<{width}}  {reason}" for name, reason in told]


def last_run(run: Mapping[str, Any] | None) -> str:
    """The last run of an experiment, in a phrase."""
    if run is None:
        return "never"
    text = f"{run['id']} {run['status']}"
    if run["best_stage"]:
        text += f", best {run['best_stage']} with dev {percent(run['best_dev_score'])}"
    if run["test_score"] is not None:
        text += f", test {percent(run['test_score'])} ({'proven' if run['proven'] else 'not proven'})"
    return text
