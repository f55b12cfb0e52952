"""Requests to a server and what comes of them: answers, limits, the token, failures of the model."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from asking import Asked, Asking
from by_hand_versions import Shop, answer, eventually
from dspy.lm15 import AuthError, ContextLengthError, RateLimitError, ServerError

from cascade.production.serving.service import Limits
from cascade.testing import ScriptedEngine

TOKEN = "a-token-0123456789abcdef"
CANARY = "sk-canary-0123456789abcdef"


def test_an_answer_says_who_gave_it(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    told = asking().predict("hi")
    document = told.json()
    assert (told.status_code, document["outputs"]) == (200, {"answer": "hi, says 1"})
    assert (document["version"], document["arm"]) == ("1", "champion")
    assert len(document["request_id"]) == 32 and told.headers["x-cascade-request"] == document["request_id"]


def test_text_comes_back_as_it_is(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking()
    for question in ("Grüße, 你好 🙂", 'a "quote" \\ and\ta tab', "zero \x00 byte"):
        assert server.predict(question).json()["outputs"]["answer"].startswith(question)


def test_requests_that_do_not_fit(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking(limits=Limits(body=400))
    json_type = {"Content-Type": "application/json"}
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (422, "unfit", {"json": {}}),
        (422, "unfit", {"json": {"question": 1}}),
        (422, "unfit", {"json": {"question": "hi", "other": 1}}),
        (422, "unfit", {"json": {"question": "hi", "user": "x" * 257}}),
        (422, "unfit", {"json": {"question": "hi"}, "headers": {"X-Cascade-Key": "x" * 257}}),
        (422, "unfit", {"json": ["hi"]}),
        (422, "unfit", {"content": b"", "headers": json_type}),
        (422, "unfit", {"content": b'{"question": "\xff"}', "headers": json_type}),
        (422, "unfit", {"content": b'{"question": "\\ud800"}', "headers": json_type}),
        (422, "unfit", {"content": b"[" * 399, "headers": json_type}),
        (413, "too_large", {"json": {"question": "x" * 400}}),
        (415, "not_json", {"content": b'{"question": "hi"}'}),
        (415, "not_json", {"data": {"question": "hi"}}),
    ]
    for status, code, options in cases:
        told = server.ask("POST", "/predict", **options)
        assert (told.status_code, told.json()["error"]["code"]) == (status, code), options
        assert told.json()["error"]["request_id"] == told.headers["x-cascade-request"]
    assert server.ask("POST", "/predict", json={"question": 1}).json()["error"]["details"] == [
        {"field": "question", "message": "Input should be a valid string"}
    ]
    assert shop.engine.requests == []


def test_a_body_without_a_length_is_read_no_further_than_its_limit(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server, sent = asking(limits=Limits(body=1000)), []

    async def endless() -> Any:
        while True:
            sent.append(1)
            yield b" " * 100

    told = server.ask("POST", "/predict", content=endless(), headers={"Content-Type": "application/json"})
    assert told.status_code == 413 and len(sent) < 20


def test_bodies_have_a_bound_in_all(shop: Shop, asking: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many connections send: what is refused is let go of."""
    monkeypatch.setattr("cascade.production.serving.service.HELD", 10_000)
    shop.publish("champion")
    server, go_on = asking(), threading.Event()

    async def slowly() -> Any:
        yield b'{"question": "'
        yield b"x" * 6_000
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        yield b'"}'

    json_type = {"Content-Type": "application/json"}
    first = server.begin("POST", "/predict", content=slowly(), headers=json_type)
    eventually(lambda: server.service.held > 6_000)
    refused = server.predict("y" * 6_000)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert server.predict("z").status_code == 200
    go_on.set()
    assert first.result(60).status_code == 200
    assert server.service.held == 0 and server.metrics()["cascade_refused_total"] == 1


def test_a_body_that_does_not_come(shop: Shop, asking: Asked) -> None:
    import asyncio

    shop.publish("champion")
    server = asking(limits=Limits(seconds=0.1))

    async def slow() -> Any:
        yield b'{"question":'
        await asyncio.sleep(5)

    told = server.ask("POST", "/predict", content=slow(), headers={"Content-Type": "application/json"})
    assert (told.status_code, told.json()["error"]["code"]) == (408, "body_timeout")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("GET", "/predict", 405), ("PUT", "/healthz", 405), ("POST", "/predict/", 404)])  # fmt: skip
