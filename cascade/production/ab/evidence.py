"""What the outcomes of two arms say about their difference, at every look at once.

Invariant: the interval is around the mean, over all outcomes so far, of challenger minus champion. The chance that it
ever misses that mean, however often one looks, is at most what its confidence leaves. Nothing is assumed but that an
outcome is from 0 to 1 and that, given all outcomes before, its key was the challenger's with the share that was set;
rates may drift, jump and hang together in time, and shares may be unequal and be raised.

How: for an outcome y of an arm of which g was expected, let r be (y - g) / share for the challenger and
-(y - g) / (1 - share) for the champion, and e the expected difference of the arms. Then e + r has the true difference
as its mean, whatever was expected, if it was expected before y came (inverse propensity weighting, augmented). A bet b
on a difference above d turns each unit staked into (1 + b r) exp(b (e - d)), of which the mean is at most
exp(b (true difference - d)), because 1 + x is at most exp(x). So what many outcomes make of one unit is, for d the mean
difference, a nonnegative supermartingale, and by Ville's inequality it ever reaches 1 / error with at most that error.
The unit is divided among bets of several sizes, because the best one depends on the difference; where the sum reaches
1 / error, d is excluded.

Sources: I. Waudby-Smith, A. Ramdas, Estimating means of bounded random variables by betting, J. R. Stat. Soc. B 86
(2024) 1-27; S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence
sequences, Ann. Stat. 49 (2021) 1055-1080, for means that change; I. Waudby-Smith, L. Wu, A. Ramdas, N. Karampatziakis,
P. Mineiro, Anytime-valid off-policy inference for contextual bandits, ACM/IMS J. Data Sci. 1 (2024), for the weighting;
M. Lindon, A. Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022, for the mismatch of shares.
docs/ab.md has what was simulated.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, TypeAdapter, ValidationError

from cascade.comparison import Interval
from cascade.errors import CascadeError, DefinitionError
from cascade.production.ab.assignment import Arm

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BETS = tuple(0.95 * 0.5**size for size in range(10))
"""Sizes of the bets, as shares of one that could lose everything."""
_STAKES = tuple(math.exp(-((size / 1.5 - 1) ** 2) / 2) for size in range(10))
STAKES = tuple(stake / math.fsum(_STAKES) for stake in _STAKES)
"""What is staked on each, most on those that suit differences of five to fifty points."""
_Logs = Annotated[tuple[FiniteFloat, ...], Field(min_length=len(BETS), max_length=len(BETS))]
_DRAWN = 5.0
"""Outcomes by which an arm's expected outcome is drawn to that of both."""
_BEFORE = 20
"""Imaginary outcomes, half of them 1, with which a forecast begins."""
_ROUNDING = 1e-9
_CHUNK = 100_000


@dataclass(frozen=True)
class Outcome:
    """What one answer was worth.

    Args:
        key: whose it was.
        arm: which program answered.
        value: from 0 to 1.
        share: of the keys that the challenger answered at the time, between 0 and 1.
    """

    key: str
    arm: Arm
    value: float
    share: float


def first_of_each_key(outcomes: Iterable[Outcome], counted: Collection[str] = ()) -> list[Outcome]:
    """Of outcomes in the order of time, the first of each key that is not among those `counted` before.

    Only these may become evidence: the arm of a key that has been heard before is known and no longer drawn, so its
    further outcomes would be counted as if they were other people's.
    """
    seen, kept = set(counted), []
    for outcome in outcomes:
        if outcome.key not in seen:
            seen.add(outcome.key)
            kept.append(outcome)
    return kept


