"""Grammars by a table of types, and that every value a slot allows is one `dspy.ChatAdapter` reads."""

import enum
from typing import Any, Literal, Optional

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.lm.embedded.forcing import Form, Slot, current_form, forcing, grammar, quote, slots, value_grammar


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


def signature(annotation: Any, **more: Any) -> Any:
    fields = {"text": (str, dspy.InputField()), "answer": (annotation, dspy.OutputField())}
    return dspy.Signature(fields | {name: (kind, dspy.OutputField()) for name, kind in more.items()})


CLOSED = [
    (bool, ("True", "False"), [True, False]),
    (Literal["a", "b c"], ("a", "b c"), ["a", "b c"]),
    (Literal[1, 2], ("1", "2"), [1, 2]),
    (Literal['say "hi"', "back\\slash"], ('say "hi"', "back\\slash"), ['say "hi"', "back\\slash"]),
    (Colour, ("red", "blue"), [Colour.RED, Colour.BLUE]),
    (Level, ("LOW", "HIGH"), [Level.LOW, Level.HIGH]),
    (Optional[bool], ("True", "False", "None"), [True, False, None]),  # noqa: UP045
    (Literal["a", "b"] | None, ("a", "b", "None"), ["a", "b", None]),
]


@pytest.mark.parametrize(("annotation", "choices", "values"), CLOSED)
def test_closed_types_are_choices_that_parse(annotation, choices, values):
    given = signature(annotation)
    (slot,) = slots(given)
    assert slot.choices == choices
    parsed = [dspy.ChatAdapter().parse(given, slot.header + choice)["answer"] for choice in choices]
    assert parsed == values


OPEN = [
    (int, "[0-9]", False),
    (float, '"."', False),
    (int | None, '"None"', False),
    (list[str], '"["', False),
    (str, "x5b", True),
    (str | None, "x5b", True),
    (dict[str, Any], "x5b", True),
    (Literal[" padded"], "x5b", True),
    (Literal["two\nlines"], "x5b", True),
]


@pytest.mark.parametrize(("annotation", "part", "free"), OPEN)
def test_open_types_have_a_rule(annotation, part, free):
    (slot,) = slots(signature(annotation))
    assert part in slot.rule
    assert slot.free is free
    assert slot.choices == ()


def test_grammar_of_several_fields_holds_the_later_headers():
    lines = grammar(signature(bool, other_field=int)).splitlines()
    assert lines[0] == (r'root ::= answer "\n\n[[ ## other_field ## ]]\n" other-field "\n\n[[ ## completed ## ]]"')
    assert lines[1] == 'answer ::= "True" | "False"'


def test_a_field_called_root_gets_another_rule():
    given = dspy.Signature("text -> root: bool")
    assert "field-root ::= " in grammar(given)


SETTLED = [
    (("yes", "no"), "", None),
    (("yes", "no"), "y", "yes"),
    (("only",), "", "only"),
    (("pin", "pin_change"), "pin", None),
    (("pin", "pin_change"), "pin_", "pin_change"),
    (("pin", "pin_change"), "pin\n", "pin"),
]


@pytest.mark.parametrize(("choices", "text", "expected"), SETTLED)
def test_settled(choices, text, expected):
    assert Slot("answer", "", choices).settled(text) == expected


@given(st.lists(st.text(min_size=1).filter(lambda s: s == s.strip()), min_size=1, max_size=6, unique=True), st.data())
def test_every_choice_is_reached_by_its_own_prefixes(choices, data):
    slot = Slot("answer", "", tuple(choices))
    choice = data.draw(st.sampled_from(choices))
    if "\n" in choice:
        return
    ends = [slot.settled(choice[:length]) for length in range(len(choice) + 1)]
    assert all(end in (None, choice) for end in ends)
    assert slot.settled(choice + "\n") == choice


@given(st.text())
def test_quoted_text_has_no_bare_quote_or_control_character(text):
    inner = quote(text)[1:-1]
    assert all(ord(c) >= 32 for c in inner)
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")


def test_form_is_set_inside_the_block_only():
    form = Form(())
    with forcing(form):
        assert current_form() is form
    assert current_form() is None


@pytest.mark.embedded
def test_llama_cpp_accepts_every_grammar_and_its_output_parses(engine):
    pool, *_rest = engine._model("smollm2-135m")
    cases = [case[0] for case in CLOSED + OPEN]
    with pool.lease() as server:
        for annotation in cases:
            given = signature(annotation, note=str)
            body = {"prompt": "x", "max_tokens": 1, "temperature": 0.0, "grammar": grammar(given)}
            assert "choices" in server.complete(body), grammar(given)
            (slot, _note) = slots(given)
            reply = server.complete({**body, "max_tokens": 2, "grammar": value_grammar(slot)})
            assert "choices" in reply, value_grammar(slot)


def test_a_text_with_a_length_is_one_line_that_is_no_header():
    given = dspy.Signature({"text": (str, dspy.InputField()), "answer": (str, dspy.OutputField(max_length=40))})
    (slot,) = slots(given)
    assert (slot.rule, slot.free) == (r"[^\n\r\x5b] [^\n\r]{0,39}", False)
    assert dspy.ChatAdapter().parse(given, f"{slot.header}two words")["answer"] == "two words"
