"""Nights: on a scripted model and a real MLflow database, from the first to those on which nothing is due."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, Project
from letters import EXPERIMENT

from cascade.journal import journals
from cascade.mlflow_store.store import connect
from cascade.mlflow_store.versions import Versions
from cascade.production.night import Night, Nights
from cascade.production.promoting import PromotionLog
from cascade.session import alone
from cascade.testing import ScriptedEngine

pytestmark = pytest.mark.usefixtures("store")
DAY = 86_400.0


def learns(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Each demo shows it two more digits."""
    question = inputs.get("question", "")
    return {"answer": question[-1] if int(question[-1]) < 1 + 2 * demos else "?"}


@pytest.fixture
def learning(project: Project) -> Iterator[Project]:
    project.engine = ScriptedEngine(learns)
    return project


def shows(project: Project, demos: int, **more: str) -> None:
    """Let the experiment show so many demos."""
    text = EXPERIMENT.replace("k=4", f"k={demos}")
    for name, value in more.items():
        text = text.replace("metric=right", f"metric=right, {name}={value}")
    project.write("experiments/letters.py", text)


def night(project: Project, *words: str, after: int = 1) -> tuple[Done, Night]:
    """Hold the night of so many days later."""
    now = project.clock() + after * DAY
    project.clock = lambda: now
    done = project.cascade("nightly", "letters", *words)
    return done, held(project)[0]


def held(project: Project) -> list[Night]:
    return Nights(project.folder / ".cascade", "letters").all()


def log(project: Project) -> list[tuple[str, str, int]]:
    entries = PromotionLog.of(project.folder / ".cascade", "letters").entries()
    return [(entry.event, entry.version, entry.attempt) for entry in entries]


def versions(project: Project) -> Versions:
    return Versions(connect(f"sqlite:///{project.folder / 'mlflow.db'}"), "letters")


def kinds(project: Project) -> list[str]:
    return [journal.run.kind for journal in journals(project.folder / ".cascade", "letters")]


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in str(path)]
    return {str(path): path.read_bytes() for path in files}


def new_rows(project: Project, name: str, rows: list[dict[str, Any]]) -> None:
    project.write(f"datasets/letters/incoming/{name}", "".join(json.dumps(row) + "\n" for row in rows))


def letters(word: str, count: int) -> list[dict[str, Any]]:
    return [{"question": f"{word} {n // 10} {n % 10}", "answer": str(n % 10)} for n in range(count)]


def test_the_first_night_promotes_and_the_second_call_of_the_night_changes_nothing(learning: Project) -> None:
    shows(learning, 3)
    done, first = night(learning, "--promote", after=0)
    assert done.code == 0, done.err
    assert "letters: Version 1 of letters serves now." in done.out
    assert (first.state, first.promoted, [search.start for search in first.searches]) == ("done", "1", ["from scratch"])
    assert first.id == time.strftime("%Y-%m-%d")
    assert log(learning) == [("judged", "1", 1), ("promoted", "1", 0)]
    before, asked = content(learning.folder), len(learning.engine.requests)
    done, same = night(learning, "--promote", after=0)
    assert done.code == 0 and f"The night of {first.id} is over already. Version 1 of letters serves now." in done.out
    assert same == first and content(learning.folder) == before and len(learning.engine.requests) == asked


def test_a_winner_that_is_the_champion_spends_no_look_and_then_nothing_is_due(learning: Project) -> None:
    shows(learning, 3)
    night(learning, "--promote", after=0)
    looks, asked = log(learning), len(learning.engine.requests)
    done, second = night(learning, "--promote")
    assert done.code == 0, done.err
    assert "Changed since the night of" in done.out and "the champion (none → version 1)" in done.out
    assert "No challenger: version 1 is not beaten on dev." in done.out
    assert [(search.start, search.earlier) for search in second.searches] == [
        ("from the champion", False), ("from scratch", True)
    ]  # fmt: skip
    assert "the same program as the champion" in second.choice and second.ruled is None
    assert log(learning) == looks and len(learning.engine.requests) == asked
    assert "challenger" not in versions(learning).aliases()
    assert [version.number for version in versions(learning).all()] == ["1"]  # nothing better was found
    for after in (1, 5):
        done, third = night(learning, "--promote", after=after)
        assert done.code == 0 and third.state == "nothing due" and not third.searches
        assert f"Nothing changed since the night of {second.id}: nothing is due." in done.out
    assert kinds(learning) == ["nightly", "nightly"] and len(learning.engine.requests) == asked