@dataclass(frozen=True)
class Evidence:
    """Outcomes so far, summed up in a few numbers; the first of two numbers is the champion's.

    Args:
        least: smallest share that either arm may have during the test; the smaller, the smaller the bets.
        n, sums: outcomes of each arm, and their sums.
        planned: sum of the challenger's shares over all outcomes.
        likelihood: logarithm of the chance of just this order of arms under those shares.
        total, squares: sum over outcomes of estimated differences, whose mean is the estimate; of squared residuals.
        up, down: for each size of bet, logarithm of what a unit became that was bet on differences above 0, and below.
        version: of the bets and of what is summed up.
    """

    least: Annotated[float, Field(gt=0, le=0.5)]
    n: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    sums: tuple[FiniteFloat, FiniteFloat] = (0.0, 0.0)
    planned: FiniteFloat = 0.0
    likelihood: FiniteFloat = 0.0
    total: FiniteFloat = 0.0
    squares: FiniteFloat = 0.0
    up: _Logs = (0.0,) * len(BETS)
    down: _Logs = (0.0,) * len(BETS)
    version: Literal[1] = 1

    @classmethod
    def at(cls, share: float) -> "Evidence":
        """No outcome yet, of a test whose challenger begins with this share, between 0 and 1."""
        if not 0 < share < 1:
            raise DefinitionError(f"The challenger's share is {share}: two arms need one between 0 and 1, such as 0.1.")
        return cls(least=min(share, 1 - share))

    @property
    def outcomes(self) -> int:
        """Of both arms."""
        return sum(self.n)

    @property
    def estimate(self) -> float:
        """Mean difference of challenger and champion, from -1 to 1; 0 before the first outcome."""
        return min(max(self.total / self.outcomes, -1.0), 1.0) if self.outcomes else 0.0

    @property
    def bets(self) -> tuple[float, ...]:
        """On one unit of difference: none of them loses everything at any outcome."""
        return tuple(bet * self.least for bet in BETS)

    def after(self, outcomes: Sequence[Outcome]) -> "Evidence":
        """Evidence with further outcomes, the first of each key, in the order of time.

        Raises:
            DefinitionError: a value outside 0 to 1, or a share below that with which the test began.
        """
        import numpy as np

        found = self
        for start in range(0, len(outcomes), _CHUNK):
            some = outcomes[start : start + _CHUNK]
            challenger = np.array([outcome.arm is Arm.CHALLENGER for outcome in some])
            values = np.array([outcome.value for outcome in some], dtype=float)
            shares = np.array([outcome.share for outcome in some], dtype=float)
            found._check(values, shares)
            found = found._with(challenger, values, shares)
        return found

    def _check(self, values: "Array", shares: "Array") -> None:
        import numpy as np

        wrong = values[~((values >= 0) & (values <= 1))]
        if wrong.size:
            raise DefinitionError(f"The value of an outcome is {wrong[0]:g}: give a number from 0 to 1.")
        less = shares[~(np.minimum(shares, 1 - shares) >= self.least - _ROUNDING)]
        if less.size:
            raise DefinitionError(
                f"A challenger's share of {less[0]:g} leaves an arm less than the {self.least:g} that this test began "
                "with: begin a new one, with another salt."
            )

    def _with(self, challenger: "NDArray[np.bool_]", values: "Array", shares: "Array") -> "Evidence":
        import numpy as np

        residuals, expected = terms(challenger, values, shares, self.n, self.sums)
        bets = np.array(self.bets)
        gains, losses = (np.log1p(sign * bets[:, None] * residuals).sum(-1) for sign in (1, -1))
        guess, treated, won = float(expected.sum()), int(challenger.sum()), float(values[challenger].sum())
        return Evidence(
            least=self.least,
            n=(self.n[0] + len(values) - treated, self.n[1] + treated),
            sums=(self.sums[0] + float(values[~challenger].sum()), self.sums[1] + won),
            planned=self.planned + float(shares.sum()),
            likelihood=self.likelihood + float(np.log(np.where(challenger, shares, 1 - shares)).sum()),
            total=self.total + float(residuals.sum()) + guess,
            squares=self.squares + float((residuals**2).sum()),
            up=tuple((self.up + gains + bets * guess).tolist()),
            down=tuple((self.down + losses - bets * guess).tolist()),
        )

    def capital(self, difference: float, *, above: bool) -> float:
        """Logarithm of what a unit became that was bet on a mean difference above this one, or below it.

        While the mean difference is not above it (below it), this ever reaches log(1 / error) with at most that error.
        """
        step = (-difference if above else difference) * self.outcomes
        return _log_sum([log + bet * step for log, bet in zip(self.up if above else self.down, self.bets, strict=True)])

    def interval(self, confidence: float) -> Interval:
        """Of the mean difference over the outcomes so far, valid at all looks together; half of the error a side."""
        enough = math.log(2 / (1 - confidence))
        low = _largest(lambda d: self.capital(d, above=True) >= enough, self.estimate)
        high = -_largest(lambda d: self.capital(-d, above=False) >= enough, -self.estimate)
        return Interval(low, high, confidence)

    def mismatch(self, error: float) -> bool:
        """Whether the arms' outcomes come in other shares than were set; if they do not, ever said with this chance.

        A bet on all other shares alike against those that were set (Lindon and Malek).
        """
        champion, challenger = self.n
        order = math.lgamma(champion + 1) + math.lgamma(challenger + 1) - math.lgamma(self.outcomes + 2)
        return order - self.likelihood >= math.log(1 / error)

    def needed(self, difference: float, confidence: float) -> int | None:
        """About how many outcomes in all show a true difference of this size in half of all tests; None for 0.

        Where the best bet reaches what is enough if all goes as expected, with the variance so far.
        """
        if difference <= 0:
            return None
        share = self.planned / self.outcomes if self.outcomes else self.least
        before = _BEFORE / 4 * (1 / share + 1 / (1 - share))
        variance = (self.squares + before) / (self.outcomes + _BEFORE)
        return math.ceil(2 * math.log(2 / (1 - confidence)) * variance / difference**2)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: object, place: str) -> "Evidence":
        """Evidence out of plain values; raises `CascadeError` that names `place` where they are none."""
        try:
            found: Evidence = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            fault = error.errors()[0]
            raise CascadeError(
                f"The evidence of an A/B test in {place} is damaged ({'.'.join(map(str, fault['loc']))}: "
                f"{fault['msg']}): count its outcomes anew."
            ) from None
        return found


