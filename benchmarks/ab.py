"""Whether the verdicts of an A/B test hold what they promise, however often one looks, and how many outcomes they take.

Everything is simulated with the bets of cascade/production/ab, one look after each outcome. Run it: make bench, or
.venv/bin/python benchmarks/ab.py (seconds). With --full, minutes, it prints the tables of docs/ab.md.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.production.ab import Arm, Evidence, Outcome, Rules
from cascade.production.ab.advice import MISMATCH
from cascade.production.ab.evidence import STAKES, terms

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

RULES = Rules()
LOOKS, SHARES = 5_000, (0.5, 0.1)
ENOUGH, ENOUGH_TO_STOP = math.log(2 / (1 - RULES.confidence)), math.log(1 / (1 - RULES.confidence))
_AT_ONCE = 500_000


@dataclass(frozen=True)
class World:
    """Where outcomes come from.

    Args:
        rate: of the champion, of the time from 0 to 1.
        effect: what the challenger adds to it, of the time.
        graded: what makes scores of rates; None: each is 0 or 1.
        heard: how much more often the challenger's answers get an outcome.
    """

    name: str
    rate: Callable[[Array], Array]
    effect: Callable[[Array], Array] = np.zeros_like
    graded: Callable[[np.random.Generator, Array], Array] | None = None
    heard: float = 1.0


def beta(rng: np.random.Generator, rates: Array) -> Array:
    return rng.beta(2 * rates, 2 * (1 - rates))


def stars(rng: np.random.Generator, rates: Array) -> Array:
    return rng.binomial(4, beta(rng, rates)) / 4


def steady(rate: float) -> Callable[[Array], Array]:
    return lambda time: np.full_like(time, rate)


SAME = [
    *(World(f"thumbs, {100 * rate:g} %", steady(rate)) for rate in (0.02, 0.2, 0.5, 0.8, 0.95)),
    World("graded, mean 0.7", steady(0.7), graded=beta),
    World("0 to 4 stars", steady(0.6), graded=stars),
    World("thumbs, 30 % rising to 90 %", lambda time: 0.3 + 0.6 * time),
    World("thumbs, 90 %, from the middle on 40 %", lambda time: np.where(time < 0.5, 0.9, 0.4)),
    World("thumbs, ten days and nights of 85 % and 35 %", lambda time: 0.6 + 0.25 * np.sin(20 * np.pi * time)),
]
OTHER = [
    World("thumbs, 3 points better", steady(0.7), steady(0.03)),
    World(
        "20 points better at first, by the middle no more", steady(0.6), lambda time: np.maximum(0.2 - 0.4 * time, 0)
    ),
    World("15 points worse, then 15 better", steady(0.5), lambda time: np.where(time < 0.5, -0.15, 0.15)),
    World("no difference, but heard half as often again", steady(0.7), heard=1.5),
]


def draw(world: World, tests: int, outcomes: int, share: float) -> Iterator[tuple[Flags, Array, Array]]:
    """Arms and values `[tests, outcomes]` and the true effect `[outcomes]`, some tests at a time."""
    moment = np.arange(outcomes) / outcomes
    rate, effect = world.rate(moment), world.effect(moment)
    rng = np.random.default_rng([11, outcomes, int(100 * share), *world.name.encode()])
    heard = share * world.heard / (share * world.heard + 1 - share)
    while tests > 0:
        some = min(tests, max(_AT_ONCE // outcomes, 1))
        challenger = rng.random((some, outcomes)) < heard
        rates = rate + challenger * effect
        yield challenger, world.graded(rng, rates) if world.graded else (rng.random(rates.shape) < rates) * 1.0, effect
        tests -= some


def capitals(told: tuple[Array, Array], share: float, effect: Array | float, *, above: bool) -> Array:
    """What `Evidence.capital` is after each outcome, for the mean so far of `effect`: `[tests, outcomes]`."""
    sign, (residuals, expected) = 1 if above else -1, told
    drift = sign * np.cumsum(expected - effect, -1)
    money = np.zeros_like(drift)
    for bet, stake in zip(Evidence.at(share).bets, STAKES, strict=True):
        logs = np.cumsum(np.log1p(sign * bet * residuals), -1) + bet * drift
        money += stake * np.exp(np.minimum(logs, 500, out=logs), out=logs)
    return np.log(money)


def first(reached: Flags) -> Array:
    """Number of outcomes at which each test first got there; infinite where it never did."""
    return np.where(reached.any(-1), reached.argmax(-1) + 1.0, np.inf)


def peeked(challenger: Flags, values: Array) -> Flags:
    """Tests that a z-test of two means at 5 % ever calls different, one look an outcome from 20 of each arm on."""
    means, errors, enough = [], [], np.ones(challenger.shape, bool)
    for arm in (challenger, ~challenger):
        n = np.maximum(np.cumsum(arm, -1), 1)
        mean = np.cumsum(arm * values, -1) / n
        means.append(mean)
        errors.append((np.cumsum(arm * values**2, -1) / n - mean**2) / n)
        enough &= n >= 20
    return (enough & (np.abs(means[0] - means[1]) > 1.96 * np.sqrt(errors[0] + errors[1]))).any(-1)


def missed(world: World, tests: int, share: float, outcomes: int = LOOKS) -> dict[str, float]:
    """Percent of tests in which something is ever false: our interval, a z-test by peeking, the check of shares."""
    found = {"ours": 0, "peeking": 0, "mismatch": 0}
    for challenger, values, effect in draw(world, tests, outcomes, share):
        told = terms(challenger, values, share)
        misses = [(capitals(told, share, effect, above=above) >= ENOUGH).any(-1) for above in (True, False)]
        found["ours"] += int((misses[0] | misses[1]).sum())
        found["peeking"] += int(peeked(challenger, values).sum())
        found["mismatch"] += int(mismatched(challenger, share).sum())
    return {name: 100 * count / tests for name, count in found.items()}


def mismatched(challenger: Flags, share: float) -> Flags:
    """Tests whose shares are ever said not to be those that were set: `Evidence.mismatch`."""
    logs = np.array([math.lgamma(n) for n in range(1, challenger.shape[-1] + 3)])
    heard, n = np.cumsum(challenger, -1), np.arange(1, challenger.shape[-1] + 1)
    likelihood = heard * math.log(share) + (n - heard) * math.log(1 - share)
    return (logs[heard] + logs[n - heard] - logs[n + 1] - likelihood >= math.log(1 / MISMATCH)).any(-1)


def stopped(effect: float, tests: int, share: float, outcomes: int, tolerance: float = RULES.tolerance) -> Array:
    """Outcomes after which a challenger that adds `effect` to 70 % is stopped, one number a test."""
    world, times = World(f"harm {effect}", steady(0.7), steady(effect)), []
    for challenger, values, _ in draw(world, tests, outcomes, share):
        told = terms(challenger, values, share)
        times.append(first(capitals(told, share, -tolerance, above=False) >= ENOUGH_TO_STOP))
    return np.concatenate(times)


def seen(effect: float, tests: int, share: float, outcomes: int) -> tuple[Array, list[int]]:
    """Outcomes until the verdict on a challenger that adds `effect` to 70 %, and what is foretold after 500."""
    world, times, foretold = World(f"seen {effect}", steady(0.7), steady(effect)), [], []
    for challenger, values, _ in draw(world, tests, outcomes, share):
        times.append(first(capitals(terms(challenger, values, share), share, 0, above=effect > 0) >= ENOUGH))
        for row in range(min(5, len(values))):
            evidence = Evidence.at(share).after(listed(challenger[row, :500], values[row, :500], share))
            foretold.append(evidence.needed(abs(effect), RULES.confidence) or 0)
    return np.concatenate(times), foretold


def listed(challenger: Flags, values: Array, share: float) -> list[Outcome]:
    """As the outcomes of one test."""
    arms = [Arm.CHALLENGER if flag else Arm.CHAMPION for flag in challenger]
    return [Outcome(str(key), arm, value, share) for key, (arm, value) in enumerate(zip(arms, values, strict=True))]


def repeated(tests: int, share: float, times: int = 5) -> tuple[float, float]:
    """Percent of tests with a false verdict, where each key says the same `times` over: first ones, and all counted."""
    rng, counts = np.random.default_rng([13, int(100 * share)]), np.zeros(2)
    order = rng.permuted(np.tile(np.repeat(np.arange(LOOKS // times), times), (tests, 1)), axis=-1)
    for keys in np.array_split(order, max(tests * LOOKS // _AT_ONCE, 1)):
        arms, values = rng.random((len(keys), LOOKS // times)) < share, rng.random((len(keys), LOOKS // times)) < 0.7
        rows = np.arange(len(keys))[:, None]
        for place, (challenger, value) in enumerate(
            [(arms, values * 1.0), (arms[rows, keys], values[rows, keys] * 1.0)]
        ):
            told = terms(challenger, value, share)
            ever = [(capitals(told, share, 0, above=above) >= ENOUGH).any(-1) for above in (True, False)]
            counts[place] += (ever[0] | ever[1]).sum()
    return float(100 * counts[0] / tests), float(100 * counts[1] / tests)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---", *["--:"] * (len(head) - 1)], *rows])


def false_verdicts(tests: int, worlds: Sequence[World]) -> str:
    rows = []
    for world in worlds:
        cells = [missed(world, tests, share) for share in SHARES]
        rows.append([world.name, *(f"{cell[name]:.1f}" for cell in cells for name in ("ours", "peeking"))])
    if len(worlds) == len(SAME):
        every = [repeated(tests, share) for share in SHARES]
        for place, name in enumerate(("first outcome of each counted", "all counted, which is wrong")):
            rows.append(
                [f"keys that say the same five times, {name}", *(c for e in every for c in (f"{e[place]:.1f}", "–"))]
            )
    names = [f"{name}, {100 * share:g} %" for share in SHARES for name in ("ours", "z-test by peeking")]
    return table(["no difference", *names], rows)


def other_promises(tests: int) -> str:
    rows = [["the mean difference so far is ever outside the interval", "", "", ""]]
    for world in OTHER:
        cells = [missed(world, tests, share) for share in SHARES]
        rows.append([f"– {world.name}", "5", *(f"{cell['ours']:.1f}" for cell in cells)])
    for tolerance in (0.0, 0.02):
        name = f"stopped though worse by no more than the {100 * tolerance:g} points that are tolerated"
        shares = [np.isfinite(stopped(-tolerance, tests, share, LOOKS, tolerance)).mean() for share in SHARES]
        rows.append([name, "5", *(f"{100 * share:.1f}" for share in shares)])
    for world in (SAME[2], OTHER[-1]):
        name = "shares said not to be those set, " + (
            "though they are" if world.heard == 1 else "and are not (1.5 times)"
        )
        cells = [missed(world, tests, share) for share in SHARES]
        rows.append([name, "1" if world.heard == 1 else "–", *(f"{cell['mismatch']:.1f}" for cell in cells)])
    return table(["what", "promised at most", *(f"{100 * share:g} %" for share in SHARES)], rows)


def power(tests: int, effects: Sequence[float], longest: int) -> str:
    rows = []
    for effect in effects:
        for share in SHARES:
            variance = (0.7 + effect) * (0.3 - effect) / share + 0.21 / (1 - share)
            fixed = (1.96 + 0.842) ** 2 * variance / effect**2
            outcomes = min(longest, int(4 * fixed))
            times, foretold = seen(effect, tests, share, outcomes)
            stop = np.median(stopped(effect, tests, share, outcomes)) if effect < 0 else None
            cells = [np.median(times), np.quantile(times, 0.9, method="higher"), np.median(foretold), fixed, stop]
            rows.append([f"{100 * effect:+g} points", f"{100 * share:g} %", *map(_number, cells)])
    return table(
        ["challenger", "share", "verdict, median", "9 in 10", "foretold", "fixed size, 80 %", "stopped, median"], rows
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if math.isfinite(value) else "not reached"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="compute the tables of docs/ab.md")
    full, started = parser.parse_args().full, time.perf_counter()
    print(false_verdicts(2_000, SAME) if full else false_verdicts(60, SAME[2:3]), end="\n\n")
    if full:
        print(other_promises(2_000), end="\n\n")
    print(power(400 if full else 40, (0.2, 0.1, 0.05, -0.05, -0.1, -0.2) if full else (-0.2,), 40_000), end="\n\n")
    print(json.dumps({"seconds": round(time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
