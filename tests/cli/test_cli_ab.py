"""`cascade ab`: what it prints is what the account says."""

import json

from conftest import Project

from cascade.production.ab.outcomes import Books, Said


def test_no_test_is_known(project: Project) -> None:
    done = project.cascade("ab", "letters")
    assert (done.code, done.out) == (3, "")
    assert "No A/B test of 'letters' is known on this machine" in done.err and "--challenger 10%" in done.err


def served(project: Project, people: int, good: int) -> Books:
    """A test at 50 % in which the champion is always right, and the challenger in `good` of ten cases."""
    books = Books(project.folder / ".cascade", "letters")
    test = books.begin("1", "2", 0.5)
    arms = ("champion", "challenger")
    books.add(
        Said(str(n), float(n), f"{n:032x}", arms[n % 2], str(1 + n % 2), test.id, f"k{n}", 0.5,
             1.0 if n % 2 == 0 or n // 2 % 10 < good else 0.0)
        for n in range(people)
    )  # fmt: skip
    return books


def test_an_account_in_words_and_as_json(project: Project) -> None:
    served(project, 40, 9)
    done = project.cascade("ab", "letters")
    assert (done.code, done.err) == (0, "")
    assert "Version 2 of letters beside version 1 since" in done.out and "for 50 % of all keys." in done.out
    assert "40 outcomes were said; the first of each key counts, 40 in all." in done.out
    assert "Challenger 90.0 % of 20 against champion 100.0 % of 20: -" in done.out
    assert done.out.endswith("Advice: wait.\n")
    told = json.loads(project.cascade("ab", "letters", "--json").out)
    assert (told["action"], told["n"], told["said"]) == ("wait", {"champion": 20, "challenger": 20}, 40)
    assert told["test"]["challenger"] == "2" and len(told["course"]) == 40


def test_a_page_with_the_course(project: Project) -> None:
    books = served(project, 400, 2)
    books.stop(books.tests()[0], "It does harm.", {})
    done = project.cascade("ab", "letters", "--html", "ab.html")
    assert done.code == 0 and "Advice: stop the challenger." in done.out
    assert "The challenger answers nobody any more since" in done.out
    page = (project.folder / "ab.html").read_text()
    assert "<h1>letters: version 2 beside version 1</h1>" in page and "Advice: stop the challenger" in page
    assert page.count("<path") == 2 and "nan" not in page and "<script" not in page
    few = served(project, 1, 2)
    assert few.tests()[-1].challenger == "2"


def test_a_version_that_was_never_tested(project: Project) -> None:
    served(project, 4, 9)
    done = project.cascade("ab", "letters", "--version", "7")
    assert done.code == 3 and "No A/B test of version 7 of 'letters'" in done.err
