"""What a build server reads: JUnit that parses, Markdown that stays a table, whatever a model said."""

from dataclasses import replace
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from test_promoting_gate import CHAMPION, evaluation

from cascade.production.promoting.checks import Check, checks, decisive, junit, summary
from cascade.production.promoting.gate import Rules, gate


def test_each_thing_asked_is_a_check() -> None:
    ruling = gate(evaluation(75, tokens=150), CHAMPION, Rules(guardrails={"cost": 0.2}), attempt=1)
    found = checks(ruling, max_cost=120)
    assert [(check.name, check.passed) for check in found] == [("score", True), ("max-cost", False), ("cost", False)]
    assert found[1].said == "Serving an example costs 150 tokens, more than 120."
    assert [check.name for check in checks(gate(evaluation(75), CHAMPION, Rules(), attempt=1))] == ["score"]


def test_junit_counts_failures() -> None:
    suite = ElementTree.fromstring(junit("qa", [Check("score", True, "good"), Check("cost", False, "dear")]).encode())
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("2", "1")
    assert [case.attrib["name"] for case in suite] == ["score", "cost"]
    assert suite[1][0].attrib["message"] == "dear"


@given(st.text())
def test_junit_parses_whatever_was_said(said: str) -> None:
    suite = ElementTree.fromstring(junit("qa", [Check("score", False, said)]).encode("utf-8", "replace"))
    assert len(suite) == 1


@given(st.text())
def test_a_row_of_the_summary_stays_a_row(said: str) -> None:
    told = summary("qa", "version 2", "version 1", [Check("score", False, said)], [("won", said, said, said)])
    rows = [line for line in told.split("\n") if line.startswith("| ") and "---" not in line]
    assert len(rows) == 4
    assert "<script" not in told.replace("<details><summary>", "")


def test_lost_examples_come_first() -> None:
    new = replace(CHAMPION, outcomes=tuple(replace(o, score=float(i == 80)) for i, o in enumerate(CHAMPION.outcomes)))
    rows = decisive((new, CHAMPION), most=51)
    assert [row[0] for row in rows[:50]] == ["lost"] * 50
    assert rows[50][:2] == ("won", "test-0080")
