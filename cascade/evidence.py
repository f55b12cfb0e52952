"""What a decision is made of: what a stage produced, and what was known before it.

Invariant: values only; what contradicts itself cannot be made.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from cascade.comparison import Comparison, Verdict
from cascade.spending import Serving

Aim = Literal["better", "cheaper"]


class Ahead(NamedTuple):
    """A stage that has not run yet."""

    name: str
    lever: str
    aim: Aim = "better"


@dataclass(frozen=True)
class Evidence:
    """What a stage produced.

    Args:
        stage, lever: its name and what it changes.
        aim: `better`, or `cheaper` for a stage that only must not score lower by `margin` (a fraction) or more.
        unchanged: whether the program is the incumbent itself; then nothing is compared.
        failed: why the stage produced no program, or None.
        against_anchor, against_incumbent: on dev; the first unless unchanged or failed, the second for `cheaper`.
        dev_score: mean on dev, a fraction; not read where the stage failed.
        serving: what an example costs under its program and under the incumbent; None where that cannot be compared.
        cost: dollars that the stage cost; None if unknown.
    """

    stage: str
    lever: str
    aim: Aim = "better"
    margin: float = 0.0
    unchanged: bool = False
    failed: str | None = None
    against_anchor: Comparison | None = None
    against_incumbent: Comparison | None = None
    dev_score: float = 0.0
    serving: Serving | None = None
    cost: float | None = 0.0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        compared = not self.unchanged and self.failed is None
        if compared != (self.against_anchor is not None):
            raise ValueError(f"Stage {self.stage!r}: against_anchor is given unless it is unchanged or failed.")
        if (compared and self.aim == "cheaper") != (self.against_incumbent is not None):
            raise ValueError(f"Stage {self.stage!r}: against_incumbent is given where a program aims at 'cheaper'.")

    @property
    def verdict(self) -> Verdict | None:
        """Against the anchor; None where the stage failed."""
        if self.failed is not None:
            return None
        return self.against_anchor.verdict if self.against_anchor else Verdict.UNCHANGED

    @property
    def cheaper(self) -> bool:
        """Whether its program is known to cost less to serve than the incumbent."""
        return self.serving is not None and self.serving.cheaper

    @property
    def within_margin(self) -> bool | None:
        """Whether it was shown to score less than `margin` below the incumbent; None where that was not its aim."""
        return None if self.against_incumbent is None else self.against_incumbent.interval.low > -self.margin


@dataclass(frozen=True)
class Standing:
    """What is known before a stage.

    Args:
        incumbent_score: mean on dev.
        lever, misses: of the last stage that aimed at `better` (None before it); consecutive such stages of that lever
            without `better`.
        cost_since_anchor: dollars that they cost since the anchor was set; None if unknown.
        gain_bound: largest upper bound of a gain over the anchor since then, a fraction; None before a comparison.
    """

    incumbent_score: float
    lever: str | None = None
    misses: int = 0
    cost_since_anchor: float | None = 0.0
    gain_bound: float | None = None
