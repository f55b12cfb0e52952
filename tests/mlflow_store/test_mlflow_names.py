"""Names that every registry takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.prompt.registry_utils import validate_prompt_name
from mlflow.utils.validation import _validate_model_name

from cascade.mlflow_store.names import LONGEST, Names, plain

PLAIN = re.compile(r"[A-Za-z0-9_-]+")


@given(st.text(max_size=300), st.text(max_size=40))
def test_any_name_becomes_one_that_mlflow_and_databricks_take(name: str, predictor: str) -> None:
    names = Names(model_prefix="main.ml.")
    for found in (names.model(name), names.prompt(name, predictor)):
        catalog, schema, last = found.split(".")
        assert (catalog, schema) == ("main", "ml")
        assert PLAIN.fullmatch(last)
        assert len(last) <= LONGEST
        validate_prompt_name(found)
        _validate_model_name(found)


@given(st.text(max_size=300))
def test_a_good_name_stays_and_making_one_again_changes_nothing(name: str) -> None:
    assert plain(plain(name)) == plain(name)
    if PLAIN.fullmatch(name) and len(name) <= LONGEST:
        assert plain(name) == name


@given(st.lists(st.text(alphabet="aB1_-./ ü\ud800", max_size=8), unique=True, max_size=30))
def test_two_names_never_become_one(names: list[str]) -> None:
    assert len({plain(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "a:b", "ümläut", "x" * 400, "line\nbreak"])
def test_awkward_names(name: str) -> None:
    assert PLAIN.fullmatch(plain(name))


@pytest.mark.parametrize(
    ("predictor", "prompt"),
    [
        ("", "team-qa-prompt"),
        ("answer", "team-qa-prompt-answer"),
        ("router.answer", "team-qa-prompt-router-answer"),
        ("steps[0].predict", "team-qa-prompt-steps-0-predict"),
    ],
)
def test_a_prompt_is_never_called_like_its_model(predictor: str, prompt: str) -> None:
    names = Names(experiment_prefix="/Shared/", model_prefix="team-")
    assert names.prompt("qa", predictor) == prompt != names.model("qa")
    assert names.experiment("qa") == "/Shared/qa"
