"""The parts of a server that need no server: forms, queues, places, numbers, the token."""

import asyncio
import json
import resource
import threading
import time
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from by_hand_versions import eventually
from pydantic import BaseModel

from cascade.errors import SettingsError
from cascade.production.serving.crew import Crew
from cascade.production.serving.edge import Log
from cascade.production.serving.forms import Form, WrongRequest
from cascade.production.serving.meters import BUCKETS, Meters
from cascade.production.serving.openapi import document
from cascade.production.serving.queues import Drain
from cascade.production.serving.server import connections, token_from
from cascade.redaction import redacted


class Line(BaseModel):
    item: str
    count: int = 1


class Sorts(dspy.Signature):
    """Sort a letter."""

    text: str = dspy.InputField()
    lines: list[Line] = dspy.InputField()
    picture: dspy.Image = dspy.InputField()
    label: Literal["bill", "complaint"] = dspy.OutputField()
    best: Line = dspy.OutputField()
    scores: dict[str, float] = dspy.OutputField()


class Letters(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sort = dspy.Predict(Sorts)

    def forward(self, text: str, lines: Any, picture: Any = None) -> Any:
        return self.sort(text=text, lines=lines, picture=picture)


class Loaded:
    """What a form needs of a program."""

    def __init__(self, module: Any, inputs: list[str], outputs: list[str]) -> None:
        self.module, self.config = module, {"inputs": inputs, "outputs": outputs}


def form(module: Any = None, inputs: tuple[str, ...] = ("text", "lines", "picture")) -> Form:
    program: Any = Loaded(module or Letters(), list(inputs), ["label", "best", "scores"])
    return Form.of(program)


def test_types_of_the_signature_are_kept() -> None:
    schema = form().schema
    assert schema["required"] == ["text", "lines"] and schema["additionalProperties"] is False
    assert schema["properties"]["lines"]["items"] == {"$ref": "#/$defs/Line"}
    assert "default" not in schema["properties"]["picture"]
    body = {"text": "a", "lines": [{"item": "pen"}], "picture": {"url": "data:image/png;base64,AAAA"}, "user": "me"}
    inputs, user = form().read(json.dumps(body).encode())
    assert (inputs["text"], inputs["lines"], user) == ("a", [Line(item="pen")], "me")
    assert isinstance(inputs["picture"], dspy.Image) and list(inputs) == ["text", "lines", "picture"]


@pytest.mark.parametrize("body", [
    b"", b"[]", b"null", b"{", b'{"text": "a"}', b'{"text": 1, "lines": []}', b'{"text": "a", "lines": [{}]}',
    b'{"text": "a", "lines": [{"item": "pen", "count": "two"}]}', b'{"text": "a", "lines": [], "label": "bill"}',
    b'{"text": "a", "lines": [], "user": 1}', b'{"text": "a", "lines": [], "picture": {"url": "/etc/passwd"}}',
    b'{"text": "a", "lines": [], "picture": {"url": "http://x/a.png", "download": true}}', b"[" * 100_000,
    b'{"text": "\xff", "lines": []}',
])  # fmt: skip
def test_what_does_not_fit_is_said_without_what_was_sent(body: bytes) -> None:
    with pytest.raises(WrongRequest) as raised:
        form().read(body)
    assert raised.value.details and len(json.dumps(raised.value.details)) < 2500


def test_outputs_are_checked_and_become_json() -> None:
    prediction = dspy.Prediction(label="bill", best=Line(item="pen"), scores={"a": 0.5, "b": float("nan")})
    assert form().write(prediction) == {
        "label": "bill", "best": {"item": "pen", "count": 1}, "scores": {"a": 0.5, "b": None},
    }  # fmt: skip
    with pytest.raises(ValueError, match="'bill' or 'complaint'"):
        form().write(dspy.Prediction(label="neither", best=Line(item="pen"), scores={}))


def test_a_program_that_returns_other_fields_than_its_predictor() -> None:
    assert form().write(dspy.Prediction(total=Line(item="pen"))) == {"total": {"item": "pen", "count": 1}}
    assert form().write("just text") == {"prediction": "just text"}


@pytest.mark.filterwarnings("ignore:Field name")  # of DSPy's signature
def test_fields_that_are_called_like_pydantics_own() -> None:
    signature = dspy.Signature({"schema": (str, dspy.InputField()), "copy": (int, dspy.InputField()), "json": (str, dspy.OutputField())})  # fmt: skip
    program: Any = Loaded(dspy.Predict(signature), ["schema", "copy"], ["json"])
    made = Form.of(program)
    assert made.read(b'{"schema": "a", "copy": 2}') == ({"schema": "a", "copy": 2}, "")
    assert made.write(dspy.Prediction(json="b")) == {"json": "b"}


def test_an_input_called_user_is_the_programs() -> None:
    signature = dspy.Signature({"user": (str, dspy.InputField()), "answer": (str, dspy.OutputField())})
    program: Any = Loaded(dspy.Predict(signature), ["user"], ["answer"])
    assert Form.of(program).read(b'{"user": "me"}') == ({"user": "me"}, "me")


def test_the_document_keeps_types_of_one_name_apart() -> None:
    made = document("qa", "1", form(), guarded=True)
    schemas = made["components"]["schemas"]
    assert schemas["Inputs"]["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/Inputs.Line"}
    assert {"Inputs.Line", "Inputs.Image", "Outputs.Line", "Error", "Answer"} <= set(schemas)
    assert made["paths"]["/healthz"]["get"]["security"] == []
    assert made["paths"]["/predict"]["post"]["security"] == [{"token": []}]


def test_a_queue_drops_what_it_has_no_room_for_and_never_waits() -> None:
    found, go_on = list[int](), threading.Event()

    def handle(batch: list[int]) -> None:
        assert go_on.wait(20)
        found.extend(batch)

    drain = Drain(handle, most=10, pause=0.0)
    drain.offer(0)
    eventually(lambda: drain.waiting == 0)
    began = time.monotonic()
    taken = [drain.offer(number) for number in range(1, 100)]
    assert time.monotonic() - began < 5
    assert (taken.count(True), drain.dropped) == (10, 89)
    go_on.set()
    assert drain.close(20)
    assert found == list(range(11))


def test_a_queue_has_room_for_so_much() -> None:
    go_on = threading.Event()
    drain: Drain[int] = Drain(lambda _batch: go_on.wait(20) and None, most=100, room=25, pause=0.0)
    assert [drain.offer(number, size=10) for number in range(4)] == [True, True, False, False]
    go_on.set()
    eventually(lambda: drain.offer(9, size=20))
    assert drain.close(20) and drain.dropped >= 2


def test_a_batch_that_fails_does_not_end_a_queue() -> None:
    errors, found = list[str](), list[int]()

    def handle(batch: list[int]) -> None:
        if 1 in batch:
            raise OSError("disk full")
        found.extend(batch)

    drain = Drain(handle, most=10, pause=0.0, on_error=lambda error: errors.append(str(error)))
    drain.offer(1)
    eventually(lambda: bool(errors))
    drain.offer(2)
    assert drain.close(20) and (errors, found) == (["disk full"], [2])


def test_a_queue_that_hangs_is_left_behind() -> None:
    never = threading.Event()
    drain: Drain[int] = Drain(lambda _batch: never.wait() and None, most=10, pause=0.0)
    drain.offer(1)
    assert not drain.close(0.1)
    never.set()


def test_a_place_is_free_again_when_its_call_has_ended_not_when_nobody_waits() -> None:
    crew, go_on = Crew(2), threading.Event()

    async def check() -> None:
        slow = crew.run(lambda: go_on.wait(20))
        quick = crew.run(lambda: 7)
        assert crew.full and await quick == 7 and not crew.full
        slow.cancel()
        await asyncio.sleep(0)
        assert crew.busy == 1
        go_on.set()
        while crew.busy:
            await asyncio.sleep(0.01)
        with pytest.raises(ZeroDivisionError):
            await crew.run(lambda: 1 / 0)

    asyncio.run(check())
    crew.close()


def test_a_thread_that_the_system_refuses_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def check() -> None:
        crew = Crew(2)
        with monkeypatch.context() as context:
            context.setattr(threading.Thread, "start", refuse)
            for _ in range(5):
                with pytest.raises(RuntimeError, match="can't start"):
                    crew.run(lambda: 7)
        assert crew.busy == 0 and await crew.run(lambda: 7) == 7
        crew.close()

    asyncio.run(check())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_a_correction_that_json_does_not_have(value: Any) -> None:
    with pytest.raises(WrongRequest):
        form().checked("scores", value)


def test_numbers_in_the_text_format() -> None:
    meters = Meters()
    meters.add("cascade_requests_total", route='a"b\\\n', status="200")
    meters.took("cascade_prediction_seconds", 0.03, arm="champion")
    meters.took("cascade_prediction_seconds", 99.0, arm="champion")
    meters.watch("cascade_calls_inside", lambda: [({}, 3)])
    lines = meters.text().splitlines()
    assert 'cascade_requests_total{route="a\\"b\\\\\\n",status="200"} 1' in lines
    assert "cascade_calls_inside 3" in lines
    buckets = [line.rpartition(" ")[2] for line in lines if line.startswith("cascade_prediction_seconds_bucket")]
    assert buckets == ["0", "0", *["1"] * (len(BUCKETS) - 2), "2"]
    assert 'cascade_prediction_seconds_sum{arm="champion"} 99.030000' in lines


def test_a_full_log_loses_lines_and_no_time() -> None:
    class Stuck:
        def __init__(self) -> None:
            self.go_on = threading.Event()

        def write(self, text: str) -> None:
            self.go_on.wait(20)

        def flush(self) -> None:
            pass

    stream: Any = Stuck()
    log = Log(stream, most=5)
    for _ in range(100):
        log.tell("info", "request")
    assert log.drain.dropped > 80
    stream.go_on.set()
    log.drain.close(20)


TOKENS = [
    ("", None, ""),
    ("short-7", None, "has 7 characters"),
    ("a-token-0123456789abcdef", None, None),
    ("with space 0123456789abcdef", None, "ASCII"),
    ("", "from-a-file-0123456789abcdef\n", None),
    ("", "\n", "has 0 characters"),
]


@pytest.mark.parametrize(("value", "file", "refused"), TOKENS)
def test_the_token(tmp_path: Path, value: str, file: str | None, refused: str | None) -> None:
    path = None
    if file is not None:
        path = tmp_path / "token"
        path.write_text(file)
    if refused:
        with pytest.raises(SettingsError, match=refused) as raised:
            token_from(value, path)
        assert not value or value not in str(raised.value)
        return
    token = token_from(value, path)
    assert token == (file or value).strip()
    assert not token or token not in redacted(f"it is {token}")


@pytest.mark.parametrize(("soft", "hard", "set_to", "most"), [
    (1024, 4096, 2300, 2000), (1024, 2000, 2000, 1700), (1024, -1, 2300, 2000), (512, 512, 512, 212),
    (-1, -1, None, 2000), (65536, 65536, None, 2000), (64, 64, 64, 1),
])  # fmt: skip
def test_no_more_connections_than_files(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, set_to: int | None, most: int
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    assert connections() == most
    assert made == ([] if set_to is None else [(set_to, hard)])


def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        token_from("", tmp_path / "nothing")
