"""Reading journals: whole or not at all, and which run is meant."""

import json
import os

import pytest
import report_journals as by_hand

from cascade.errors import CascadeError, ExperimentError
from cascade.report.finding import named, newest
from cascade.report.pairing import paired
from cascade.report.reading import read


def test_a_run_is_read_whole(tmp_path):
    run = read(by_hand.completed(tmp_path))
    assert (run.id, run.status, run.judged) == ("20261118-110640-4f2a", "completed", True)
    assert [stage.folder for stage in run.stages] == ["0-baseline", "1-words", "2-more", "3-again", "4-weights"]
    assert run.baseline is run.stages[0]
    assert run.best is run.stages[1]
    assert run.test.proven
    assert run.test_scores.best[:3] == (0.0, 0.0, 1.0)
    assert run.examples["1-words"][2].predicted == "c"
    assert run.decisions["2-more"].skipped == ("again",)
    assert run.headroom == "40 examples of train: room to climb."
    assert run.groups == {}
    assert run.heard == by_hand.STARTED + 95


STATUSES = [
    ("running", os.getpid(), "running"), ("running", 0, "interrupted"), ("running", 2**22 + 1, "interrupted"),
    ("running", 10**30, "interrupted"), ("completed", 0, "completed"), ("failed", os.getpid(), "failed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "pid", "shown"), STATUSES, ids=lambda value: "here" if value == os.getpid() else None
)
def test_a_run_whose_process_is_gone_was_interrupted(tmp_path, written, pid, shown):
    journal = by_hand.begun(tmp_path, status=written, pid=pid)
    assert read(journal).status == shown


def test_a_run_without_any_stage_has_no_best(tmp_path):
    run = read(by_hand.begun(tmp_path))
    assert (run.stages, run.best, run.baseline, run.heard) == ((), None, None, by_hand.STARTED)


DAMAGE = [
    ("run.json", "{"),
    ("run.json", json.dumps({"id": "x", "experiment": "qa", "started": "yesterday"})),
    ("run.json", json.dumps({"id": "x", "experiment": "qa", "status": "asleep"})),
    ("run.json", json.dumps({"id": "x", "experiment": "qa", "spent": {"lm_calls": "many"}})),
    ("run.json", json.dumps({"id": "x", "experiment": "qa", "test": {"gain": 0.1}})),
    ("1-words/record.json", "[]"),
    ("1-words/record.json", json.dumps({"number": 1, "name": "words", "lever": "prompt", "status": "done", "metrics": {"dev_score": None}})),
    ("1-words/record.json", json.dumps({"number": 1, "name": "words", "lever": "prompt", "status": "done", "metrics": {"dev_score": float("nan")}})),
    ("findings.json", json.dumps([{"severity": "warning"}])),
    ("1-words/decision.json", json.dumps({"interval": [0.1]})),
    ("1-words/examples.json", json.dumps({"id": ["a"]})),
    ("1-words/examples.json", json.dumps({**by_hand.table(range(3)), "id": ["a"]})),
    ("1-words/examples.json", "\udcff"),
    ("1-words/program.json", "nothing"),
    ("groups.json", json.dumps({"dev": ["a"]})),
    ("test.json", json.dumps({"id": ["a"], "baseline": [1.0], "best": []})),
    ("headroom.json", "{}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), DAMAGE)
def test_damage_is_one_error_that_names_the_file(tmp_path, name, text):
    journal = by_hand.completed(tmp_path)
    (journal.folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CascadeError) as caught:
        read(journal)
    assert str(journal.folder / name) in str(caught.value)
    assert f"Remove the folder {journal.folder}" in str(caught.value)


@pytest.mark.parametrize(("name", "text"), DAMAGE)
def test_a_damaged_run_is_passed_over_with_one_line(tmp_path, name, text):
    by_hand.completed(tmp_path, id="20261117-000000-good", started=1.0)
    damaged = by_hand.completed(tmp_path)
    (damaged.folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    warnings = []
    (run,) = newest(tmp_path, "qa", 2, warnings.append)
    assert run.id == "20261117-000000-good"
    (warning,) = warnings
    assert warning.startswith("run 20261118-110640-4f2a is passed over: ")
    assert "\n" not in warning


def test_the_newest_run_began_last(tmp_path):
    for id_, started in (("20260101-000000-ffff", 1.1), ("20260101-000000-0000", 1.9), ("20260101-000000-8888", 1.5)):
        by_hand.begun(tmp_path, id=id_, started=started)
    assert [run.id[-4:] for run in newest(tmp_path, "qa", 2, pytest.fail)] == ["0000", "8888"]
    assert [run.id[-4:] for run in named(tmp_path, "qa", ["ffff", "20260101-000000-8888"])] == ["ffff", "8888"]


def test_runs_that_judged_nothing_can_be_passed_over(tmp_path):
    by_hand.completed(tmp_path, started=1.0)
    by_hand.begun(tmp_path, id="20261119-000000-none")
    (run,) = newest(tmp_path, "qa", 5, pytest.fail, judged=True)
    assert run.best


@pytest.mark.parametrize(
    ("experiment", "run", "message"),
    [
        ("qa", "zzzz", "Experiment 'qa' has no run 'zzzz'. Give one of: 20260102-000000-aaab, 20260101-000000-aaaa."),
        (
            "qa",
            "2026",
            "Experiment 'qa' has several runs '2026'. Give one of: 20260102-000000-aaab, 20260101-000000-aaaa.",
        ),
        ("qa", "", "has no run ''"),
        (
            "other",
            "x",
            "Experiment 'other' has no run that can be shown. Experiments with runs: qa. Run it: cascade run other",
        ),
        ("../runs/qa", "x", "has no run"),
    ],
)
def test_a_run_that_is_not_there_is_named_with_those_that_are(tmp_path, experiment, run, message):
    for id_ in ("20260101-000000-aaaa", "20260102-000000-aaab"):
        by_hand.begun(tmp_path, id=id_)
    with pytest.raises(ExperimentError) as caught:
        named(tmp_path, experiment, [run])
    assert message in str(caught.value)


def test_without_any_run_there_is_nothing_to_show(tmp_path):
    with pytest.raises(ExperimentError, match=r"Run it: cascade run qa$"):
        newest(tmp_path, "qa", 1, pytest.fail)


def test_examples_are_paired_by_id_and_the_largest_change_comes_first(tmp_path):
    run = read(by_hand.completed(tmp_path))
    before, after = run.examples["0-baseline"], run.examples["1-words"]
    found = paired(before, list(reversed(after))[:-3])
    assert found.sentence == "16 examples won, 0 lost, 5 level"
    assert [change.after.id for change in found.won] == sorted(change.after.id for change in found.won)
    assert all(change.before.id == change.after.id for change in found.won + found.lost)
    assert len(found.won) + len(found.lost) + found.level == len(after) - 3
    assert paired(before, before).level == len(before)
