"""Thirty nights, many times over.

Each night several candidates are found and the best of them on dev is taken; what does not gain `min_gain` there is no
challenger, and spends no look. The challenger goes to the gate as its next look at this test. A history ends with its
first promotion.

What rules is what `cascade.production.promoting.gate` rules by: `cascade.intervals.tail` against what the look may
spend.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from _nights.worlds import Array, World
from cascade.intervals import signed_root
from cascade.production.promoting.gate import Rules, spent
from cascade.production.promoting.log import Entry, look

RULES = Rules()
NIGHTS = 30
CANDIDATES = 4
"""Found in a night, as many as a cascade has stages."""
DEV = 100
MIN_GAIN = 0.01
_STEPS = 6
"""Parts of a point in which all scores are whole numbers."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Plan:
    """What one row of a table simulates.

    Args:
        rows: of test in the first night.
        fresh: rows that join test each night after it.
        gain: what every candidate truly gains.
        same: the same challenger comes every night, as it does where only test changes.
        spending: whether looks spend α, or each may err with all of it.
    """

    world: World
    rows: int
    fresh: int = 0
    gain: float = 0.0
    same: bool = False
    spending: bool = True


def looks(nights: int) -> list[int]:
    """Numbers of the looks at a test that grows every night, one program after another, as the log counts them."""
    entries: list[Entry] = []
    for night in range(nights):
        rows = tuple(f"{row:08x}" for row in range(20 + night))
        attempt = look(entries, f"program {night}", rows)
        entries.append(Entry(str(night), float(night), "judged", "qa", "1", key=f"program {night}", rows=rows,
                             attempt=attempt))  # fmt: skip
    return [entry.attempt for entry in entries]


def granted(challenger: Array, champion: Array, alphas: Array, size: int) -> NDArray[np.bool_]:
    """Whether the gate lets each challenger through; scores `[histories, rows]`, what its look spends `[histories]`."""
    differences = challenger - champion
    passed = np.zeros(len(differences), bool)
    hopeful = np.flatnonzero(differences.sum(-1) > 1e-9)  # a bound is never above the mean
    if len(hopeful):
        units = differences[hopeful].reshape(len(hopeful), -1, size).sum(-1)
        quantiles = np.array([_NORMAL.inv_cdf(alpha) for alpha in alphas[hopeful]])
        passed[hopeful] = _tail_at_zero(units, size) < quantiles
    return passed


def _tail_at_zero(sums: Array, size: int) -> Array:
    """`cascade.intervals.tail` at a mean of 0, for sums of few different values: equal ones are one, of their number.

    A sum of exponential variables of one weight is a gamma variable of that weight, which `signed_root` takes.
    """
    most = _STEPS * size
    kinds = 2 * most + 1
    places = np.rint(sums * _STEPS).astype(int) + most + kinds * np.arange(len(sums))[:, None]
    counts = np.bincount(places.ravel(), minlength=kinds * len(sums)).reshape(len(sums), kinds)
    counts[:, 0] += 1  # the imaginary unit, which lost everything
    return signed_root(np.where(counts, np.arange(-most, most + 1) / _STEPS, 0.0), counts)


def histories(plan: Plan, count: int, nights: int = NIGHTS, seed: int = 0, batch: int = 1_000) -> NDArray[np.int64]:
    """The night of the first promotion, from 1, in each of `count` histories; 0 where there was none."""
    rng = np.random.default_rng([seed, plan.rows, plan.fresh, round(100 * plan.gain)])
    found = [_batch(plan, min(batch, count - start), nights, rng) for start in range(0, count, batch)]
    return np.concatenate(found)


def _batch(plan: Plan, count: int, nights: int, rng: np.random.Generator) -> NDArray[np.int64]:
    world, promoted = plan.world, np.zeros(count, int)
    ease, dev_ease = (world.ease(rng, count, rows) for rows in (plan.rows + plan.fresh * (nights - 1), DEV))
    champion, dev_champion = world.champion(rng, ease), world.champion(rng, dev_ease)
    numbers, taken = looks(nights), np.zeros(count, int)
    challenger = world.challenger(rng, ease, champion, plan.gain) if plan.same else np.empty_like(champion)
    for night in range(nights):
        if plan.same and night and not plan.fresh:
            break  # the same look: nothing is due
        rows, open_ = plan.rows + plan.fresh * night, promoted == 0
        if not plan.same:
            open_[open_] = _gains_on_dev(plan, rng, dev_ease[open_], dev_champion[open_]) >= MIN_GAIN - 1e-9
            known = champion[open_, :rows]
            challenger[open_, :rows] = world.challenger(rng, ease[open_, :rows], known, plan.gain)
        asked = np.flatnonzero(open_)
        attempts = [numbers[k] for k in taken[asked]]
        alphas = np.array([spent(RULES.alpha, k) if plan.spending else RULES.alpha for k in attempts])
        through = granted(challenger[asked, :rows], champion[asked, :rows], alphas, world.size)
        taken[asked] += 1
        promoted[asked[through]] = night + 1
    return promoted


def _gains_on_dev(plan: Plan, rng: np.random.Generator, ease: Array, champion: Array) -> Array:
    """What the best of the night's candidates gains there."""
    tried = np.broadcast_to(champion, (CANDIDATES, *champion.shape))
    scores = plan.world.challenger(rng, np.broadcast_to(ease, tried.shape), tried, plan.gain)
    best: Array = (scores.mean(-1) - champion.mean(-1)).max(0)
    return best