def test_a_better_one_waits_until_it_is_to_be_promoted(learning: Project) -> None:
    shows(learning, 1)
    night(learning, "--promote", after=0)
    shows(learning, 4)
    done, second = night(learning)
    assert done.code == 0, done.err
    assert "Changed since the night of" in done.out and "the stages" in done.out
    assert second.ruled is not None and second.ruled.granted and not second.promoted
    number = second.ruled.version
    assert (
        f"Version {number} of letters passed the gate and waits: `cascade promote letters --version {number}`"
        in done.out
    )
    assert versions(learning).aliases() == {"champion": "1", "challenger": number}
    done, third = night(learning)
    assert third.state == "nothing due" and f"Version {number} passed the gate and waits to be promoted." in done.out
    done, fourth = night(learning, "--promote")
    assert done.code == 0 and fourth.promoted == number and not fourth.searches
    assert versions(learning).aliases() == {"champion": number, "previous": "1"}
    assert log(learning)[2:] == [("judged", number, 2), ("judged", number, 2), ("promoted", number, 0)]


def test_a_refused_challenger_is_told_of_and_not_asked_again(learning: Project) -> None:
    shows(learning, 2)
    night(learning, "--promote", after=0)
    shows(learning, 3)  # 20 points more on 30 rows of test: too few for the second look
    done, second = night(learning, "--promote")
    assert done.code == 0, done.err
    assert (
        second.ruled is not None and not second.ruled.granted and "was refused; version 1 goes on serving" in done.out
    )
    assert "not shown to be better" in second.ruled.reason
    done, third = night(learning, "--promote")
    assert third.state == "nothing due"


def test_new_rows_are_taken_up_and_make_a_search_due(learning: Project) -> None:
    shows(learning, 2)
    night(learning, "--promote", after=0)
    night(learning)
    new_rows(
        learning, "reviewed.jsonl", [*letters("fresh", 12), {"question": "test 0 3", "answer": "3"}, {"question": "x"}]
    )
    new_rows(learning, "test/reviewed.jsonl", letters("exam", 30))
    before = len(learning.engine.requests)
    done, third = night(learning, "--promote")
    assert done.code == 0, done.err
    assert third.taken.accepted == {"train": 12, "test": 30}
    assert "12 new rows joined train, 30 new rows joined test, 2 were set aside." in done.out
    assert "Changed since the night of" in done.out and "train (30 → 42 rows), test (30 → 60 rows)" in done.out
    assert any("inputs stand in test ('test-0004')" in reason for reason in third.taken.refused)
    asked, earlier = learning.engine.requests[before:], learning.engine.requests[:before]
    assert len(asked) >= 2 * 30  # the champion and the baseline answer the new rows of test
    assert len(set(asked)) == len(asked) and set(asked).isdisjoint(earlier)  # what was answered is not asked again
    assert third.champion_scores == {"dev": 0.5, "test": 0.5}


def test_what_is_unlike_and_what_falls_is_warned_of(learning: Project) -> None:
    shows(learning, 4)
    night(learning, "--promote", after=0)
    new_rows(
        learning,
        "odd.jsonl",
        [{"question": f"quite another long kind of question, number {n} 9", "answer": "9"} for n in range(20)],
    )
    new_rows(
        learning,
        "test/odd.jsonl",
        [{"question": f"hard {chr(97 + n)} {chr(98 + n) * 4} 9", "answer": "8"} for n in range(24)],
    )
    done, second = night(learning)
    assert done.code == 0, done.err
    inputs, score = second.warnings
    assert inputs.startswith("The 44 newest rows are unlike those of train: in length") and "in answers" in inputs
    assert score.startswith("The champion scores 50.0% on test") and "less than the 90.0%" in score
    assert "Warning: The champion scores 50.0%" in done.out


