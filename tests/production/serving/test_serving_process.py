"""The server as a process: it ends in order, and switches versions, while it is asked over sockets."""

import contextlib
import signal
import threading
import time

import httpx
import pytest
from by_hand_versions import Shop, eventually
from processes import Process, serving

from cascade.mlflow_store.served import reviewed
from cascade.mlflow_store.store import connect, reaching
from cascade.production.ab.outcomes import Books

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TOKEN = "a-token-0123456789abcdef"


def test_told_to_end_it_lets_what_is_in_flight_end(shop: Shop) -> None:
    shop.publish("champion")
    with serving(shop, latency=2.0) as server:
        found: list[httpx.Response] = []
        customers = [threading.Thread(target=lambda: found.append(server.predict())) for _ in range(5)]
        for one in customers:
            one.start()
        eventually(lambda: "cascade_calls_inside 5" in httpx.get(f"{server.url}/metrics", timeout=60).text)
        assert server.end() == 0
        for one in customers:
            one.join()
        assert [told.status_code for told in found] == [200] * 5
        with pytest.raises(httpx.ConnectError):
            server.predict()
        assert sum(line.get("path") == "/predict" for line in server.lines()) == 5


def test_it_does_not_wait_longer_than_it_was_told(shop: Shop) -> None:
    shop.publish("champion")
    with serving(shop, "--grace", "1", latency=60.0) as server:
        found: list[httpx.Response] = []
        one = threading.Thread(target=lambda: found.append(server.predict()))
        one.start()
        eventually(lambda: "cascade_calls_inside 1" in httpx.get(f"{server.url}/metrics", timeout=60).text)
        began = time.monotonic()
        assert server.end(number=signal.SIGINT) == 0
        assert time.monotonic() - began < 30
        one.join()
        assert [told.status_code for told in found] == [503]
        assert found[0].json()["error"]["message"] == "The server is ending."
        assert "Traceback" not in server.log.read_text()
        assert any("1 program calls were cut off" in line.get("message", "") for line in server.lines())


def test_a_promotion_elsewhere_is_followed_without_a_failed_request(shop: Shop) -> None:
    shop.publish("champion")
    shop.publish()
    with serving(shop, "--refresh", "0.2", latency=0.02, token=TOKEN) as server:
        over, found = threading.Event(), list[tuple[int, str]]()
        good = {"Authorization": f"Bearer {TOKEN}"}

        def customer() -> None:
            with httpx.Client(timeout=120, headers=good) as client:
                while not over.is_set():
                    told = client.post(f"{server.url}/predict", json={"question": "hi"})
                    found.append((told.status_code, told.json().get("version", "")))

        customers = [threading.Thread(target=customer) for _ in range(8)]
        for one in customers:
            one.start()
        for number in ("2", "1", "2"):
            shop.point("champion", number)
            seen = len(found)
            eventually(lambda number=number, seen=seen: number in {version for _, version in found[seen:]}, 60)
        over.set()
        for one in customers:
            one.join()
        assert {status for status, _ in found} == {200}
        assert server.predict().status_code == 401
        assert TOKEN not in server.log.read_text()


KEYS = [f"user-{number}" for number in range(30)]


def arms(server: Process) -> dict[str, str]:
    return {key: server.predict(headers={"X-Cascade-Key": key}).json()["arm"] for key in KEYS}


def test_two_servers_on_one_project_one_of_which_is_killed(shop: Shop) -> None:
    """They agree on who answers whom, hear of each other's requests, and lose nothing that they took."""
    shop.publish("champion")
    shop.publish("challenger")
    books, taken = Books(shop.settings.home, "qa"), set[str]()
    with serving(shop, "--challenger", "50%") as first, serving(shop, "--challenger", "50%") as second:
        before = arms(first)
        assert before == arms(second) and set(before.values()) == {"champion", "challenger"}
        assert len(books.tests()) == 1
        request = first.predict().json()["request_id"]
        eventually(lambda: second.feedback(request, value=1).status_code == 200)

        def people() -> None:
            with contextlib.suppress(httpx.HTTPError):
                while True:
                    asked = first.predict().json()["request_id"]
                    if first.feedback(asked, value=1).status_code == 200:
                        taken.add(asked)

        some = [threading.Thread(target=people) for _ in range(4)]
        for one in some:
            one.start()
        eventually(lambda: len(taken) > 20, 120)
        first.end(number=signal.SIGKILL)
        for one in some:
            one.join()
    with serving(shop, "--challenger", "50%") as again:
        assert arms(again) == before
        said = [one.request for one in books.said()[0]]
        assert taken | {request} <= set(said) and len(set(said)) == len(said)
        with reaching(shop.uri, "could not be read", ""):
            client = connect(shop.uri)
            eventually(lambda: len(reviewed(client, shop.uri, "qa")) == len(said), 120)
            assert all(one.outcomes == (1.0,) for one in reviewed(client, shop.uri, "qa"))
