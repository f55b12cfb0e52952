"""Whether new rows are like those of train, and whether the champion still scores what it did when it was promoted.

Invariant: nothing is decided here; what is found is a sentence for a person. Rows that are like those of train are
called different in at most `FALSE_ALARMS` of the nights, whatever they hold: the chance comes from shuffling which rows
are new, not from an assumption about them.

Three things are looked at: lengths, wording and answers. Wording is the distance between the mean vectors of both sides
(character 3-grams, hashed, of length one), the maximum mean discrepancy of A. Gretton, K. Borgwardt, M. Rasch,
B. Schölkopf and A. Smola, A kernel two-sample test, JMLR 13 (2012) 723-773; answers the same over one-hot labels,
lengths over logarithms. Rows of a group are shuffled together.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.comparison import score_interval
from cascade.evaluation import Evaluation

FALSE_ALARMS = 0.01
"""Chance, of all three together, to call rows different that are not."""
LEAST = 5
"""New rows below which nothing is said."""
MOST = 600
"""Rows of each side that are looked at: the newest of the new, an even sample of the others."""
SHUFFLES = 1_999
SCORE_CONFIDENCE = 0.98
"""Of the interval of today's score: a true score as promoted is below it, or above it, in 1 of 100."""
_BUCKETS = 1 << 11
_LABELS = 50
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """One side: what a program is given and what is expected of it, a text each, and which rows belong together."""

    inputs: Sequence[str]
    answers: Sequence[str]
    groups: Sequence[Hashable] | None = None


def drift_of_inputs(new: Rows, old: Rows, *, seed: int = 0) -> str:
    """What is different about the new rows, in a sentence; "" where nothing is, or too little is known.

    >>> alike = Rows([f"order {n} is late" for n in range(40)], ["delivery"] * 40)
    >>> drift_of_inputs(alike, alike)
    ''
    """
    new, old = _some(new, from_end=True), _some(old)
    if min(len(new.inputs), len(old.inputs)) < LEAST:
        return ""
    told = {"lengths": _about_lengths, "wording": _about_wording, "answers": _about_answers}
    found = chances(new, old, seed=seed)
    moved = [told[name](new, old) for name, chance in found.items() if chance <= FALSE_ALARMS / len(found)]
    return f"The {len(new.inputs)} newest rows are unlike those of train: {'; '.join(moved)}." if moved else ""


def chances(new: Rows, old: Rows, *, seed: int = 0, shuffles: int = SHUFFLES) -> dict[str, float]:
    """How often sides that were shuffled are as far apart as these or further, by what is looked at."""
    weights, found = _weights(new, old, np.random.default_rng(seed), shuffles), {}
    for name, vectors in {"lengths": _lengths, "wording": _wording, "answers": _answers}.items():
        sides = vectors(new, old)
        apart = ((weights @ (sides @ sides.T)) * weights).sum(1)
        found[name] = float((apart >= apart[0] * (1 - 1e-9) - 1e-12).mean())
    return found


def drift_of_score(today: Evaluation, promoted: float) -> str:
    """Whether the champion's score has moved away from that of its promotion, in a sentence; "" where it has not.

    Args:
        today: on test as it is.
        promoted: mean on test when it was promoted.
    """
    interval = score_interval(today.scores, groups=today.split.groups, confidence=SCORE_CONFIDENCE)
    if interval.low <= promoted <= interval.high:
        return ""
    return (
        f"The champion scores {today.mean:.1%} on test [{interval.low:.1%}, {interval.high:.1%}], "
        f"{'less' if today.mean < promoted else 'more'} than the {promoted:.1%} with which it was promoted."
    )


def _some(rows: Rows, *, from_end: bool = False) -> Rows:
    count = len(rows.inputs)
    places = range(max(0, count - MOST), count) if from_end else range(0, count, -(-count // MOST) or 1)
    groups = None if rows.groups is None else [rows.groups[n] for n in places]
    return Rows([rows.inputs[n] for n in places], [rows.answers[n] for n in places], groups)


def _weights(new: Rows, old: Rows, rng: np.random.Generator, shuffles: int) -> Array:
    """A row a shuffle, the first as it is: 1 over their number for rows that are new, minus that for the others."""
    units = [
        (side, n if rows.groups is None else rows.groups[n]) for side, rows in enumerate((new, old))
        for n in range(len(rows.inputs))
    ]  # fmt: skip
    place = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    first = np.array([side == 0 for side, _ in place])
    drawn = np.stack([first, *(rng.permutation(first) for _ in range(shuffles))])[:, [place[unit] for unit in units]]
    counts = drawn.sum(1, keepdims=True)
    weights: Array = np.where(drawn, 1 / counts, -1 / (drawn.shape[1] - counts))
    return weights


def _lengths(new: Rows, old: Rows) -> Array:
    return np.log1p([[len(text)] for text in (*new.inputs, *old.inputs)])


def _answers(new: Rows, old: Rows) -> Array:
    """One column a label, of those that are frequent; the others share one."""
    both = [*new.answers, *old.answers]
    known = {label: place for place, (label, _) in enumerate(Counter(both).most_common(_LABELS))}
    vectors = np.zeros((len(both), _LABELS + 1))
    vectors[np.arange(len(both)), [known.get(label, _LABELS) for label in both]] = 1
    return vectors


def _wording(new: Rows, old: Rows) -> Array:
    vectors: Array = np.zeros((len(new.inputs) + len(old.inputs), _BUCKETS))
    for place, text in enumerate((*new.inputs, *old.inputs)):
        codes = np.frombuffer(f"  {text.casefold()}  ".encode("utf-32-le", "surrogatepass"), np.uint32).astype(int)
        vectors[place] = np.bincount((codes[:-2] * 961 + codes[1:-1] * 31 + codes[2:]) % _BUCKETS, minlength=_BUCKETS)
        vectors[place] /= np.linalg.norm(vectors[place])
    return vectors


def _about_lengths(new: Rows, old: Rows) -> str:
    ours, theirs = (int(np.median([len(text) for text in rows.inputs])) for rows in (new, old))
    return f"in length (a median of {ours:,} characters, {theirs:,} in train)"


def _about_wording(new: Rows, old: Rows) -> str:
    """The words whose share of the rows rose most."""
    ours, theirs = (_shares([word for text in rows.inputs for word in set(text.casefold().split())], len(rows.inputs))
                    for rows in (new, old))  # fmt: skip
    risen = sorted(ours, key=lambda word: (theirs.get(word, 0.0) - ours[word], word))[:3]
    return f"in wording (more often: {', '.join(repr(word[:30]) for word in risen)})"


def _about_answers(new: Rows, old: Rows) -> str:
    """The answer whose share moved most."""
    ours, theirs = (_shares(rows.answers, len(rows.answers)) for rows in (new, old))
    label = max({*ours, *theirs}, key=lambda one: (abs(ours.get(one, 0.0) - theirs.get(one, 0.0)), one))
    return f"in answers ({label[:40]!r}: {ours.get(label, 0.0):.0%}, {theirs.get(label, 0.0):.0%} in train)"


def _shares(things: Sequence[str], of: int) -> dict[str, float]:
    return {thing: count / of for thing, count in Counter(things).items()}