def test_other_routes(shop: Shop, asking: Asked, method: str, path: str, status: int) -> None:
    shop.publish("champion")
    told = asking().ask(method, path)
    assert told.status_code == status and told.json()["error"]["code"] in ("not_found", "method_not_allowed")


class Slow:
    """A script that waits until it may go on."""

    def __init__(self) -> None:
        self.inside, self.go_on = 0, threading.Event()

    def __call__(self, _model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        self.inside += 1
        assert self.go_on.wait(60)
        return {"answer": f"{inputs['question']}, says {demos}"}


@pytest.fixture
def slow(shop: Shop) -> Iterator[Slow]:
    script = Slow()
    shop.engine = ScriptedEngine(script)
    yield script
    script.go_on.set()


def test_more_than_it_has_places_for_are_refused_at_once(shop: Shop, asking: Asked, slow: Slow) -> None:
    shop.publish("champion")
    server = asking(limits=Limits(concurrency=2))
    first = [server.begin("POST", "/predict", json={"question": str(number)}) for number in range(2)]
    eventually(lambda: slow.inside == 2)
    began = time.monotonic()
    refused = [server.predict(str(number)) for number in range(20)]
    assert time.monotonic() - began < 10
    assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "1")}
    assert server.metrics()["cascade_refused_total"] == 20
    assert server.metrics()["cascade_calls_inside"] == 2
    slow.go_on.set()
    assert [one.result(60).status_code for one in first] == [200, 200]
    assert server.predict().status_code == 200


def test_an_answer_that_takes_too_long_keeps_its_place_until_it_ends(shop: Shop, asking: Asked, slow: Slow) -> None:
    shop.publish("champion")
    server = asking(limits=Limits(concurrency=1, seconds=0.2))
    late = server.predict()
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    assert server.predict().status_code == 503
    assert server.live.now["champion"].calls == 1
    slow.go_on.set()
    eventually(lambda: server.service.crew.busy == 0)
    assert server.live.now["champion"].calls == 0
    assert server.predict().status_code == 200


