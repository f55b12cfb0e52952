import json
import sqlite3
import time

import pytest

from cascade.lm.answers import Answer
from cascade.lm.ledger import Ledger


def _ledger(project):
    return project.folder / ".cascade" / "ledger.db"


def _sql(project, statement, *values):
    connection = sqlite3.connect(_ledger(project))
    with connection:
        connection.execute(statement, values)
    connection.close()


def _ran(project):
    assert project.cascade("run", "letters", "--no-mlflow").code == 0
    return len(project.engine.requests)


def _unfinished(project):
    """The journal of the only run says that it was interrupted."""
    (path,) = (project.folder / ".cascade" / "runs" / "letters").glob("*/run.json")
    run = json.loads(path.read_text()) | {"status": "interrupted"}
    path.write_text(json.dumps(run))
    return f"letters {run['id']}"


def test_without_a_ledger_it_says_when_there_will_be_one(project):
    assert project.cascade("ledger").out == f"There is no ledger yet: {_ledger(project)} is made by the first run.\n"
    assert json.loads(project.cascade("ledger", "show", "--json").out) == {}
    assert project.cascade("ledger", "prune", "--older-than", "1d").out == "Dropped 0 answers; the ledger takes 0 B.\n"
    assert project.cascade("ledger", "check").code == 0
    assert not _ledger(project).exists()


def test_what_was_paid_for_is_shown_by_model_and_role(project):
    calls = _ran(project)
    for words in (("ledger",), ("ledger", "show")):
        lines = project.cascade(*words).out.splitlines()
        assert lines[0].startswith(f"{_ledger(project)}: {calls} answers, ")
        assert " of 10 GB, paid for 20" in lines[0]
        assert lines[1].split("  ")[0] == "model"
        assert lines[2].split()[:3] == ["scripted/base", "task", str(calls)]
        assert len(lines) == 3
    shown = json.loads(project.cascade("ledger", "--json").out)
    assert json.loads(project.cascade("ledger", "show", "--json").out) == shown
    assert (shown["answers"], shown["damaged"], shown["limit_bytes"]) == (calls, 0, 10**10)
    (row,) = shown["by_model"]
    assert (row["model"], row["role"], row["calls"], row["cost_usd"]) == ("scripted/base", "task", calls, None)
    assert row["input_tokens"] > row["output_tokens"] > 0


def test_cost_is_a_sum_where_prices_are_known(project):
    _ledger(project).parent.mkdir()
    with Ledger(_ledger(project)) as ledger:
        for number in range(3):
            ledger.add(f"{number}", Answer("json", {}, 10, 1, 0.25, 0.1), model="openai/x", role="teacher")
    assert "openai/x  teacher      3            30              3  $0.7500" in project.cascade("ledger").out


def test_old_answers_are_dropped_and_nothing_of_a_run_that_is_not_over(project):
    calls = _ran(project)
    _sql(project, "UPDATE calls SET used = ? WHERE rowid <= 10", time.time() - 40 * 86400)
    dry = project.cascade("ledger", "prune", "--older-than", "30d", "--dry-run")
    assert dry.out.startswith("Would drop 10 answers; the ledger takes ")
    assert json.loads(project.cascade("ledger", "show", "--json").out)["answers"] == calls
    done = json.loads(project.cascade("ledger", "prune", "--older-than", "4w", "--json").out)
    assert (done["dropped"], done["kept"], done["dry_run"]) == (10, 0, False)
    run = _unfinished(project)
    kept = project.cascade("ledger", "prune", "--model", "scripted/base")
    assert kept.out.splitlines()[0].startswith("Dropped 0 answers")
    assert f"Kept {calls - 10} that runs which are not over may need: {run}." in kept.out
    assert "--force drops them too." in kept.out
    assert project.cascade("ledger", "prune", "--older-than", "0m").out.startswith("Dropped 0 answers")
    forced = project.cascade("ledger", "prune", "--model", "scripted/base", "--force")
    assert forced.out.startswith(f"Dropped {calls - 10} answers; the ledger takes ")
    assert json.loads(project.cascade("ledger", "--json").out)["answers"] == 0


