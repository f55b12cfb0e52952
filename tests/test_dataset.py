"""Datasets: sources, splits, fingerprints, and what would make a score a lie."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.dataset import SPLITS, Dataset, Split, load
from cascade.errors import DatasetError
from cascade.rows import read_rows

Q = ("question",)


def rows(split: str, n: int = 2) -> list[dict[str, Any]]:
    return [{"question": f"{split} {number}?", "answer": str(number)} for number in range(n)]


def files(project: Path, name: str = "qa", info: str = 'inputs = ["question"]', **splits: str) -> Path:
    folder = project / "datasets" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.toml").write_text(info, "utf-8")
    for split in SPLITS:
        text = splits.get(split, "".join(json.dumps(row) + "\n" for row in rows(split)))
        (folder / f"{split}.jsonl").write_text(text, "utf-8")
    return folder


def test_files_are_read_by_name(tmp_path: Path) -> None:
    files(tmp_path, train='{"id": "t1", "question": "é?", "answer": "1"}\n\n{"question": "b?", "answer": "2"}')
    data = load(Dataset("qa"), tmp_path)
    assert [split.name for split in data] == list(SPLITS)
    assert data.train.ids == ("t1", "train-0002")
    assert data.train.rows[0]["question"] == "é?"
    assert (data.train.groups, data.train.inputs, len(data.train)) == (None, Q, 2)
    example = data.train.examples()[0]
    assert (example.inputs().toDict(), example.answer) == ({"question": "é?"}, "1")


SOURCES: list[Callable[[Path], Any]] = [
    lambda folder: rows("train"),
    lambda folder: tuple(rows("train")),
    lambda folder: iter(rows("train")),
    lambda folder: lambda: rows("train"),
    lambda folder: pandas.DataFrame(rows("train")),
    lambda folder: lambda: pandas.DataFrame(rows("train")),
    lambda folder: _write(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows("train"))),
    lambda folder: str(_write(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows("train"))).name),
    lambda folder: _write(folder / "rows.csv", 'question,answer\ntrain 0?,"0"\ntrain 1?,"1"\n'),
    lambda folder: _write(folder / "rows.json", json.dumps(rows("train"))),
]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path, source: Callable[[Path], Any]) -> None:
    found = read_rows(source(tmp_path), tmp_path, "here")
    assert [{name: str(value) for name, value in row.items()} for row in found] == rows("train")


CELLS = [
    (["1", "-2", "0"], [1, -2, 0]),
    (["1", "2.5"], [1, 2.5]),
    (["007", "8"], ["007", "8"]),
    (["1.50", "2.5"], ["1.50", "2.5"]),
    (["1e5", "+1", "1_0"], ["1e5", "+1", "1_0"]),
    (["inf", "nan"], ["inf", "nan"]),
    (["True", "FALSE"], [True, False]),
    (["true", "1"], ["true", "1"]),
    (["1", ""], ["1", ""]),
    (["NA", "null"], ["NA", "null"]),
    (["12345678901234567890", "1"], [12345678901234567890, 1]),
    ([" 1", "2"], [" 1", "2"]),
]


@pytest.mark.parametrize(("cells", "values"), CELLS)
def test_a_csv_s_numbers_are_numbers_only_where_nothing_is_lost(
    tmp_path: Path, cells: list[str], values: list[Any]
) -> None:
    text = "text,value\n" + "".join(f'x,"{cell}"\n' for cell in cells)
    found = [row["value"] for row in read_rows(_write(tmp_path / "rows.csv", text), tmp_path, "here")]
    assert (found, list(map(type, found))) == (values, list(map(type, values)))


def test_sources_replace_files(tmp_path: Path) -> None:
    files(tmp_path)
    data = load(Dataset("qa", dev=rows("other", 3)), tmp_path)
    assert (len(data.train), len(data.dev), len(data.test)) == (2, 3, 2)


WRONG_FILES = [
    (dict(train='{"question": "a"}\n{"question": \n'), ["datasets/qa/train.jsonl, line 2 is not valid JSON", "'{\"question\": '"]),
    (dict(dev='["a"]'), ["datasets/qa/dev.jsonl, line 1 is no JSON object", "'[\"a\"]'"]),
    (dict(test=""), ["datasets/qa/test.jsonl has no rows", "Add at least one"]),
    (dict(train='{"answer": "1"}'), ["datasets/qa/train.jsonl, row 1 has no field 'question'", "Found: answer"]),
    (dict(train='{"id": 1, "question": "a"}\n{"id": "1", "question": "b"}'), ["uses the id '1' twice", "Make ids unique"]),
    (dict(train='{"question": NaN}'), ["row 1, field 'question' holds nan", "not JSON", "fill the gap"]),
    (dict(train='{"question": "\\ud800"}'), ["train.jsonl, row 1, field 'question' holds '\\ud800'", "not JSON"]),
    (dict(info="inputs = "), ["datasets/qa/dataset.toml is not valid TOML"]),
    (dict(info=""), ["Dataset 'qa' does not say its input fields", 'inputs = ["question"]', "datasets/qa/dataset.toml"]),
    (dict(info='inputs = "question"'), ["Dataset 'qa'", "'question'", 'inputs = ["question"]']),
    (dict(info='inputs = ["question"]\ngroup = "customer"'), ["row 1 has no field 'customer'"]),
    (dict(info='inputs = ["question"]\nfingerprint = "000"'), ["says '000'", "write fingerprint = \"", "datasets/qa/dataset.toml"]),
    (dict(dev='{"question": "train 1?", "answer": "x"}'),
     ["the inputs of 'dev-0001' in 'dev' stand in 'train' too ('train-0002')", "Remove one"]),
    (dict(info='inputs = ["question"]\ngroup = "answer"', dev='{"question": "new?", "answer": "0"}'),
     ["group '0' stands in 'train' and 'dev'", "Keep a group in one split"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), WRONG_FILES)
def test_what_is_wrong_in_a_file_is_quoted_with_place_and_fix(
    tmp_path: Path, changes: dict[str, str], told: list[str]
) -> None:
    files(tmp_path, **changes)
    with pytest.raises(DatasetError) as caught:
        load(Dataset("qa"), tmp_path)
    assert [part for part in told if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("present", "told"),
    [
        ([], "Dataset 'qa' has no split 'train'. Found: none. Add datasets/qa/train.jsonl."),
        (["train"], "Dataset 'qa' has no split 'dev'. Found: train. Add datasets/qa/dev.jsonl."),
        (["train", "dev"], "Dataset 'qa' has no split 'test'. Found: train, dev. Add datasets/qa/test.jsonl."),
    ],
)
def test_a_missing_split_says_what_is_there(tmp_path: Path, present: list[str], told: str) -> None:
    folder = files(tmp_path)
    for name in SPLITS:
        if name not in present:
            (folder / f"{name}.jsonl").unlink()
    with pytest.raises(DatasetError) as caught:
        load(Dataset("qa"), tmp_path)
    assert str(caught.value) == told


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (files(tmp_path) / "dev.jsonl").write_bytes('{"question": "é"}'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"datasets/qa/dev\.jsonl.*UTF-8"):
        load(Dataset("qa"), tmp_path)


WRONG_SOURCES = [
    ("gone.jsonl", ["'gone.jsonl'", "does not exist"]),
    ("rows.xml", ["names 'rows.xml'", ".jsonl, .json, .csv, .parquet"]),
    ("broken.json", ["'broken.json' could not be read"]),
    ([{"question": {1, 2}}], ["row 1, field 'question' holds {1, 2}", "use text, numbers, lists or tables"]),
    ([{"question": "a"}, "b"], ["row 2 is 'b'", "not a dictionary of fields"]),
    ([{"question": math.inf}], ["row 1, field 'question' holds inf", "not JSON"]),
    (pandas.DataFrame({"question": ["a", None], "answer": [1.0, math.nan]}), ["row 2, field", "nan", "fill the gap"]),
    (5, ["5", "rows"]),
]


@pytest.mark.parametrize(("source", "told"), WRONG_SOURCES)
def test_what_is_wrong_in_a_source_is_quoted_with_place_and_fix(tmp_path: Path, source: Any, told: list[str]) -> None:
    for name in ("rows.xml", "broken.json"):
        (tmp_path / name).write_text("<x/>")
    with pytest.raises(DatasetError) as caught:
        load(Dataset("qa", train=source, dev=rows("dev"), test=rows("test"), inputs=Q), tmp_path)
    message = str(caught.value)
    assert [part for part in ["Dataset 'qa', split 'train'", *told] if part not in message] == []


def test_a_text_of_inputs_is_refused_before_it_is_taken_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Dataset 'qa'.*'question'.*inputs = \[\"question\"\]"):
        load(Dataset("qa", rows("train"), rows("dev"), rows("test"), inputs="question"), tmp_path)


def test_the_same_inputs_twice_in_one_split_are_allowed(tmp_path: Path) -> None:
    data = load(Dataset("qa", rows("train") * 2, rows("dev"), rows("test"), inputs=Q), tmp_path)
    assert len(data.train) == 4


def test_groups_come_from_the_dataset_or_its_file(tmp_path: Path) -> None:
    files(tmp_path, info='inputs = ["question"]\ngroup = "answer"', **{
        name: json.dumps({"question": name, "answer": name, "who": f"w {name}"}) for name in SPLITS
    })  # fmt: skip
    assert load(Dataset("qa"), tmp_path).dev.groups == ("dev",)
    assert load(Dataset("qa", group="who"), tmp_path).dev.groups == ("w dev",)


def test_the_right_fingerprint_passes(tmp_path: Path) -> None:
    files(tmp_path)
    fingerprint = load(Dataset("qa"), tmp_path).fingerprint
    files(tmp_path, info=f'inputs = ["question"]\nfingerprint = "{fingerprint}"')
    assert load(Dataset("qa"), tmp_path).fingerprint == fingerprint


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ([{"answer": "0", "question": "train 0?"}, {"question": "train 1?", "answer": "1"}], True),
        (list(reversed(rows("train"))), False),
        ([*rows("train"), {"question": "new", "answer": ""}], False),
        ([{**row, "answer": int(row["answer"])} for row in rows("train")], False),
    ],
)
def test_a_fingerprint_is_of_content_and_order(changed: list[dict[str, Any]], same: bool) -> None:
    def fingerprint(found: list[dict[str, Any]]) -> str:
        return Split("train", tuple(found), tuple(map(str, range(len(found)))), None, Q).fingerprint

    assert (fingerprint(changed) == fingerprint(rows("train"))) is same
    assert len(fingerprint(changed)) == 12


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_ROWS = st.lists(st.dictionaries(_TEXT, _JSON, min_size=1, max_size=3), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(_ROWS, st.booleans())
def test_any_json_rows_come_back_as_they_were(tmp_path: Path, found: list[dict[str, Any]], ascii_: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=ascii_) + "\n" for row in found), "utf-8", newline="\n")
    assert read_rows(path, tmp_path, "here") == found
    assert read_rows(found, tmp_path, "here") == found


def test_json_keeps_its_types(tmp_path: Path) -> None:
    row = {"question": "Which code?", "answer": "007", "date": "2024-01-01", "count": 3, "tags": ["a"]}
    _write(tmp_path / "rows.json", json.dumps([row]))
    assert read_rows("rows.json", tmp_path, "here") == [row]


def test_lists_come_out_of_parquet(tmp_path: Path) -> None:
    rows_ = [{"question": "Which?", "labels": ["x", "y"]}]
    pandas.DataFrame(rows_).to_parquet(tmp_path / "rows.parquet")
    assert read_rows("rows.parquet", tmp_path, "here") == rows_
