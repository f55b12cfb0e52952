"""Texts that are the same but for case, spaces and punctuation, and texts that nearly are.

Invariant: what is found depends on the texts alone, and takes time in proportion to their number.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = 0.8
"""Share of their shingles that two nearly equal texts have in common (Jaccard)."""
SHINGLE = 4
"""Characters of a shingle: one letter changed in a text of 40 characters leaves 0.82 in common, in one of 20 0.62."""
MOST_SHINGLES = 2_000_000
"""Of all texts together; of longer ones an even sample is compared."""
BANDS, ROWS = 20, 6
"""Of a MinHash signature: of pairs at `NEAR` 997 in 1,000 are found, and of unlike ones hardly any is looked at."""
MOST_ALIKE = 8
"""Texts of one bucket that are looked at; where more are alike, they are made from a template."""
_APOSTROPHES = re.compile("['’‘`´\u00ad\u200b-\u200f\u2060\ufeff]")
_PUNCTUATION = re.compile(r"""(?<=\w)-(?=[^\W\d])|[!"#(),./:;?@\[\\\]_{}¡§«¶·»¿–—‐‑“”„…\u3001\u3002]+""")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
Codes = NDArray[np.uint64]


def normalised(text: str) -> str:
    """Without case, punctuation and repeated spaces; signs such as + and - between numbers stay.

    >>> normalised("What's  3 - 2,\\u00a0exactly?"), normalised("well-known"), normalised("?!")
    ('whats 3 - 2 exactly', 'well known', '?!')

    A text of nothing but punctuation stays what it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    bare = " ".join(_PUNCTUATION.sub(" ", _APOSTROPHES.sub("", folded)).split())
    return bare or folded.strip()


@dataclass(frozen=True)
class Pair:
    """Two texts by their place in what was compared, and the share of shingles they have in common."""

    left: int
    right: int
    share: float


def nearest(left: Sequence[str], right: Sequence[str]) -> list[Pair]:
    """For each text of `right` that nearly equals one of `left`, the nearest of those; equal texts are left out.

    MinHash signatures in bands (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3) say
    which pairs are worth comparing.

    Args:
        left, right: normalised texts.
    """
    every = (sum(map(len, left)) + sum(map(len, right))) // MOST_SHINGLES + 1
    ours, theirs = [_shingles(text, every) for text in left], [_shingles(text, every) for text in right]
    signed, asked = _signatures(ours), _signatures(theirs)
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, bands in enumerate(_bands(signed)):
        for key in enumerate(bands) if len(ours[number]) else ():
            if len(buckets[key]) < MOST_ALIKE:
                buckets[key].append(number)
    found = []
    for number, bands in enumerate(_bands(asked)):
        alike = {other for key in enumerate(bands) for other in buckets.get(key, ()) if left[other] != right[number]}
        if alike and len(theirs[number]):
            likeliest = max(sorted(alike), key=lambda other: int((signed[other] == asked[number]).sum()))
            share = _share(ours[likeliest], theirs[number])
            if share >= NEAR:
                found.append(Pair(likeliest, number, share))
    return found


def _shingles(text: str, every: int) -> Codes:
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    n = len(letters) - SHINGLE + 1
    if n <= 0:
        return np.empty(0, np.uint64)
    code = np.zeros(n, np.uint64)
    for place in range(SHINGLE):
        code = (code ^ letters[place : place + n]) * _FACTOR  # wraps around, as a hash may
        code ^= code >> np.uint64(29)
    found = np.unique(code)
    return found[found % np.uint64(every) == 0] if every > 1 else found


def _signatures(sets: Sequence[Codes]) -> Codes:
    """A row a text: the least of its shingles under each of so many hashes."""
    signed = np.zeros((len(sets), BANDS * ROWS), np.uint64)
    filled = [number for number, codes in enumerate(sets) if len(codes)]
    if not filled:
        return signed
    lengths = [len(sets[number]) for number in filled]
    starts, codes = np.cumsum([0, *lengths[:-1]]), np.concatenate([sets[number] for number in filled])
    factors = np.random.default_rng(0).integers(1, 1 << 63, (2, BANDS * ROWS), np.uint64)
    for column in range(BANDS * ROWS):
        hashed = (codes ^ factors[0, column]) * (factors[1, column] | np.uint64(1))
        signed[filled, column] = np.minimum.reduceat(hashed, starts)
    return signed


def _bands(signed: Codes) -> list[list[int]]:
    parts = signed.reshape(len(signed), BANDS, ROWS)
    keys = np.zeros(parts.shape[:2], np.uint64)
    for row in range(ROWS):
        keys = (keys ^ parts[:, :, row]) * _FACTOR
        keys ^= keys >> np.uint64(31)
    return list(keys.tolist())


def _share(one: Codes, other: Codes) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
