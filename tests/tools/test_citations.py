"""Which citations hold."""

import pytest

from cascade.tools.citations import citation, fault

PASSAGES = [
    {"id": "minutes-04", "text": "The clock of Saltgate stays seven minutes fast, as the fishermen asked."},
    {"id": "handbook-11", "text": "A dog tag costs two crowns a year."},
]


@pytest.mark.parametrize(
    ("told", "id_", "quote"),
    [
        ("minutes-04: seven minutes fast", "minutes-04", "seven minutes fast"),
        ("[minutes-04]: at 10:30", "minutes-04", "at 10:30"),
        ("seven minutes fast", "seven minutes fast", ""),
        ("", "", ""),
    ],
)
def test_a_citation_is_a_name_and_words(told: str, id_: str, quote: str) -> None:
    assert citation(told) == {"id": id_, "quote": quote}


@pytest.mark.parametrize(
    ("id_", "quote", "wrong"),
    [
        ("minutes-04", "seven minutes fast", ""),
        ("minutes-04", "Seven  minutes\nFAST, as the fishermen", ""),
        ("handbook-11", "seven minutes fast", "handbook-11 does not say 'seven minutes fast'"),
        ("minutes-04", "seven minutes slow", "minutes-04 does not say 'seven minutes slow'"),
        ("minutes-04", "even minutes", "minutes-04 does not say 'even minutes'"),
        ("minutes-04", "", "minutes-04 does not say ''"),
        ("minutes-04", "the", "'the' is too short to tell minutes-04 from other passages"),
        ("minutes-04", "…", "minutes-04 does not say '…'"),
        ("minutes-05", "seven minutes fast", "minutes-05 was not retrieved"),
        ("", "seven minutes fast", "a passage without a name was not retrieved"),
    ],
)
def test_a_citation_holds_if_its_passage_was_found_and_has_the_words(id_: str, quote: str, wrong: str) -> None:
    assert fault({"id": id_, "quote": quote}, PASSAGES) == wrong
