"""Every figure of docs/calibration.md, as one plain document; percent and points throughout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from _calibration.cascades import PROGRAMS, Programs, cascades
from _calibration.measures import CONFIDENCES, METHODS, SIZES, Method, adjusted_wald, misses, ours
from _calibration.worlds import COMPARISONS, SCORES, World
from cascade.comparison import compare
from cascade.experiment import Plateau

EFFECTS = {"none": 0.0, "+3 points": 0.03, "-3 points": -0.03, "+5 points": 0.05, "+10 points": 0.10}
GAINS = (0.0, 0.025, 0.05, 0.075, 0.10, 0.125, 0.15, 0.175, 0.20)
STAGES = (1, 2, 4, 8)
POWER = ("pass/fail, 50 %", "pass/fail, 90 %", "token F1", "groups of 4, alike")


@dataclass(frozen=True)
class Effort:
    """How much is simulated.

    Args:
        samples: comparisons of a world and size; cascades get a fifth of it, power a tenth (a third at the
            reported gain), optimism a twentieth.
        sizes: units of the splits.
    """

    samples: int
    sizes: tuple[int, ...] = SIZES

    @property
    def cascades(self) -> int:
        """Cascades of a program, an effect and a size."""
        return self.samples // 5


QUICK, FULL = Effort(500, (20, 50, 100, 200)), Effort(10_000)


def comparisons(effort: Effort) -> list[dict[str, Any]]:
    """Misses of `compare` and of the methods it was measured against."""
    return [_missed(world, effort, list(METHODS)) for world in COMPARISONS]


def scores(effort: Effort) -> list[dict[str, Any]]:
    """Misses of `score_interval`."""
    return [_missed(world, effort, ["ours"]) for world in SCORES]


def _missed(world: World, effort: Effort, methods: list[str]) -> dict[str, Any]:
    """For each method and size one pair of misses (above, below) a confidence."""
    found: dict[str, Any] = {
        name: [misses(world, units, effort.samples, METHODS[name]) for units in effort.sizes] for name in methods
    }
    return {"world": world.name, "sizes": list(effort.sizes), **found}


def whole_cascades(effort: Effort) -> list[dict[str, Any]]:
    """What cascades of four stages say that is false; in a scenario every stage's program has the same true gain."""
    rows = []
    for programs in PROGRAMS:
        for effect, gain in EFFECTS.items():
            if programs.mean + gain < 0.99:
                cells = [cascades(programs, units, [gain] * 4, effort.cascades).false() for units in effort.sizes]
                rows.append({"programs": programs.name, "effect": effect, "sizes": list(effort.sizes), "false": cells})
    return rows


def power(effort: Effort) -> list[dict[str, Any]]:
    """Chance of `better` by true gain, and of the gain reported as detectable; `cost`: what adjusted Wald had more."""
    rows = []
    for programs in (programs for programs in PROGRAMS if programs.name in POWER):
        gains = [gain for gain in GAINS if programs.mean + gain <= 1]
        for units in effort.sizes:
            chances, wald = (
                [_chances(programs, units, gain, effort.samples // 10, method) for gain in gains]
                for method in (ours, adjusted_wald)
            )
            cost = [
                max(other[place] - own[place] for own, other in zip(chances, wald, strict=True)) for place in (0, 1)
            ]
            told = [_reported(programs, units, confidence) for confidence in CONFIDENCES]
            at_told = [
                _chances(programs, units, gain, effort.samples // 3)[place] if programs.mean + gain < 1 else None
                for place, gain in enumerate(told)
            ]
            rows.append({"programs": programs.name, "units": units, "gains": [100 * gain for gain in gains],
                         "chances": chances, "told": [100 * gain for gain in told], "at_told": at_told,
                         "cost": cost})  # fmt: skip
    return rows


def _chances(programs: Programs, units: int, gain: float, samples: int, method: Method = ours) -> list[float]:
    rng = np.random.default_rng([13, units, *programs.name.encode(), round(1e4 * gain)])
    before, after = programs.draw(rng, samples, units, [gain])
    found = method((after - before) * programs.per_group, programs.sizes(units), 0.0, CONFIDENCES)
    return [100 * float(flags.mean()) for flags in found]


def _reported(programs: Programs, units: int, confidence: float, samples: int = 40) -> float:
    """Mean of what `compare` reports where there is no effect."""
    drawn = programs.draw(np.random.default_rng([17, units, *programs.name.encode()]), samples, units, [0.0])
    each = np.repeat(drawn, programs.per_group, axis=-1)
    groups = np.repeat(np.arange(units), programs.per_group).tolist()
    told = [compare(after.tolist(), before.tolist(), groups=groups, confidence=confidence, margin=0.0)
            for before, after in zip(*each, strict=True)]  # fmt: skip
    return float(np.mean([comparison.minimum_detectable_gain for comparison in told]))


def optimism(effort: Effort) -> list[dict[str, Any]]:
    """Points by which the dev score of the chosen program is above its true score, without an effect."""
    every = Plateau(patience=max(STAGES))
    rows = []
    for programs in (programs for programs in PROGRAMS if programs.name in POWER):
        for stages in STAGES:
            found = [
                cascades(programs, units, [0.0] * stages, effort.samples // 20, plateau=every) for units in effort.sizes
            ]
            points = [100 * float(run.dev.mean() - programs.mean) for run in found]
            rows.append({"programs": programs.name, "stages": stages, "sizes": list(effort.sizes), "points": points})
    return rows


PARTS: dict[str, Callable[[Effort], list[dict[str, Any]]]] = {
    "comparisons": comparisons,
    "scores": scores,
    "cascades": whole_cascades,
    "power": power,
    "optimism": optimism,
}
