"""Killed between any two effects: whoever looks next finishes what the log says, and log and MLflow agree."""

from itertools import count
from typing import Any

import pytest
from by_hand_versions import Shop

from cascade.mlflow_store.promotions import KIND
from cascade.production.promoting.log import standing
from cascade.production.promoting.registrar import Registrar, registrar

EFFECTS = ("create_", "log_", "set_", "delete_")


class Killed(BaseException):
    """Nothing that a program could answer to."""


class Mortal:
    """A client of MLflow that dies instead of changing something for the `left`-th time."""

    def __init__(self, client: Any, left: int) -> None:
        self.client, self.left = client, left

    def __getattr__(self, name: str) -> Any:
        if name.startswith(EFFECTS):
            self.left -= 1
            if not self.left:
                raise Killed
        return getattr(self.client, name)


def killed(shop: Shop, act: Any, effect: int) -> bool:
    """Whether it died before so many effects on MLflow."""
    try:
        with registrar(shop.settings, "qa") as desk:
            desk.client = desk.versions.client = Mortal(desk.client, effect)
            act(desk)
    except Killed:
        return True
    return False


def promote(desk: Registrar) -> None:
    desk.take_into_service(desk.versions.numbered("3"), "it is better")


def agreed(shop: Shop) -> str:
    """The champion, once the next one has looked, and everything that says so says the same."""
    with registrar(shop.settings, "qa") as desk:
        entries, aliases = desk.log.entries(), desk.versions.aliases()
        now, client = standing(entries), desk.client
    assert (aliases.get("champion", ""), aliases.get("previous", "")) == (now.champion, now.previous)
    assert {one.number for one in shop.versions.all() if one.rejected} == now.rejected
    assert aliases.get("challenger") not in {now.champion, *now.rejected}
    assert "adopted" not in {entry.event for entry in entries}
    place = client.get_experiment_by_name("qa").experiment_id
    runs = client.search_runs([place], f"tags.`cascade.kind` = '{KIND}'", max_results=10_000)
    sent = [run.data.tags["cascade.promotion"] for run in runs if "cascade.promotion" in run.data.tags]
    assert sorted(sent) == sorted(entry.id for entry in entries)
    return now.champion


@pytest.mark.slow
@pytest.mark.parametrize(("act", "before", "after"), [(promote, "2", "3"), (Registrar.roll_back, "3", "2")])
def test_killed_between_any_two_effects(shop: Shop, act: Any, before: str, after: str) -> None:
    for number in (shop.publish(), shop.publish(), shop.publish()):
        with registrar(shop.settings, "qa") as desk:
            desk.take_into_service(desk.versions.numbered(number), "it is better")
    for effect in count(1):
        with registrar(shop.settings, "qa") as desk:
            if desk.standing.champion != before:
                promote(desk) if before == "3" else desk.roll_back()
        died = killed(shop, act, effect)
        assert agreed(shop) == after  # the log was written first
        if not died:
            break
    assert effect > 8
