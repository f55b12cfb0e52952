"""A run in sentences, as a table of cases."""

import dataclasses

import pytest
import report_journals as by_hand

from cascade.report.reading import Look, read
from cascade.report.story import headline, reason, story

WON = {
    "gain": 0.2,
    "interval": (0.05, 0.35),
    "confidence": 0.9,
    "n": 24,
    "minimum_detectable_gain": 0.21,
    "proven": True,
}
NOT_WON = {**WON, "gain": 0.1, "interval": (-0.05, 0.25), "proven": False}
HEADLINES = [
    ("completed", WON, "Best: 1-words, proven on test: +20.0 points [+5.0, +35.0]."),
    ("budget", NOT_WON, "Best: 1-words, not proven: +10.0 points [-5.0, +25.0]."),
    ("plateau", None, "Best: 1-words, not proven."),
    ("interrupted", None, "Best so far: 1-words, 83.3% [66–94] on dev; not proven."),
    ("failed", None, "Best so far: 1-words, 83.3% [66–94] on dev; not proven."),
]


@pytest.mark.parametrize(("status", "test", "said"), HEADLINES)
def test_headline(tmp_path, status, test, said):
    run = dataclasses.replace(read(by_hand.completed(tmp_path)), status=status, test=Look(**test) if test else None)
    assert headline(run) == said
    told = " ".join(story(run))
    assert ("proven on test" in told) is bool(test and test["proven"])
    assert ("not proven" in told) is not bool(test and test["proven"])
    assert "(selected on dev)" in told
    assert ("To go on: `cascade run qa`." in told) is (status == "interrupted")
    assert ("mend the cause" in told) is (status == "failed")


SKIPPED = [
    ("skipped by an earlier decision", (), "Skipped by an earlier decision."),
    ("skipped by an earlier decision", ("again",), "Skipped by the decision after 2-more."),
    ("skipped by the look at headroom: 20 examples: nothing to gain.", (), "Skipped by the look at headroom: 20 examples: nothing to gain."),
]  # fmt: skip


@pytest.mark.parametrize(("written", "by", "said"), SKIPPED)
def test_what_was_skipped_says_why(tmp_path, written, by, said):
    journal = by_hand.completed(tmp_path)
    by_hand.other_stage(journal, 3, "again", "skipped", written)
    journal.write("2-more/decision.json", {"skipped": by})
    run = read(journal)
    assert reason(run, run.stages[3]) == said


def test_what_checks_warned_of_is_told_without_the_rows_that_they_quote(tmp_path):
    journal = by_hand.completed(tmp_path)
    found = [
        {"severity": "warning", "place": "Dataset 'x', split 'test'", "sentence": "'a secret of test'"},
        {"severity": "warning", "place": "Dataset 'x', split 'test'", "sentence": "another"},
        {"severity": "warning", "place": "Metric 'right'", "sentence": "is blind"},
        {"severity": "note", "place": "Stage 'words'", "sentence": "is fine"},
    ]
    assert [sentence for sentence in story(read(journal)) if "checks" in sentence] == []
    journal.write("findings.json", found)
    told = " ".join(story(read(journal)))
    said = (
        "When it began, checks warned of Dataset 'x', split 'test' and of Metric 'right': `cascade check qa` says why."
    )
    assert said in told
    assert "secret" not in told


def test_every_sentence_is_one_line(tmp_path):
    journal = by_hand.completed(tmp_path)
    journal.write("headroom.json", {"sentence": "one\ntwo\x1b\r"})
    journal.write("findings.json", [{"severity": "warning", "place": "Stage 'a\nb'", "sentence": ""}])
    assert [sentence for sentence in story(read(journal)) if len(sentence.splitlines()) != 1] == []