def test_a_pinned_fingerprint_is_said_and_not_edited(learning: Project) -> None:
    from cascade.dataset import Dataset, load

    pinned = load(Dataset("letters"), learning.folder).fingerprint
    learning.write("datasets/letters/dataset.toml", f'inputs = ["question"]\nfingerprint = "{pinned}"\n')
    new_rows(learning, "reviewed.jsonl", letters("fresh", 3))
    done, first = night(learning, after=0)
    assert done.code == 0 and not first.taken.accepted
    assert "--accept-data takes them up" in done.out and first.warnings
    done, second = night(learning, "--accept-data")
    assert done.code == 0 and second.taken.accepted == {"train": 3} and not second.warnings


def test_the_budget_is_of_both_searches_together(learning: Project) -> None:
    shows(learning, 1)
    night(learning, "--promote", after=0)
    shows(learning, 2)
    before = len(learning.engine.requests)
    done, second = night(learning, "--budget", "lm_calls=400", "--budget", "minutes=5")
    assert done.code == 0, done.err
    assert sum(search.spent["lm_calls"] for search in second.searches) == len(learning.engine.requests) - before <= 400
    learning.engine = ScriptedEngine(learns)
    (learning.folder / ".cascade/ledger.db").unlink()
    shows(learning, 3)
    done, third = night(learning, "--budget", "lm_calls=200")
    assert done.code == 0, done.err
    assert len(learning.engine.requests) <= 200
    assert any("found nothing" in warning and "lm_calls" in warning for warning in third.warnings)
    done, fourth = night(learning)
    assert "its search can go on" in done.out and len(fourth.searches) == 2


@pytest.mark.parametrize(("words", "message"), [
    (("--budget", "lm_calls=none"), "--budget 'lm_calls=none' is no cap"),
    (("--budget", "hours=3"), "Write lm_calls, tokens, usd or minutes"),
    (("--budget", "usd=0"), "a number above 0"),
])  # fmt: skip
def test_what_is_no_cap_is_refused(learning: Project, words: tuple[str, ...], message: str) -> None:
    done = learning.cascade("nightly", "letters", *words)
    assert done.code == 2 and message in done.err and not held(learning)


def test_anyway_searches_although_nothing_changed_and_twice_in_a_night(learning: Project) -> None:
    shows(learning, 2)
    night(learning, after=0)
    done, second = night(learning, "--anyway", after=0)
    assert done.code == 0 and second.id.endswith("-2") and not second.searches[0].earlier
    assert "it was asked for anyway" in done.out
    assert log(learning) == [("judged", "1", 1), ("judged", "2", 1)]  # the same program: the same look


def test_a_challenger_of_the_day_goes_to_the_gate_at_night(learning: Project) -> None:
    shows(learning, 1)
    night(learning, "--promote", after=0)
    night(learning)
    learning.cascade("run", "letters", "--new")
    assert kinds(learning)[0] == "cascade"
    done, third = night(learning)
    assert third.state == "nothing due"  # the run found the champion again, which is not proposed
    learning.write("experiments/letters.py", EXPERIMENT)
    learning.cascade("run", "letters")
    shows(learning, 1)
    done, fourth = night(learning, "--promote")
    assert "is proposed and was not compared with what serves: it goes to the gate" in done.out
    assert fourth.promoted == "3" and not fourth.searches  # a search from the champion that found no better made none


