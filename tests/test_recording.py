"""What the record of a run says of its definition."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas
import pytest
import scripted

from cascade.recording import run_record
from cascade.testing import ScriptedEngine

ORIGINS = [
    (None, "datasets/x/train.jsonl"),
    ("a.csv", "a.csv"),
    (Path("data") / "a.jsonl", "data/a.jsonl"),
    ("hf://datasets/squad/train.parquet", "hf://datasets/squad/train.parquet"),
    ("https://me:secret@host/a.csv?signature=secret", "https://host/a.csv"),
    (pandas.DataFrame(), "DataFrame"),
    ([], "list"),
    (lambda: [], "function"),
]


@pytest.mark.parametrize(("given", "told"), ORIGINS)
def test_a_split_s_source_is_where_its_rows_came_from(tmp_path: Path, given: Any, told: str) -> None:
    made = scripted.prepared(scripted.experiment(), tmp_path, ScriptedEngine(scripted.answer))
    dataset = dataclasses.replace(made.experiment.dataset, train=given)
    record = run_record(
        dataclasses.replace(made, experiment=dataclasses.replace(made.experiment, dataset=dataset)), 0.0
    )
    assert (record.splits["train"]["source"], record.splits["dev"]["source"]) == (told, "list")
