"""Fields in the types that a program declares, values as JSON, images as words."""

import dataclasses
import datetime
import enum
import json
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cascade.fields import by_content, image_files, image_from, in_json, plain, shortened, typed, typed_row, types_of

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
)
DATA = "data:image/png;base64,aGVsbG8="


class Color(enum.Enum):
    RED = "red"


class Address(BaseModel):
    city: str
    since: datetime.date | None = None


class Person(BaseModel):
    name: str
    home: Address
    tags: list[str] = []
    photo: dspy.Image | None = None


@dataclasses.dataclass
class Point:
    x: int


HELD: list[tuple[Any, bool]] = [
    (str, True), (int, True), (bool, True), (list[str], True), (dict[str, list[int]], True), (list, True), (Any, True),
    (Literal["a", 1], True), (str | None, True), (list[Literal["a"]], True),
    (Person, False), (list[Person], False), (dict[str, Person], False), (Person | None, False), (Color, False),
    (datetime.date, False), (dspy.Image, False), (list[dspy.Image], False), (tuple[str, int], False), (Point, False),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "held"), HELD)
def test_what_json_holds_as_it_is_declared(annotation: Any, held: bool) -> None:
    assert in_json(annotation) is held


class Reads(dspy.Signature):
    """Read it."""

    photo: dspy.Image = dspy.InputField()
    person: Person = dspy.InputField()
    note: str = dspy.InputField()
    color: Color = dspy.OutputField()
    words: list[str] = dspy.OutputField()


class Program(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = dspy.Predict(Reads)
        self.again = dspy.Predict("color: bool -> people: list[int]")

    def forward(self, photo, note: datetime.date, person: "Nowhere" = None) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return None


class Says(Program):
    def forward(self, photo, person, note: datetime.date) -> Any:  # type: ignore[override]
        return None


def test_a_program_declares_by_forward_then_by_inputs_then_by_outputs() -> None:
    found = types_of(Says())
    assert found == {"photo": dspy.Image, "person": Person, "note": datetime.date}
    assert types_of(Program()) == {"photo": dspy.Image, "person": Person}
    assert types_of(dspy.Predict(Reads)) == {"photo": dspy.Image, "person": Person, "color": Color}
    assert types_of(dspy.ChainOfThought("question -> answer")) == {}


def test_values_become_what_is_declared(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    image = image_from(tmp_path, {"a.png": "1"})
    row = {"name": "Ada", "home": {"city": "London", "since": "1840-01-02"}, "photo": "a.png"}
    person = typed(row, Person, image)
    assert (person.home.since, person.photo.url[:22]) == (datetime.date(1840, 1, 2), "data:image/png;base64,")
    assert typed([row, row], list[Person], image) == [person, person]
    assert typed({"x": row}, dict[str, Person], image) == {"x": person}
    assert typed(None, Person | None, image) is None
    assert typed("red", Color, image) is Color.RED
    assert typed("a.png", dspy.Image, image) == person.photo
    assert typed(["a.png"], list[dspy.Image], image) == [person.photo]
    assert typed({"url": "a.png"}, dspy.Image, image) == person.photo
    assert typed(DATA, dspy.Image | None, image).url == DATA
    assert typed("https://x.example/a.png", dspy.Image, image).url == "https://x.example/a.png"
    assert typed(["a", 1], tuple[str, int], image) == ("a", 1)


WRONG = [
    "b.png",
    "../a.png",
    "/etc/passwd",
    "file:///etc/passwd",
    "",
    7,
    {"url": "b.png"},
    {"url": DATA, "download": True},
    ["a.png"],
]


@pytest.mark.parametrize("value", WRONG)
def test_no_file_is_opened_but_images_of_the_data_set(tmp_path: Path, value: Any) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.png", "data/a.png", "data/b.png"):
        (tmp_path / name).write_bytes(PNG)
    with pytest.raises(ValueError):  # noqa: PT011
        typed(value, dspy.Image, image_from(tmp_path / "data", {"a.png": "1"}))


def test_what_a_type_does_not_take_stays_as_it_is(tmp_path: Path) -> None:
    row = {"color": "blue", "person": {"name": 7}, "note": "x"}
    assert typed_row(row, {"color": Color, "person": Person}, image_from(tmp_path, {})) == row


def test_image_files_are_those_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "in").mkdir(parents=True)
    for name in ("a.png", "data/a.PNG", "data/in/b.jpg", "data/c.txt"):
        (tmp_path / name).write_bytes(PNG)
    row = [
        "a.PNG",
        {"x": ["in/b.jpg", "c.txt", "../a.png"]},
        str(tmp_path / "a.png"),
        "nothing.png",
        7,
        None,
        "in/../../a.png",
    ]
    assert list(image_files(row, tmp_path / "data")) == ["a.PNG", "in/b.jpg"]
    assert by_content({"x": ["a.PNG", "other"]}, {"a.PNG": "hash"}) == {"x": ["hash", "other"]}


def test_values_of_a_program_are_json() -> None:
    person = Person(name="Ada", home=Address(city="London", since=datetime.date(1840, 1, 2)))
    said = plain(
        {
            "person": person,
            "color": Color.RED,
            "when": datetime.date(2026, 1, 2),
            "at": Point(3),
            "odd": object,
            "s": {1},
            5: (1,),
        }
    )
    assert said["person"] == {
        "name": "Ada",
        "home": {"city": "London", "since": "1840-01-02"},
        "tags": [],
        "photo": None,
    }
    assert (said["color"], said["when"], said["at"], said["s"], said["5"]) == ("red", "2026-01-02", {"x": 3}, [1], [1])
    json.dumps(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_json_stays_what_it_is(value: Any) -> None:
    assert plain(value) == value
    if "base64," not in json.dumps(value):
        assert shortened(value) == value


def test_an_image_is_shown_as_a_word() -> None:
    word = "[image/png, 5 bytes, sha256 2cf24dba5fb0]"
    saved = plain(dspy.Image(DATA))
    assert "CUSTOM-TYPE" in saved
    assert shortened({"photo": saved, "all": [DATA, f"see {DATA}!"], "n": 1}) == {
        "photo": word,
        "all": [word, f"see {word}!"],
        "n": 1,
    }
    assert shortened("data:image/png;base64,a") == "[image/png, 1 bytes, sha256 ca978112ca1b]"
    assert len(shortened("data:image/png;base64," + "A" * 10**6)) < 60