def test_a_program_that_was_rolled_back_is_not_proposed_again(learning: Project) -> None:
    shows(learning, 1)
    night(learning, "--promote", after=0)
    shows(learning, 4)
    _, second = night(learning, "--promote")
    night(learning)
    assert learning.cascade("rollback", "letters", "--note", "too loud").code == 0
    done, fourth = night(learning, "--promote")
    assert done.code == 0 and f"the champion (version {second.promoted} → version 1)" in done.out
    assert fourth.choice.count("it was rolled back before") == 2 and fourth.ruled is None
    assert all(search.earlier for search in fourth.searches)
    assert "challenger" not in versions(learning).aliases()


def test_one_that_fails_keeps_no_other_from_its_night(learning: Project) -> None:
    shows(learning, 2)
    learning.write("experiments/broken.py", "import nonesuch_package\n")
    done = learning.cascade("nightly", "--json", "--html", str(learning.folder / "nights.html"))
    assert done.code == 1 and "1 of 2 nights failed: broken." in done.err
    told = {each["experiment"]: each for each in json.loads(done.out)["nights"]}
    assert (told["broken"]["state"], told["letters"]["state"]) == ("failed", "done")
    assert "nonesuch_package" in told["broken"]["summary"][0]
    page = (learning.folder / "nights.html").read_text()
    assert page.count("<h1") == 3 and "nonesuch_package" in page
    table = learning.cascade("nightly", "letters", "broken")
    assert table.code == 1 and table.out.splitlines()[0].split()[:4] == ["experiment", "night", "came", "of"]
    assert "version 1 granted" in table.out
    alone_ = learning.cascade("nightly", "broken")
    assert alone_.code == 2 and not alone_.out and "nonesuch_package" in alone_.err


def test_two_at_once_are_refused(learning: Project) -> None:
    with alone(learning.folder / ".cascade/locks/night-letters.lock", "This test"):
        done = learning.cascade("nightly", "letters")
    assert done.code == 1 and "The night of 'letters' is running already. Wait for it, or end it." in done.err


def test_mlflow_down_fails_the_night_and_the_next_call_goes_on(
    learning: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    shows(learning, 3)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done, failed = night(learning, after=0)
    assert done.code == 1 and failed.state == "failed" and "no server answers there" in failed.error
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    done, again = night(learning, after=0)
    assert done.code == 0 and again.id == failed.id and again.state == "done" and not again.error


def test_a_definition_that_was_wrong_is_seen_anew(learning: Project) -> None:
    shows(learning, 3, budget="__import__('cascade').Budget(lm_calls=10)")
    done, failed = night(learning, after=0)
    assert done.code == 2 and failed.state == "failed" and "does not even pay for judging" in failed.error
    shows(learning, 3)
    assert night(learning, after=0)[0].code == 0


def test_runs_of_a_night_are_of_its_kind_in_mlflow(learning: Project) -> None:
    night(learning, after=0)
    client = connect(f"sqlite:///{learning.folder / 'mlflow.db'}")
    found = client.search_runs(
        [client.get_experiment_by_name("letters").experiment_id], "tags.`cascade.kind` = 'nightly'"
    )
    assert sum("mlflow.parentRunId" not in run.data.tags for run in found) == 1


def test_json_and_page_say_what_the_terminal_says(learning: Project) -> None:
    new_rows(learning, "x.jsonl", [{"question": "<script>alert(1)</script> 3", "answer": "3"}, {"question": "<b>"}])
    done, first = night(learning, "--json", after=0)
    assert done.code == 0, done.err
    (told,) = json.loads(done.out)["nights"]
    assert (told["state"], told["already_over"], told["id"]) == ("done", False, first.id)
    assert told["summary"][0].startswith("Version 1 of letters passed the gate and waits")
    page = (learning.folder / f".cascade/production/letters/nights/{first.id}/night.html").read_text()
    assert "&#39;answer&#39;" in page and "<b>" not in page and "<script" not in page
    text = learning.cascade("nightly", "letters").out
    for sentence in told["summary"][1:]:
        assert sentence in text


def test_no_experiment_no_night(learning: Project) -> None:
    (learning.folder / "experiments/letters.py").unlink()
    done = learning.cascade("nightly")
    assert done.code == 0 and "There is no experiment in" in done.out
