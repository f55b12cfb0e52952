"""What a night says of the rows that are new to it, and of the champion on today's test.

Invariant: a row is known by a hash of its content, so that it does not matter who brought it or when.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from cascade.check import Prepared
from cascade.checks.rows import input_texts
from cascade.dataset import Split
from cascade.evaluation import Evaluation
from cascade.production.night.drift import Rows, drift_of_inputs, drift_of_score
from cascade.production.promoting.log import Entry, row_hashes
from cascade.production.promoting.looks import metric_of


def about_inputs(prepared: Prepared, before: Mapping[str, Collection[str]], answers: Sequence[str]) -> str:
    """Whether the rows that joined, in whatever split, are unlike those that train had; "" where they are not.

    Args:
        before: hashes of the rows that were there, by split.
        answers: fields that hold what is expected.
    """
    new = [_part(split, {*row_hashes(split)} - {*before.get(split.name, ())}, answers) for split in prepared.data]
    joined = Rows(
        [text for rows in new for text in rows.inputs],
        [text for rows in new for text in rows.answers],
        [group for rows in new for group in rows.groups or ()] if prepared.data.train.groups else None,
    )
    train = prepared.data.train
    return drift_of_inputs(joined, _part(train, before.get("train", ()), answers), seed=prepared.settings.seed)


def about_score(prepared: Prepared, entries: Iterable[Entry], version: str, today: Evaluation) -> str:
    """Whether the champion scores on today's test what it did when it was judged; "" where it does, or nobody knows."""
    metric = metric_of(prepared)
    looks = [
        entry
        for entry in entries
        if entry.event == "judged" and entry.version == version and entry.fingerprints.get("metric") == metric
    ]
    return drift_of_score(today, float(looks[0].figures["score"])) if looks else ""


def _part(split: Split, wanted: Collection[str], answers: Sequence[str]) -> Rows:
    places = [place for place, hash_ in enumerate(row_hashes(split)) if hash_ in wanted]
    texts = input_texts(split)
    groups = [split.groups[place] for place in places] if split.groups else None
    held = [_told(split.rows[place], answers) for place in places]
    return Rows([texts[place] for place in places], held, groups)


def _told(row: Mapping[str, Any], answers: Sequence[str]) -> str:
    return ", ".join(str(row[name]) for name in answers)
