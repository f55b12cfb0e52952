"""Routers, conditions and structures: which way is gone, and that it is said."""

import sys
from enum import Enum
from typing import Any, Literal

import dspy
import pytest

from cascade.errors import ProgramError, StepFailed
from cascade.programs import Adaptive, Pipeline, Router, Rule, Step, When, build, gives_of, takes_of
from cascade.programs.building import KINDS

WORDS = {"long": Step(lambda text: "much", gives="said"), "short": Step(lambda: "little", gives="said")}


def size(text: str) -> str:
    return {0: "none", 1: "short"}.get(len(text), "long")


class Size(Enum):
    SHORT = "short"


class Says(dspy.Signature):
    text: str = dspy.InputField()
    size: Literal["long", "short"] = dspy.OutputField()


class SaysMore(dspy.Signature):
    text: str = dspy.InputField()
    size: Literal["long", "short", "none"] = dspy.OutputField()


def test_the_route_that_was_gone_is_in_the_prediction() -> None:
    assert [dict(Router(size, WORDS)(text=text)) for text in ("a", "aa")] == [
        {"route": "short", "said": "little"}, {"route": "long", "said": "much"}]  # fmt: skip


def test_an_unknown_route_goes_the_default_or_is_told() -> None:
    with pytest.raises(
        StepFailed, match=r"There is no route 'none'\. Routes: 'long', 'short'\. Give the router a default\."
    ):
        Router(size, WORDS)(text="")
    assert Router(size, WORDS, default="short")(text="").route == "short"
    assert dict(Router(size, WORDS, default=lambda text: {"said": "?"})(text="")) == {"route": "default", "said": "?"}


def test_an_enum_and_spaces_are_read() -> None:
    assert Router(lambda text: Size.SHORT, WORDS)(text="").route == "short"
    assert Router(lambda text: " short\n", WORDS)(text="").route == "short"


def test_routers_in_routers_say_the_whole_way_and_pipelines_rejoin() -> None:
    inner = Router(lambda text: "short", WORDS)
    program = Pipeline(
        route=Router(lambda text: "in", {"in": inner}), then=Step(lambda said, route: f"{said} by {route}", gives="end")
    )
    assert dict(program(text="a")) == {"route": "in.short", "said": "little", "end": "little by in.short"}


def test_what_the_routes_need_and_give() -> None:
    program = Router(dspy.Predict("question -> topic"), {"a": dspy.Predict("question, topic, more -> answer, extra"),
                                                         "b": dspy.Predict("question -> answer")})  # fmt: skip
    taken, given = takes_of(program) or {}, gives_of(program) or {}
    assert {name: (port.sure, port.wanted) for name, port in taken.items()} == {
        "question": (True, True),
        "more": (False, True),
    }
    assert {name for name, port in given.items() if port.sure} == {"topic", "route", "answer"}
    with pytest.raises(ProgramError, match="Step 'r' needs 'more'"):
        Pipeline("question -> answer", r=program)
    assert takes_of(Router(size, WORDS)) == takes_of(Step(size))


WRONG = [
    (lambda: Router(size, {}), "has no routes"),
    (lambda: Router(size, WORDS, default="huge"), "The default 'huge' is no route. Routes: 'long', 'short'"),
    (lambda: Router(size, {"by": WORDS["long"]}), "cannot be called 'by'"),
    (lambda: Router(size, {"it's": WORDS["long"]}), 'Route "it\'s" has a name that is empty or holds a quote'),
    (lambda: Router(dspy.Predict(SaysMore), WORDS), "'size' may be 'none', for which there is no route"),
    (lambda: Router(dspy.Predict(Says), {**WORDS, "huge": WORDS["long"]}), "'size' is never 'huge'. It may be: 'long', 'short'"),
    (lambda: Router(dspy.Predict(Says), WORDS, field="sice"), "gives no 'sice'. It gives: 'size'"),
    (lambda: Router(size, {"a": dspy.Predict("x -> route")}), "Route 'a' gives 'route'"),
    (lambda: When(dspy.Predict("question -> urgent"), WORDS["long"]), "which is no truth value. Declare its field as bool"),
    (lambda: Adaptive([Rule("full", bool, "")], WORDS), "Rules name 'full', which is no structure"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), WRONG)
