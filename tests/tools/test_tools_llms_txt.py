"""llms.txt: what is written is read back as the same, and what is no such file is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.tools.llms_txt import Link, LlmsTxt, faults, parse, text_of

unhurried = settings(deadline=None)
FILE = LlmsTxt(
    "Pears",
    "All about pears.",
    (
        ("Kinds", (Link("Conference [long]", "https://pears.example/c", "green: and long"),)),
        ("Optional", (Link("More", "/more"),)),
    ),
    "Two lines\n\nof notes.",
)
TEXT = r"""# Pears

> All about pears.

Two lines

of notes.

## Kinds

- [Conference \[long\]](https://pears.example/c): green: and long

## Optional

- [More](/more)
"""


def test_a_file_is_written_and_read_back() -> None:
    assert text_of(FILE) == TEXT
    assert parse(TEXT) == FILE
    assert faults(TEXT) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no title, `# …`"),
        ("hello\n# Pears\n", "line 1: 'hello' stands before the title"),
        ("## Kinds\n- [a](/a)\n", "line 1: '## Kinds' stands before the title"),
        ("# Pears\n# Plums\n", "line 2: a second title"),
        ("# Pears\n## Kinds\n", "section 'Kinds' has no links"),
        ("# Pears\n## Kinds\nsome words\n", "line 3: 'some words' is no `- [name](url): notes`"),
        ("# Pears\n## Kinds\n- [a]()\n", "line 3: '- [a]()' is no"),
        ("# Pears\n## Kinds\n- [a](b.html)\n", "line 3: 'b.html' is no absolute link"),
        ("# Pears\n## Kinds\n- [a](javascript:x)\n", "line 3: 'javascript:x' is no absolute link"),
        ("# Pears\n## Kinds\n### Green\n- [a](/a)\n", "line 3: a heading under that of a section"),
        ("# Pears\n## Kinds\n- [a](/a)\n- [b](/a)\n", "'/a' is linked twice"),
    ],
)
def test_what_is_no_such_file(text: str, told: str) -> None:
    assert faults(text)[0].startswith(told)
    if "twice" not in told:
        with pytest.raises(ValueError, match=r"\w"):
            parse(text)


def test_a_link_must_lead_to_a_page_that_is_known() -> None:
    assert faults(TEXT, ["https://pears.example/c", "/more"]) == []
    assert faults(TEXT, ["/more"]) == ["the link to 'https://pears.example/c' leads to no page that was read"]


ANY = st.text(max_size=30)
URLS = st.builds("https://pears.example/{}".format, st.text("ab/()% ", max_size=8))
FILES = st.builds(
    LlmsTxt,
    ANY,
    ANY,
    st.lists(st.tuples(ANY, st.lists(st.builds(Link, ANY, URLS, ANY), min_size=1, max_size=3, unique_by=lambda one: one.url.replace("(", "%28").replace(")", "%29").strip().replace(" ", "%20")).map(tuple)), max_size=3, unique_by=lambda one: one[1][0].url).map(tuple),
    ANY,
)  # fmt: skip


@unhurried
@given(FILES)
def test_whatever_is_written_is_a_valid_file(file: LlmsTxt) -> None:
    text = text_of(file)
    assert [fault for fault in faults(text) if "twice" not in fault] == []
    again = parse(text)
    assert text_of(again) == text
    assert [len(links) for _, links in again.sections] == [len(links) for _, links in file.sections]


@unhurried
@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    faults(text)


@pytest.mark.parametrize(
    "url", ["https://example.org/Pear_(fruit)", "https://example.org/Birne/süß", " https://a.b/c "]
)
def test_a_link_to_a_page_that_was_read_is_none_to_another_however_it_has_to_be_written(url: str) -> None:
    text = text_of(LlmsTxt("Fruit", sections=(("Pages", (Link("Pear", url),)),)))
    assert faults(text, [url]) == []
    assert faults(text, ["https://example.org/Pear"]) != []