def test_a_size_is_reached_from_the_oldest_on(project):
    _ledger(project).parent.mkdir()
    with Ledger(_ledger(project)) as ledger:
        for number in range(400):
            ledger.add(f"{number}", Answer("json", "x" * 1000, 1, 1, None, 0.1), model="m", role="task")
    done = json.loads(project.cascade("ledger", "prune", "--max-size", "300kB", "--json").out)
    assert 100 < done["dropped"] < 300
    assert done["file_bytes"] <= 300_000
    with Ledger(_ledger(project)) as ledger:
        assert [ledger.find(str(number)) is None for number in (0, done["dropped"] - 1, done["dropped"], 399)] == [
            True,
            True,
            False,
            False,
        ]


def test_pruned_answers_are_paid_for_again_and_the_rest_is_not(project):
    calls = _ran(project)
    _sql(project, "UPDATE calls SET used = 1 WHERE rowid <= 10")
    project.cascade("ledger", "prune", "--older-than", "30d")
    assert _ran(project) == calls + 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Prune what? Say --older-than 30d"),
        (("--older-than", "soon"), "--older-than 'soon' is not understood. Write a number and m, h, d, w: 30d."),
        (("--older-than", "30"), "--older-than '30' is not understood"),
        (("--max-size", "30d"), "--max-size '30d' is not understood. Write a number and kb, mb, gb, tb: 500MB."),
    ],
)
def test_what_is_not_understood_is_one_line(project, words, told):
    done = project.cascade("ledger", "prune", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"cascade: {told}")
    assert done.err.count("\n") == 1


def test_damaged_rows_are_told_and_dropped_on_demand(project):
    calls = _ran(project)
    assert project.cascade("ledger", "check").out == f"{_ledger(project)}: {calls} rows, 0 damaged.\n"
    _sql(project, "UPDATE calls SET answer = x'ff' WHERE rowid IN (2, 5)")
    assert (
        "2 rows damaged, as if not there; `cascade ledger check --repair` drops them." in project.cascade("ledger").out
    )
    found = project.cascade("ledger", "check")
    assert found.code == 1
    assert found.out.splitlines() == [
        f"{_ledger(project)}: {calls} rows, 2 damaged.",
        "`cascade ledger check --repair` mends it.",
    ]
    assert json.loads(project.cascade("ledger", "check", "--json").out)["damaged"] == 2
    done = project.cascade("ledger", "check", "--repair")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Repaired: dropped 2 damaged rows.")
    assert project.cascade("ledger", "check").code == 0
    assert _ran(project) == calls + 2


def test_a_damaged_file_is_told_and_what_it_holds_is_saved(project):
    calls = _ran(project)
    content = _ledger(project).read_bytes()
    _ledger(project).write_bytes(content[: len(content) * 3 // 4])
    refused = project.cascade("run", "letters", "--no-mlflow")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "is damaged: database disk image is malformed. `cascade ledger check --repair` saves" in refused.err
    assert project.cascade("ledger").code == 1
    found = project.cascade("ledger", "check")
    assert (found.code, found.out.splitlines()[0]) == (
        1,
        f"{_ledger(project)} is damaged: database disk image is malformed.",
    )
    done = json.loads(project.cascade("ledger", "check", "--repair", "--json").out)
    assert done["done"].startswith("saved ")
    assert 0 < _ran(project) - calls < calls


@pytest.mark.parametrize("words", [("ledger",), ("ledger", "check"), ("ledger", "prune", "--older-than", "1d")])
def test_what_is_no_ledger_is_one_line(project, words):
    _ledger(project).parent.mkdir()
    _ledger(project).write_text("my notes " * 1000)
    done = project.cascade(*words)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "is no ledger: file is not a database. Move the file away" in done.err