def terms(
    challenger: "NDArray[np.bool_]",
    values: "Array",
    shares: "Array | float",
    n: tuple[int, int] = (0, 0),
    sums: tuple[float, float] = (0.0, 0.0),
) -> "tuple[Array, Array]":
    """What each outcome tells beyond what was expected of it, and the difference of arms that was expected.

    Args:
        challenger, values, shares: of outcomes in the order of time, `[..., outcomes]`; one share for all will do.
        n, sums: of champion and challenger, before the first of them.

    Returns:
        Weighted residuals r and expected differences e, `[..., outcomes]`: r + e has the true difference as its mean.
    """
    import numpy as np

    counts, wins = [], []
    for arm, count, total in zip((~challenger, challenger), n, sums, strict=True):
        counts.append(count + np.cumsum(arm, -1) - arm)
        wins.append(total + np.cumsum(arm * values, -1) - arm * values)
    both = (wins[0] + wins[1] + 0.5) / (counts[0] + counts[1] + 1)
    means = [(win + _DRAWN * both) / (count + _DRAWN) for win, count in zip(wins, counts, strict=True)]
    residuals = np.where(challenger, (values - means[1]) / shares, (means[0] - values) / (1 - shares))
    return residuals, means[1] - means[0]


def _log_sum(logs: Sequence[float]) -> float:
    """Logarithm of the sum of what each bet's stake became."""
    top = max(logs)
    return top + math.log(math.fsum(s * math.exp(log - top) for s, log in zip(STAKES, logs, strict=True)))


def _largest(excluded: Callable[[float], bool], estimate: float) -> float:
    """Largest difference up to the estimate that is excluded, as all below it are; -1 if none is."""
    low, high = -1.0, estimate
    if not excluded(low):
        return low
    if excluded(high):
        return high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if excluded(middle) else (low, middle)
    return low
