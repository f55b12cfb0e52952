"""Under load for a while, with promotions, feedback and traces: no failed request, and memory that does not grow."""

import os
import threading
import time
from itertools import count
from pathlib import Path

import httpx
import pytest
from by_hand_versions import Shop
from processes import Process, serving

CUSTOMERS = 8
FLAT = 16_000_000
"""Bytes by which a server may be larger at the end than after the first third: allocators are not exact."""


def resident(pid: int) -> int:
    """Bytes in memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def customers(server: Process, until: float, failures: list[str], answered: list[int]) -> list[threading.Thread]:
    """Each asks again and again, and says something of every third answer."""

    def customer(name: int) -> None:
        with httpx.Client(timeout=120, base_url=server.url) as client:
            for number in count():
                if time.monotonic() > until:
                    answered.append(number)
                    return
                question = {"question": f"{name} {number} {'x' * (number % 500)}", "user": f"{name}-{number}"}
                told = client.post("/predict", json=question)
                if number % 3 == 0 and told.status_code == 200:
                    said = {"request_id": told.json()["request_id"], "value": number % 2}
                    told = client.post("/feedback", json=said)
                if told.status_code != 200:
                    failures.append(f"{told.status_code} {told.text}")

    made = [threading.Thread(target=customer, args=(name,)) for name in range(CUSTOMERS)]
    for one in made:
        one.start()
    return made


@pytest.mark.slow
@pytest.mark.timeout(0)  # as long as it is told; what it waits for has time-outs of its own
def test_memory_is_flat(shop: Shop, request: pytest.FixtureRequest) -> None:
    seconds = float(request.config.getoption("--soak-seconds"))
    shop.publish("champion")
    shop.publish("challenger")
    shop.publish()
    options = ("--challenger", "30%", "--trace", "5%", "--refresh", "1", "--remember", "2000")
    with serving(shop, *options, latency=0.02) as server:
        failures, answered = list[str](), list[int]()
        began = time.monotonic()
        made = customers(server, began + seconds, failures, answered)
        sizes: list[tuple[float, int]] = []
        while (now := time.monotonic() - began) < seconds:
            sizes.append((now, resident(server.child.pid)))
            if int(now) % 7 == 3:  # the champion changes to and fro
                shop.point("champion", "3" if int(now) % 14 == 3 else "1")
            time.sleep(1)
        for one in made:
            one.join()
        early = max(size for at, size in sizes if at < seconds / 3)
        late = max(size for at, size in sizes if at > seconds * 2 / 3)
        course = ", ".join(f"{size / 1e6:.0f}" for _, size in sizes[:: max(1, len(sizes) // 20)])
        print(f"{sum(answered)} requests in {seconds:g} s; {early / 1e6:.0f} MB, then {late / 1e6:.0f} MB ({course})")
        assert failures == []
        assert sum(answered) > 100
        assert late - early < FLAT
        assert server.end() == 0
        assert not any(line["level"] == "error" for line in server.lines())