def test_what_does_not_fit_is_said_when_it_is_put_together(make: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        make()


def test_a_typed_route_is_found_among_other_fields() -> None:
    assert Router(dspy.ChainOfThought(Says), WORDS).field == "size"
    assert Router(dspy.Predict(SaysMore), WORDS, default="long").field == "size"


def test_a_condition_says_what_it_did() -> None:
    program = When(lambda text: len(text) > 1, WORDS["long"])
    assert [dict(program(text=text)) for text in ("aa", "a")] == [
        {"route": "then", "said": "much"},
        {"route": "otherwise"},
    ]
    with pytest.raises(StepFailed, match="A condition said 'no', which is not True or False"):
        When(lambda text: "no", WORDS["long"])(text="")
    assert When(dspy.Predict("question -> urgent: bool"), WORDS["long"]).named_steps().keys() == {
        "by",
        "then",
        "otherwise",
    }


def test_a_structure_is_chosen_by_the_first_rule_that_holds_and_the_reason_is_told() -> None:
    rules = [
        Rule("short", lambda text: len(text) < 2, "it is short"),
        Rule("long", lambda text, deep=False: deep, "as wished"),
    ]
    program = Adaptive(rules, WORDS, default="long")
    found = [program(text="a"), program(text="aa", deep=True), program(text="aa")]
    assert [(one.structure, one.why, one.said) for one in found] == [
        ("short", "it is short", "little"), ("long", "as wished", "much"), ("long", "no rule holds", "much")]  # fmt: skip
    with pytest.raises(StepFailed, match="There is no route ''"):
        Adaptive(rules, WORDS)(text="aa")
    assert Adaptive(size, WORDS)(text="a").structure == "short"


PARTS = {
    "size": size,
    "one": WORDS["long"],
    "two": WORDS["short"],
    "long": lambda text: len(text) > 1,
    "score": lambda said: 1.0,
    "sure": Step(lambda text: {"said": "sure", "confidence": len(text)}),
}
WRONG_DEFINITIONS = [
    ("tow", "at its top names 'tow', which is no part. Known: .* Did you mean 'two'?"),
    ({"rooter": {}}, "names 'rooter', which is no kind. .* Did you mean 'router'?"),
    ({"router": {"by": "size", "routs": {}}}, "at router names 'routs', which is no option. Known: 'routes', 'by', 'default', 'field'. Did you mean 'routes'?"),
    ({"pipeline": {"steps": {"a": {"when": {"condition": "long", "then": "__import__('os')"}}}}}, "at pipeline.steps.a.when.then names .*, which is no part"),
    ({"pipeline": ["one"]}, "at pipeline has .* in place of options"),
    ({"vote": {"members": "one"}}, "at vote.members is 'one', not several"),
    ({"router": {"by": "size", "routes": ["one"]}}, r"at router.routes is \['one'\], not several by name"),
    ({"pipeline": {"steps": []}}, r"at pipeline.steps is \[\], not several by name"),
    ({"renamed": {"part": "one", "gives": 1}}, "at renamed cannot be made"),
    ({"a": 1, "b": 2}, "not the name of a part or one kind"),
    (None, "at its top is None"),
    ({"router": {"routes": {"a": "one"}}}, "at router cannot be made: .*'by'"),
    ({"router": {"by": "size", "routes": {"a": "one"}, "default": "x"}}, "The default 'x' is no route"),
    ({"pipeline": {"signature": 3, "steps": {"a": "one"}}}, "at pipeline cannot be made: its signature 3 cannot be read"),
    ({"pipeline": {"signature": "text said", "steps": {"a": "one"}}}, "its signature 'text said' cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("definition", "said"), WRONG_DEFINITIONS)
def test_a_definition_is_refused_at_its_place(definition: Any, said: str) -> None:
    with pytest.raises(ProgramError, match=said):
        build(definition, PARTS)


@pytest.mark.parametrize(
    "type_",
    ["antigravity.x", "antigravity", "list[\"__import__('antigravity')\"]", "\"__import__('antigravity')\"",
     "Optional[\"__import__('antigravity')\"]", "Literal[list[\"__import__('antigravity')\"]]",
     "dspy.Image[\"__import__('antigravity')\"]", "int | \"__import__('antigravity')\"", "dspy.clients.base_lm"],
)  # fmt: skip
def test_the_types_of_a_definition_run_nothing(type_: str) -> None:
    """DSPy would import a module of that name, and pydantic evaluate a text in its place."""
    sys.modules.pop("antigravity", None)
    with pytest.raises(ProgramError, match="its signature has the type"):
        build({"pipeline": {"signature": f"text: {type_} -> said", "steps": {"a": "one"}}}, PARTS)
    assert "antigravity" not in sys.modules


def test_the_types_of_a_definition_are_kept() -> None:
    types = ["list[str]", "Literal['a', 2]", "dict[str, Any]", "Optional[int]", "float | None", "dspy.Image"]
    fields = ", ".join(f"f{number}: {type_}" for number, type_ in enumerate(types))
    made = build({"pipeline": {"signature": f"text, {fields} -> said", "steps": {"a": "one"}}}, PARTS)
    assert [port.type for port in made.takes.values()] == [
        str, list[str], Literal["a", 2], dict[str, Any], int | None, float | None, dspy.Image]  # fmt: skip


def test_a_definition_that_is_too_deep_is_refused() -> None:
    definition: Any = "one"
    for _ in range(200):
        definition = {"pipeline": {"steps": {"a": definition}}}
    with pytest.raises(ProgramError, match="is nested deeper than 50"):
        build(definition, PARTS)


def test_every_kind_is_built() -> None:
    definition = {"pipeline": {"signature": "text, texts: list[str] -> said: list[str]", "steps": {
        "fan": {"parallel": {"branches": {"x": "one", "y": "two"}, "merge": {"concatenate": "said"}, "timeout": 9}},
        "vote": {"vote": {"members": ["one", "two", "one"], "weights": [1, 1, 1]}},
        "pick": {"router": {"by": "size", "routes": {"long": "one"}, "default": "long"}},
        "loop": {"loop": {"body": "one", "score": "score", "limit": 1}},
        "ask": {"ask_until_agreed": {"member": "one", "agree": 2}},
        "agree": {"consensus": {"members": {"a": "one", "b": "two"}, "agree": 0.9, "otherwise": "two"}},
        "other": {"renamed": {"part": "one", "gives": {"said": "told"}}},
        "fit": {"adaptive": {"analyse": "size", "structures": {"long": "one", "short": "two"}}},
        "sure": {"most_confident": {"members": ["sure", "sure"], "confidence": "confidence"}},
        "if": {"when": {"condition": "long", "then": "one", "otherwise": "two"}},
        "all": {"each": {"body": "one", "over": "texts", "each": "text"}},
    }}}  # fmt: skip
    assert {kind for step in definition["pipeline"]["steps"].values() for kind in step} | {"pipeline"} == set(KINDS)
    found = build(definition, PARTS)(text="ab", texts=["ab", "c"])
    assert found.confidences == {"members[0]": 2.0, "members[1]": 2.0}
    assert (found.said, found.told, found.votes, found.share) == (
        ["much"] * 2,
        "much",
        {"much": 1.0, "little": 1.0},
        0.5,
    )
