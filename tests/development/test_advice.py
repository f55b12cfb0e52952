"""Which design a task asks for: the table of cases."""

import itertools

import pytest

from cascade.development.advice import QUESTIONS, advise
from cascade.development.kinds import KINDS

# predictable, latency, private, data, complexity: first, second
CASES = [
    ("yes", "normal", "no", "some", "low", "plain", "pipeline"),
    ("yes", "normal", "no", "some", "medium", "pipeline", "plain"),
    ("yes", "normal", "no", "many", "medium", "pipeline", "plain"),
    ("yes", "tight", "no", "some", "medium", "plain", "parallel"),
    ("yes", "tight", "no", "none", "low", "plain", "pipeline"),
    ("yes", "loose", "no", "some", "medium", "pipeline", "plain"),
    ("partly", "normal", "no", "some", "medium", "router", "adaptive"),
    ("partly", "normal", "no", "many", "high", "router", "adaptive"),
    ("partly", "normal", "no", "none", "medium", "router", "plain"),
    ("partly", "tight", "no", "none", "low", "plain", "router"),
    ("partly", "loose", "no", "some", "medium", "router", "adaptive"),
    ("no", "normal", "no", "some", "medium", "agent", "loop"),
    ("no", "loose", "no", "many", "high", "agent", "loop"),
    ("no", "loose", "no", "none", "high", "agent", "loop"),
    ("no", "tight", "no", "some", "high", "agent", "plain"),
    ("no", "tight", "no", "some", "low", "plain", "agent"),
    ("yes", "normal", "yes", "some", "medium", "privacy", "pipeline"),
    ("partly", "tight", "yes", "none", "low", "plain", "privacy"),
    ("no", "normal", "yes", "many", "high", "privacy", "agent"),
    ("no", "loose", "yes", "some", "low", "privacy", "plain"),
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_cases(case):
    *given, first, second = case
    ranked = advise(dict(zip(QUESTIONS, given, strict=True)))
    assert [one.kind for one in ranked[:2]] == [first, second], [(one.kind, one.score) for one in ranked[:4]]


def test_every_answer_is_ranked_with_a_reason_for_the_first():
    for given in itertools.product(*(question.answers for question in QUESTIONS.values())):
        ranked = advise(dict(zip(QUESTIONS, given, strict=True)))
        assert {one.kind for one in ranked} == set(KINDS)
        assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
        assert ranked[0].reasons and ranked[0].score > 0


def test_with_what_is_private_every_design_says_where_its_models_must_be():
    for given in itertools.product(*(question.answers for question in QUESTIONS.values())):
        answers = dict(zip(QUESTIONS, given, strict=True))
        for one in advise(answers):
            said = " ".join(one.reasons)
            assert ("must then be on your machines" in said or "must be on your machines" in said) == (
                answers["private"] == "yes" and one.kind != "privacy"
            )


def test_what_speaks_for_a_design_is_said_where_it_has_points():
    for given in itertools.product(*(question.answers for question in QUESTIONS.values())):
        for one in advise(dict(zip(QUESTIONS, given, strict=True))):
            assert any(not reason.startswith("but ") for reason in one.reasons) or one.score <= 0


def test_the_command_scaffolds_it():
    ranked = advise(dict(zip(QUESTIONS, ("no", "normal", "no", "some", "medium"), strict=True)))
    assert ranked[0].command == "cascade new NAME --kind agent"
    assert next(one for one in ranked if one.kind == "plain").command == "cascade new NAME"


def test_an_answer_that_is_none():
    with pytest.raises(ValueError, match="latency = 'fast': one of tight, normal, loose"):
        advise({"predictable": "yes", "latency": "fast"})
