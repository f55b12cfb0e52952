"""The HTML page: one file that needs nothing else, whatever a model wrote."""

import html.parser
import re
from pathlib import Path

import pytest
import report_journals as by_hand
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.report.comparing import side_by_side
from cascade.report.page import comparison_page, run_page
from cascade.report.reading import read
from cascade.report.text import clean

GOLDEN = Path(__file__).parent / "golden"
VOID = {"meta", "br", "line", "path", "rect", "circle"}
TAGS = {
    "html", "code", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "dl", "div", "dt", "dd", "small", "span", "br",
    "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "svg", "g", "line", "path", "rect", "circle", "text",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "name", "content", "class", "style", "viewbox", "role", "aria-label", "x", "y", "x1", "x2", "y1", "y2",
    "d", "cx", "cy", "r", "width", "height", "text-anchor",
}  # fmt: skip


class Page(html.parser.HTMLParser):
    """Parses a page and fails where its tags are not balanced or not ours."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, tag
        assert {name for name, _ in attributes} <= ATTRIBUTES, attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID, tag
        assert {name for name, _ in attributes} <= ATTRIBUTES, attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(data)


def assert_sound(page: str) -> str:
    """The text of a page that is balanced, needs nothing from outside and holds no control character."""
    told = "".join(Page(page).text)
    page.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    return told


@pytest.fixture
def home(tmp_path):
    return tmp_path / ".cascade"


def page_of(journal) -> str:
    return run_page(read(journal))


@pytest.mark.parametrize("kind", ["run", "compare"])
def test_golden(home, kind, request):
    first = by_hand.completed(home)
    second = by_hand.completed(home, best=range(1, 23), id="20261119-110640-aaaa", git_sha="1" * 40)
    page = page_of(first) if kind == "run" else comparison_page(side_by_side([read(first), read(second)]))
    golden = GOLDEN / f"{kind}.html"
    if request.config.getoption("--update-golden"):
        golden.write_text(page, "utf-8")
    assert page == golden.read_text("utf-8")
    assert_sound(page)


def test_a_run_is_told_with_what_it_could_not_have_shown(home):
    told = assert_sound(page_of(by_hand.completed(home)))
    for text in (
        "Best: 1-words, proven on test: +58.3 points",
        "selected on dev",
        "minimum detectable gain",
        "would likely not have been seen",
        "Skipped by the decision after 2-more.",
        "ValueError: no rows",
        "Headroom: 40 examples of train: room to climb.",
        "-Answer baseline.",
        "+Answer words.",
        "16 won, 2 lost, 6 level",
        "dev01234567",
        "9f2c1ab0",
    ):
        assert text in told, text


def test_the_picture_has_a_whisker_for_each_interval(home):
    page = page_of(by_hand.completed(home))
    assert page.count('class="whisker"') == 3 * (3 + 2)
    assert page.count('<g class="best">') == page.count('<g class="dropped">') == page.count('<g class="kept">') == 1
    assert page.count('<g class="test">') == page.count('<g class="none">') == 2


def test_a_run_whose_best_is_the_baseline(home):
    journal = by_hand.begun(home)
    by_hand.stage(journal, 0, "baseline", range(9))
    by_hand.stage(journal, 1, "words", range(7), anchor=range(9), kept="incumbent", next="stop")
    journal.update(status="completed", ended=by_hand.STARTED + 60)
    by_hand.look(journal, range(9), range(9))
    told = assert_sound(page_of(journal))
    assert "No stage was kept: the best program is the baseline itself; not proven." in told
    assert "proven on test" not in told
    assert "Examples won and lost" not in told
    assert "The prompts are the baseline's." in told


UNENDED = [
    ("interrupted", {"summary": "interrupted: by Ctrl-C"}, ["Best so far: 1-words", "cascade run qa", "takes up this run", "by Ctrl-C"]),
    ("running", {"pid": 2**22 + 1}, ["Best so far: 1-words", "takes up this run"]),
    ("failed", {"summary": "failed: the model is down"}, ["failed", "the model is down", "mend the cause, then cascade run qa"]),
]  # fmt: skip


@pytest.mark.parametrize(("status", "changes", "said"), UNENDED, ids=[status for status, *_ in UNENDED])
def test_a_run_that_did_not_end_says_how_to_go_on(home, status, changes, said):
    journal = by_hand.begun(home)
    by_hand.stage(journal, 0, "baseline", range(6))
    by_hand.stage(journal, 1, "words", range(20), anchor=range(6))
    journal.update(status=status, **changes)
    told = assert_sound(page_of(journal))
    assert [text for text in [*said, "not proven", "not judged on test"] if text not in told] == []


def test_a_run_that_failed_before_anything_was_judged(home):
    journal = by_hand.begun(home, spent={}, spent_by_stage={})
    journal.update(status="failed", summary="failed: 13 of 24 examples failed", ended=by_hand.STARTED + 3)
    told = assert_sound(page_of(journal))
    assert "No program was judged." in told
    assert "13 of 24 examples failed" in told
    assert "Score by stage" not in told


def test_a_run_whose_budget_was_spent(home):
    journal = by_hand.begun(home)
    by_hand.stage(journal, 0, "baseline", range(6))
    by_hand.stage(
        journal, 1, "words", range(9), anchor=range(6), next="stop", skipped=["more"], reason="The budget is spent."
    )
    by_hand.other_stage(journal, 2, "more", "skipped", "skipped by an earlier decision")
    journal.update(status="budget", ended=by_hand.STARTED + 60)
    by_hand.look(journal, range(6), range(8), looks=3)
    told = assert_sound(page_of(journal))
    for text in (
        "stopped because its budget was spent",
        "raise budget in experiments/qa.py",
        "The budget is spent.",
        "not proven",
        "look 3 at this test split",
        "Skipped by the decision after 1-words.",
    ):
        assert text in told, text


def test_a_price_that_is_not_known_is_not_zero(home):
    journal = by_hand.completed(home)
    unknown = {name: value for name, value in by_hand.TOTAL.items() if name != "cost_usd"}
    journal.update(spent=unknown, spent_by_stage={"0-baseline": unknown})
    told = assert_sound(page_of(journal))
    assert "dollars unknown" in told
    assert "$0" not in told


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "</pre></div></body><img src=x onerror=alert(1)>",
        "\x1b[31mred\x00\x07",
        "\ud800 \u202e \ufeff",
        "x" * 100_000,
        "{{ 7 * 7 }}{% for x in y %}",
        "<!-- & ]]> &lt;script&gt; \"' style='",
        "a\r\nb\u2028c\u0085d",
    ],
)
def test_what_a_model_wrote_is_text(home, text):
    journal, other = by_hand.completed(home), by_hand.completed(home, id="20261119-110640-aaaa", best=range(1, 23))
    for one in (journal, other):
        by_hand.hostile(one, text)
    page = page_of(journal)
    told = assert_sound(page)
    assert " ".join(clean(text).split())[:80] in " ".join(told.split())
    assert len(page) < 2_000_000
    assert_sound(comparison_page(side_by_side([read(journal), read(other)])))


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(), max_size=60) | st.sampled_from(["<", "</", "<b", "&", "]]>", "'\"><x>", "<!--"]))
def test_no_text_breaks_a_page(tmp_path_factory, text):
    journal = by_hand.completed(tmp_path_factory.mktemp("hostile"))
    by_hand.hostile(journal, text)
    journal.update(status="failed")
    assert_sound(page_of(journal))