ERRORS = [
    (RateLimitError(f"slow down, {CANARY}"), 503, "unavailable"),
    (ServerError(f"boom {CANARY}"), 503, "unavailable"),
    (AuthError(f"wrong key {CANARY}"), 502, "program_failed"),
    (ContextLengthError("4096 tokens"), 422, "unfit"),
    (KeyError(CANARY), 502, "program_failed"),
    (SystemExit(3), 502, "program_failed"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda one: getattr(type(one), "__name__", ""))
def test_a_model_that_fails(
    shop: Shop, asking: Asked, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, code: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)

    def fail(*_: Any) -> Mapping[str, str]:
        raise error

    shop.engine = ScriptedEngine(fail)
    shop.publish("champion")
    server = asking()
    told = server.predict()
    assert (told.status_code, told.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in told.headers) == (status == 503)
    assert CANARY not in told.text and "Traceback" not in told.text and ".py" not in told.text
    assert server.metrics()['cascade_predictions_total{arm="champion",version="1",outcome="failed"}'] == 1
    (line,) = (line for line in server.log() if line.get("path") == "/predict")
    assert line["reason"] and line["request"] == told.json()["error"]["request_id"]
    assert CANARY not in server.written.getvalue()


def test_an_answer_that_is_not_what_the_signature_says(shop: Shop, asking: Asked) -> None:
    file = shop.folder / "experiments" / "qa.py"
    file.parent.mkdir()
    file.write_text(
        "import dspy\n\n\nclass Answer(dspy.Module):\n    def __init__(self):\n        super().__init__()\n"
        '        self.answer = dspy.Predict("question -> answer")\n\n    def forward(self, question):\n'
        "        return dspy.Prediction(answer=[1, 2])\n"
    )
    shop.publish("champion")
    told = asking().predict()
    assert (told.status_code, told.json()["error"]["code"]) == (502, "program_failed")


def test_without_the_token_nothing_but_health_is_said(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking(token=TOKEN)
    routes = [("POST", "/predict"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/docs")]
    for header in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Bearer {TOKEN}x"},
    ):
        for method, path in [*routes, ("GET", "/nothing"), ("DELETE", "/predict"), ("GET", "/healthz/")]:
            told = server.ask(method, path, headers=header)
            assert (told.status_code, told.headers["www-authenticate"]) == (401, "Bearer")
            assert told.json()["error"]["code"] == "unauthorized"
        assert server.ask("GET", "/healthz", headers=header).status_code == 200
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert server.predict(headers=good).status_code == 200
    for method, path in routes[1:]:
        assert server.ask(method, path, headers=good).status_code == 200


def test_a_token_with_letters_that_no_header_should_have(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    told = asking(token=TOKEN).ask("GET", "/readyz", headers=[(b"authorization", "Bearer ÿ☃".encode())])
    assert told.status_code == 401


def test_the_log_names_requests_and_holds_no_question(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking()
    told = server.predict("a question of mine")
    server.ask("GET", "/healthz")
    (line,) = (line for line in server.log() if line["event"] == "request")
    assert line["request"] == told.json()["request_id"]
    assert (line["status"], line["version"], line["arm"], line["level"]) == (200, "1", "champion", "info")
    assert "of mine" not in server.written.getvalue()


def test_it_is_ready_until_it_ends(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking()
    told = server.ask("GET", "/readyz").json()
    assert (told["ready"], told["versions"]) == (True, {"champion": "1"}) and told["store_seen"] > 0
    server.service.ending = True
    assert server.ask("GET", "/readyz").status_code == 503
    assert server.ask("GET", "/healthz").status_code == 200


def test_the_champion_is_switched_without_a_failed_request(shop: Shop, asking: Asked) -> None:
    shop.engine = ScriptedEngine(answer, latency=0.005)
    shop.publish("champion")
    shop.publish()
    server, over = asking(), threading.Event()
    found: list[tuple[int, str]] = []

    def customer() -> None:
        while not over.is_set():
            told = server.predict()
            found.append((told.status_code, told.json().get("version", told.text)))

    customers = [threading.Thread(target=customer) for _ in range(8)]
    for one in customers:
        one.start()
    for number in "2121":
        shop.point("champion", number)
        server.live.look()
        seen = len(found)
        eventually(lambda seen=seen: len(found) > seen + 8)
    over.set()
    for one in customers:
        one.join()
    assert {status for status, _ in found} == {200}
    assert {version for _, version in found} == {"1", "2"}


def test_another_version_with_other_fields_changes_what_is_taken(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking()
    file = shop.folder / "experiments" / "qa.py"
    file.write_text(file.read_text().replace("forward(self, question)", "forward(self, question, tone: str = 'dry')"))
    shop.publish("champion", inputs=("question", "tone"))
    server.live.look()
    assert server.ask("POST", "/predict", json={"question": "hi", "tone": "wet"}).status_code == 200
    schemas = server.ask("GET", "/openapi.json").json()["components"]["schemas"]
    assert list(schemas["Inputs"]["properties"]) == ["question", "tone", "user"]
    assert schemas["Inputs"]["required"] == ["question"]


def test_metrics_are_prometheus_text(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server = asking()
    for _ in range(3):
        server.predict()
    told = server.ask("GET", "/metrics")
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = server.metrics()
    assert found['cascade_requests_total{route="/predict",status="200"}'] == 3
    assert found['cascade_prediction_seconds_count{arm="champion"}'] == 3
    assert found['cascade_prediction_seconds_bucket{arm="champion",le="+Inf"}'] == 3
    assert found['cascade_loaded_info{arm="champion",version="1"}'] == 1


def test_a_fault_of_ours_is_a_document_too(shop: Shop, asking: Asked) -> None:
    shop.publish("champion")
    server: Asking = asking()
    server.parts.arms.place = lambda key, now: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    told = server.predict()
    assert (told.status_code, told.json()["error"]["code"]) == (500, "internal")
    assert "ZeroDivision" not in told.text
    assert any("ZeroDivisionError" in json.dumps(line) for line in server.log())
