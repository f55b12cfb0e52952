"""Who is answered by which arm: the same everywhere and for ever, and as if drawn."""

import doctest
import importlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from cascade.errors import DefinitionError
from cascade.production.ab import Arm, assign

PLACES = [
    # salt, key, place: (int(sha256(f"{len(salt)}:{salt}:{key}").hexdigest()[:16], 16) >> 11) / 2**53
    ("qa/7", "user-1", 0.47031072735086554),
    ("qa/8", "user-1", 0.5368053945732392),
    ("qa/7", "user-2", 0.0729339471904018),
    ("", "a", 0.11222066911511563),
    ("q", "a/7user-1", 0.9201537516804217),
    ("qa/7", "Zo\u00eb", 0.4410804998979183),
    ("qa/7", "Zoe\u0308", 0.7520700178021971),
    ("qa/7", "\ud800", 0.8777133757846798),
    ("qa/7", " ", 0.8782209891141136),
    ("qa/7", "x" * 10_000, 0.004687050481928856),
    ("fr\u00fch", "\u7528\u6237", 0.5990415335386318),
]
KEYS = [f"user-{number}" for number in range(20_000)]

shares = st.floats(0, 1)


def bounds(n: int, share: float) -> tuple[float, float]:
    """What a count of `n` draws is outside of in one of a million."""
    return float(binom.ppf(5e-7, n, share)), float(binom.ppf(1 - 5e-7, n, share))


@pytest.mark.parametrize(("salt", "key", "place"), PLACES)
def test_every_key_has_its_place_for_ever(salt: str, key: str, place: float) -> None:
    """These never change: whoever serves with another version must give everybody the same arm."""
    assert assign(key, salt=salt, share=place) is Arm.CHAMPION
    assert assign(key, salt=salt, share=place + 2**-53) is Arm.CHALLENGER


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = "from cascade.production.ab import assign; print([assign(f'user-{n}', salt='s', share=0.3).value for n in range(50)])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    ).stdout  # fmt: skip
    assert told.strip() == str([assign(key, salt="s", share=0.3).value for key in KEYS[:50]])


@given(key=st.text(min_size=1), salt=st.text(), share=shares, more=shares)
def test_a_larger_share_takes_nobody_back(key: str, salt: str, share: float, more: float) -> None:
    less, more = sorted((share, more))
    if assign(key, salt=salt, share=less) is Arm.CHALLENGER:
        assert assign(key, salt=salt, share=more) is Arm.CHALLENGER


@given(key=st.text(min_size=1), salt=st.text())
def test_no_share_is_nobody_and_the_whole_is_everybody(key: str, salt: str) -> None:
    assert assign(key, salt=salt, share=0) is Arm.CHAMPION
    assert assign(key, salt=salt, share=1) is Arm.CHALLENGER


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("salt", ["qa/1", "qa/2", ""])
def test_the_share_is_kept(salt: str, share: float) -> None:
    low, high = bounds(len(KEYS), share)
    assert low <= sum(assign(key, salt=salt, share=share) is Arm.CHALLENGER for key in KEYS) <= high


@pytest.mark.parametrize(("share", "other"), [(0.5, 0.5), (0.1, 0.5), (0.1, 0.1)])
def test_tests_with_other_salts_draw_anew(share: float, other: float) -> None:
    """As many of one test's challengers are challengers of the next as of everybody."""
    both = sum(
        assign(key, salt="qa/1", share=share) is assign(key, salt="qa/2", share=other) is Arm.CHALLENGER for key in KEYS
    )
    low, high = bounds(len(KEYS), share * other)
    assert low <= both <= high


def test_salt_and_key_are_kept_apart() -> None:
    arms = [[assign(f"{n}", salt="a1", share=0.5), assign(f"1{n}", salt="a", share=0.5)] for n in range(100)]
    assert any(one is not other for one, other in arms)


@pytest.mark.parametrize("share", [-0.1, 1.1, 10, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(DefinitionError, match=r"The challenger's share is .*: give a fraction from 0 to 1"):
        assign("user", salt="s", share=share)


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(DefinitionError, match="A key of an A/B test is ''"):
        assign("", salt="s", share=0.5)


def test_the_examples_of_docstrings_run() -> None:
    for name in ("assignment", "advice"):
        found = doctest.testmod(importlib.import_module(f"cascade.production.ab.{name}"))
        assert (found.failed, found.attempted > 0) == (0, True)
