"""`cascade advise`."""

import io
import json
import re
import sys

import pytest

GIVEN = (
    "--predictable",
    "partly",
    "--latency",
    "normal",
    "--private",
    "no",
    "--data",
    "some",
    "--complexity",
    "medium",
)


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


def test_by_flags(project):
    done = project.cascade("advise", *GIVEN)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        "1. router: one of several ways, by what is asked\n"
        "   - one of a few ways is a choice that can be trained\n"
        "   cascade new NAME --kind router\n"
        "2. adaptive: as much work as an input is worth, by rules\n"
    )
    told = json.loads(project.cascade("advise", *GIVEN, "--json").out)
    assert told["answers"]["predictable"] == "partly"
    assert [one["kind"] for one in told["advice"]][:2] == ["router", "adaptive"]
    assert len(told["advice"]) == 9


def test_only_what_something_speaks_for_is_shown(project):
    """Of the nine, these two have points above 0."""
    words = (
        "--predictable",
        "no",
        "--latency",
        "normal",
        "--private",
        "no",
        "--data",
        "some",
        "--complexity",
        "medium",
    )
    assert re.findall(r"^\d\. (\w+)", project.cascade("advise", *words).out, re.MULTILINE) == ["agent", "loop"]


def test_with_nobody_to_ask_the_missing_flags_are_named(project, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    done = project.cascade("advise", *GIVEN[:4])
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "cascade: Nobody is here to be asked. Give --private yes|no, --data none|some|many, --complexity low|medium|high.\n"
    )


def test_on_a_terminal_it_asks_what_is_missing(project, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("perhaps\nN\nm\n"))
    done = project.cascade("advise", *GIVEN[:4], "--data", "some")
    assert done.code == 0
    assert "Do inputs hold what must not leave your machines?" in done.err
    assert "'perhaps' is none of yes, no." in done.err
    assert done.out.startswith("1. router")


def test_all_five_are_asked_in_their_order(project, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("y\nn\ny\ns\nm\n"))
    done = project.cascade("advise")
    assert re.findall(r"^(?!\w+:).*\?", done.err.replace(": ", ":\n"), re.MULTILINE) == [
        "Are the steps known before an input is seen?",
        "How long may an answer take?",
        "Do inputs hold what must not leave your machines?",
        "How many examples with answers are there?",
        "How much may it take to understand and run?",
    ]
    assert done.out.startswith("1. privacy: ") and "   cascade new NAME --kind privacy\n" in done.out


def test_json_never_asks(project, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert project.cascade("advise", "--json").code == 2


@pytest.mark.parametrize("word", ["--predictable", "--latency", "--private", "--data", "--complexity"])
def test_another_answer_is_refused(project, word):
    assert project.cascade("advise", word, "maybe").code == 2
