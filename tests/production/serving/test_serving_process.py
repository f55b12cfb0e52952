"""The server as a process: it ends in order, and switches versions, while it is asked over sockets."""

import signal
import threading
import time

import httpx
import pytest
from by_hand_versions import Shop, eventually
from processes import serving

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
