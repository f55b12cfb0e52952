"""The bounds of `cascade.intervals`, held to exact ones and to draws of what they are defined by."""

import numpy as np
import pytest
from scipy.stats import beta, norm

from cascade.intervals import Sample, bounds, detectable, signed_root, tail


def single(values: list[float]) -> Sample:
    return Sample(tuple(values), (1,) * len(values))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.975, 0.999])
@pytest.mark.parametrize(("passes", "n"), [(0, 20), (1, 20), (3, 50), (30, 60), (60, 60), (499, 500)])
def test_of_two_values_it_is_the_bound_of_clopper_and_pearson(passes: int, n: int, confidence: float) -> None:
    low, high = bounds(single([1.0] * passes + [-1.0] * (n - passes)), confidence)
    error = (1 - confidence) / 2
    exact_low = beta.ppf(error, passes, n - passes + 1) if passes else 0.0
    exact_high = beta.ppf(1 - error, passes + 1, n - passes) if passes < n else 1.0
    assert ((1 + low) / 2, (1 + high) / 2) == pytest.approx((exact_low, exact_high), abs=0.0015)


@pytest.mark.parametrize("sizes", [(1,) * 25, (1, 2, 3, 4, 30) * 5])
def test_it_is_the_quantile_of_the_randomly_weighted_mean(sizes: tuple[int, ...]) -> None:
    """400,000 draws of the definition: the chance below the bound is the error, to three standard deviations and 2 %."""
    rng, error, draws = np.random.default_rng(5), 0.05, 400_000
    values = rng.choice([-0.8, -0.1, 0.0, 0.1, 0.3], size=len(sizes)) * np.array(sizes)
    size = sum(size**3 for size in sizes) / sum(size**2 for size in sizes)
    weights = rng.exponential(size=(draws, len(sizes) + 1))
    means = weights @ np.append(values, -size) / (weights @ np.append(sizes, size))
    low, _ = bounds(Sample(tuple(values), sizes), 1 - 2 * error)
    assert np.mean(means <= low) == pytest.approx(error, abs=0.001 + 0.02 * error)


def test_a_bound_is_where_the_tail_crosses_the_quantile() -> None:
    sample = single([-0.9, *[0.02 * i for i in range(30)], *[-0.01 * i for i in range(30)]])
    sums, sizes = sample.both_ways()
    for confidence in (0.5, 0.9, 0.975):
        quantile = norm.ppf((1 - confidence) / 2)
        low, high = bounds(sample, confidence)
        assert float(tail(sums[0], sizes[0], low)) == pytest.approx(quantile, abs=1e-9)
        assert float(tail(sums[1], sizes[1], -high)) == pytest.approx(quantile, abs=1e-9)


def test_a_stack_of_samples_gives_what_each_gives_alone() -> None:
    rng = np.random.default_rng(2)
    stack, sizes = rng.uniform(-1, 1, (7, 40)), np.ones(40)
    stack[0], stack[1], stack[2] = 1.0, -1.0, 0.0
    alone = [float(tail(row, sizes, 0.1)) for row in stack]
    assert tail(stack, sizes, 0.1) == pytest.approx(alone, abs=1e-9)


def test_a_sum_that_cannot_be_on_both_sides_of_0_is_certain() -> None:
    terms = np.array([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [-1.0, 1.0]])
    assert signed_root(terms).tolist() == [-40.0, 40.0, -40.0, 0.0]


def test_a_loss_that_was_not_seen_is_paid_for() -> None:
    """59 small wins and nothing else: 4 % of losses of the whole score could have stayed out of sight."""
    low, high = bounds(single([0.01] * 59), 0.9)
    assert low < 0
    assert high > 0.01


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_what_is_detectable_falls_with_size_and_rises_with_confidence(share: float) -> None:
    def found(n: int, confidence: float) -> float:
        half = round(n * share / 2)
        return detectable(single([1.0] * half + [-1.0] * half + [0.0] * (n - 2 * half)), confidence)

    gains = [[found(n, confidence) for n in (20, 60, 500)] for confidence in (0.9, 0.975)]
    assert all(row == sorted(row, reverse=True) for row in gains)
    assert all(less < more for less, more in zip(*gains, strict=True))


def test_what_is_detectable_is_found_where_no_share_of_small_differences_could_make_it() -> None:
    assert 0.1 < detectable(single([0.02, -0.02] * 10), 0.9) < 0.3
