"""Programs with typed, nested and image fields, and their rows: shared by the tests of both. Imports nothing of ours."""

import base64
import datetime
import struct
import zlib
from typing import Any, Literal

import dspy
from pydantic import BaseModel


class Address(BaseModel):
    city: str
    since: datetime.date


class Person(BaseModel):
    name: str
    home: Address


class Verdict(BaseModel):
    """What is said of a person."""

    label: Literal["old", "new"]
    reasons: list[str]
    where: Address


class JudgePerson(dspy.Signature):
    """Say whether somebody is an old or a new customer."""

    person: Person = dspy.InputField()
    tags: list[str] = dspy.InputField()
    verdict: Verdict = dspy.OutputField()
    kind: Literal["private", "firm"] = dspy.OutputField()


class Judges(dspy.Module):
    """Its forward takes the model apart: with a plain table it would fail."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = dspy.Predict(JudgePerson)

    def forward(self, person: Person, tags: list[str]) -> Any:
        assert person.home.city
        return self.judge(person=person, tags=tags)


class SeePhotos(dspy.Signature):
    """Say which colour the square has."""

    photo: dspy.Image = dspy.InputField()
    more: list[dspy.Image] = dspy.InputField()
    color: str = dspy.OutputField()


class Sees(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.see = dspy.Predict(SeePhotos)

    def forward(self, photo: dspy.Image, more: list[dspy.Image]) -> Any:
        return self.see(photo=photo, more=more)


def person_rows(split: str, n: int) -> list[dict[str, Any]]:
    made = []
    for i in range(n):
        home = {"city": f"{split} {i}", "since": f"20{10 + i % 10}-01-02"}
        label = "old" if i % 2 else "new"
        verdict = {"label": label, "reasons": [f"since {home['since']}"], "where": home}
        made.append({"person": {"name": f"P {i}", "home": home}, "tags": ["a", split], "verdict": verdict,
                     "kind": "firm" if i % 3 else "private"})  # fmt: skip
    return made


def png(color: int, salt: int = 0, side: int = 8) -> bytes:
    """A grey square; `salt` makes it a file of its own."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + bytes([color] * side) for _ in range(side))
    text = b"n\0" + str(salt).encode()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", text) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")  # fmt: skip


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
