"""Markdown: the same story, and nothing that a model wrote becomes markup."""

from pathlib import Path

import pytest
import report_journals as by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cascade.report.comparing import side_by_side
from cascade.report.markdown import comparison_markdown, escaped, fenced, run_markdown
from cascade.report.reading import read

GOLDEN = Path(__file__).parent / "golden"
MARKUP = [
    "<b>x</b>",
    "[a](b)",
    "![a](b)",
    "`a",
    "``` `",
    "**a**",
    "| a | b |",
    "a|b",
    "# a",
    "- a",
    "&lt;",
    "~~a~~",
    "\\",
    "\\|",
]
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def kinds(text: str) -> list[str]:
    """Kinds of all tokens of a text, inner ones too."""
    tokens = PARSER.parse(text)
    return [one.type for token in tokens for one in (token, *(token.children or ()))]


@pytest.mark.parametrize("kind", ["run", "compare"])
def test_golden(tmp_path, kind, request):
    first = by_hand.completed(tmp_path)
    second = by_hand.completed(tmp_path, best=range(1, 23), id="20261119-110640-aaaa", git_sha="1" * 40)
    told = (
        run_markdown(read(first)) if kind == "run" else comparison_markdown(side_by_side([read(first), read(second)]))
    )
    golden = GOLDEN / f"{kind}.md"
    if request.config.getoption("--update-golden"):
        golden.write_text(told, "utf-8")
    assert told == golden.read_text("utf-8")


@given(st.lists(st.sampled_from(MARKUP) | st.text(max_size=20), max_size=4).map("".join))
def test_an_escaped_text_is_one_text_in_a_cell(text):
    row = f"| a | b |\n| --- | --- |\n| x{escaped(text)}x | y |"
    found = kinds(row)
    assert found.count("td_open") == 2
    assert set(found) <= {"table_open", "table_close", "thead_open", "thead_close", "tbody_open", "tbody_close", "tr_open", "tr_close",
                          "th_open", "th_close", "td_open", "td_close", "inline", "text", "text_special"}  # fmt: skip


@given(st.lists(st.sampled_from(["```", "~~~", "`", "a"]) | st.text(max_size=9), max_size=6))
def test_no_line_closes_its_fence(lines):
    assert kinds(fenced(lines, "diff")) == ["fence"]


@settings(max_examples=20, deadline=None)
@given(text=st.sampled_from(MARKUP) | st.text(st.characters(), max_size=40))
def test_no_text_breaks_a_report(tmp_path_factory, text):
    home = tmp_path_factory.mktemp("hostile")
    journal, other = by_hand.completed(home), by_hand.completed(home, id="20261119-110640-aaaa", best=range(1, 23))
    for one in (journal, other):
        by_hand.hostile(one, text)
    for told in (run_markdown(read(journal)), comparison_markdown(side_by_side([read(journal), read(other)]))):
        told.encode("utf-8")
        assert not {"html_block", "html_inline", "link_open", "image", "s_open", "em_open", "code_block"} & set(
            kinds(told)
        )
