"""The champion inside somebody's service: follows its alias, fails no call, touches nothing global."""

import asyncio
import gc
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dspy
import mlflow
import mlflow_journals
import pytest
from by_hand_versions import Shop, eventually

import cascade
from cascade.errors import Refused, TrackingError
from cascade.production.champion import Champion, load_champion
from cascade.production.live import Live
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

AWAITED = mlflow_journals.FACTORY.replace(
    "    def forward", "    async def aforward(self, question):\n        return await self.answer.acall(question=question)\n\n    def forward"
)  # fmt: skip


def loaded(shop: Shop, **options: Any) -> Champion:
    return load_champion("qa", **{"settings": shop.settings, "lms": shop.lms, "refresh": 0, **options})


def said(champion: Any) -> str:
    return str(champion(question="hi").answer)


def test_two_lines(shop: Shop) -> None:
    shop.publish("champion")
    answer = cascade.load_champion("qa", settings=shop.settings, lms=shop.lms)
    assert answer(question="hi").answer == "hi, says 1"
    assert answer.version == "1"


def globals_of() -> dict[str, Any]:
    """What DSPy and MLflow keep for the whole process, and what they read of the environment."""
    return {
        "dspy": dict(dspy.settings.copy()),
        "cache": dspy.cache,
        "uri": mlflow.get_tracking_uri(),
        "registry": mlflow.get_registry_uri(),
        "run": mlflow.active_run(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(("MLFLOW", "DSPY"))},
        "level": logging.getLogger("mlflow").level,
    }


def test_nothing_global_is_touched(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.publish("champion")
    shop.publish()
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    mine = dspy.LM("openai/mine")
    with dspy.context(lm=mine):
        before = globals_of()
        champion = loaded(shop)
        assert said(champion) == "hi, says 1"
        shop_point = threading.Thread(target=shop.point, args=("champion", "2"))
        shop_point.start()
        shop_point.join()
        for name in os.environ:
            if name.startswith("MLFLOW") and name not in before["environment"]:
                monkeypatch.delenv(name)  # set by the process that promoted, which is this one
        champion.refresh()
        assert said(champion) == "hi, says 2"
        assert globals_of() == before


def test_it_follows_its_alias_in_the_background(shop: Shop) -> None:
    shop.publish("champion")
    shop.publish()
    champion = loaded(shop, refresh=0.05)
    shop.point("champion", "2")
    eventually(lambda: champion.version == "2")
    shop.point("champion", "1")
    eventually(lambda: champion.version == "1")
    assert said(champion) == "hi, says 1"


def test_it_looks_no_more_often_than_it_was_told(shop: Shop) -> None:
    shop.publish("champion")
    shop.publish()
    champion = loaded(shop, refresh=3600)
    shop.point("champion", "2")
    assert [said(champion) for _ in range(3)] == ["hi, says 1"] * 3


def test_calls_in_flight_end_on_the_version_on_which_they_began(shop: Shop) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slowly(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
        if inputs["question"] == "slow":
            began.set()
            assert go_on.wait(20)
        return {"answer": f"says {demos}"}

    shop.engine = ScriptedEngine(slowly)
    shop.publish("champion")
    shop.publish()
    champion, answers = loaded(shop), []
    caller = threading.Thread(target=lambda: answers.append(champion(question="slow").answer))
    caller.start()
    assert began.wait(20)
    shop.point("champion", "2")
    champion.refresh()
    assert said(champion) == "says 2"
    go_on.set()
    caller.join()
    assert answers == ["says 1"]


def test_no_call_fails_while_the_alias_moves_to_and_fro(shop: Shop) -> None:
    shop.engine.latency = 0.002
    shop.publish("champion")
    shop.publish()
    champion, answers, over = loaded(shop), set[str](), threading.Event()
    failures: list[Exception] = []

    def call() -> None:
        while not over.is_set():
            try:
                answers.add(said(champion))
            except Exception as error:
                failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for number in "21212121":
        shop.point("champion", number)
        champion.refresh()
    over.set()
    for caller in callers:
        caller.join()
    assert (failures, answers) == ([], {"hi, says 1", "hi, says 2"})


@pytest.fixture
def down(shop: Shop) -> Iterator[Any]:
    """Takes the store away and brings it back."""
    file, kept = shop.folder / "mlflow.db", shop.folder / "kept.db"

    def take(away: bool) -> None:
        if away:
            file.rename(kept)
            file.write_text("this is no database, and long enough to be seen as such" * 20)
        else:
            kept.replace(file)

    return take


def test_a_store_that_is_down_keeps_what_is_loaded_and_warns_once(shop: Shop, down: Any, caplog: Any) -> None:
    shop.publish("champion")
    shop.publish()
    champion = loaded(shop)
    shop.point("champion", "2")
    for _ in range(2):
        caplog.clear()
        down(True)
        for _ in range(3):
            champion.refresh()
            assert said(champion) == "hi, says 1"
        (warning,) = caplog.records
        assert warning.name == "cascade" and warning.levelname == "WARNING"
        assert "could not be asked which version serves" in warning.message
        assert warning.message.endswith("What is loaded goes on serving.")
        down(False)
        shop.point("champion", "1")
        champion.refresh()
    shop.point("champion", "2")
    champion.refresh()
    assert said(champion) == "hi, says 2"


def test_a_version_that_cannot_be_loaded_does_not_take_over(shop: Shop, caplog: Any) -> None:
    shop.publish("champion")
    shop.publish()
    champion = loaded(shop)
    (state,) = [path for path in (shop.folder / "mlruns").rglob("state.json") if "Answer as 2." in path.read_text()]
    whole = state.read_text()
    state.write_text("[]")
    shop.point("champion", "2")
    for _ in range(3):
        champion.refresh()
    assert said(champion) == "hi, says 1"
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "state.json is damaged" in warning.message
    state.write_text(whole)
    for folder in (shop.settings.home / "programs").iterdir():
        if (folder / "state.json").read_text() == "[]":
            (folder / "state.json").write_text(whole)
    champion.refresh()
    assert said(champion) == "hi, says 2"


def test_an_alias_that_is_gone_keeps_what_is_loaded(shop: Shop, caplog: Any) -> None:
    shop.publish("champion")
    champion = loaded(shop)
    shop.point("champion", "")
    champion.refresh()
    assert said(champion) == "hi, says 1"
    assert "Nothing serves for 'qa'" in caplog.text


def test_nothing_serves(shop: Shop) -> None:
    with pytest.raises(Refused, match="Promote one with `cascade promote qa`"):
        loaded(shop)
    shop.publish()
    with pytest.raises(Refused, match="no version of 'qa' has the alias 'champion'"):
        loaded(shop)


def test_a_process_that_starts_while_the_store_is_down(shop: Shop, down: Any, caplog: Any) -> None:
    shop.publish("champion")
    down(True)
    with pytest.raises(TrackingError, match="could not be asked which version serves"):
        loaded(shop)
    down(False)
    loaded(shop)
    down(True)
    champion = loaded(shop)
    assert (said(champion), champion.version) == ("hi, says 1", "1")
    assert "What this machine served last is loaded." in caplog.text


class Weights:
    """An embedded engine that only counts what is in memory."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.most = 0
        self.in_memory = 2

    def launch(self, model: str) -> None:
        self.loaded.add(model)
        self.most = max(self.most, len(self.loaded))

    def kill(self, model: str) -> None:
        self.loaded.discard(model)


class Weighed(ScriptedLMs):
    """LMs of the script that are said to share an engine."""

    def __init__(self, settings: Settings, script: ScriptedEngine, engine: Weights) -> None:
        super().__init__(settings, script)
        self.engine = engine


def trained(shop: Shop, text: str) -> tuple[str, Path]:
    """Weights that a stage might have trained."""
    name = f"tiny-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    file = shop.folder / f"{name}.gguf"
    file.write_text(text)
    store = shop.settings.home / "models"
    store.mkdir(parents=True, exist_ok=True)
    (store / "tiny.gguf").write_bytes(b"base")
    facts = {
        "sha256": hashlib.sha256(b"base").hexdigest(),
        "quantisation": "Q8_0",
        "chat_template": "x",
        "licence": "y",
    }
    (store / "tiny.json").write_text(json.dumps(facts))
    return f"embedded/{name}", file


def test_versions_share_an_engine_and_free_what_is_no_longer_used(shop: Shop) -> None:
    names = []
    for text in ("one", "two", "three"):
        name, file = trained(shop, text)
        shop.publish(own={"answer": name}, weights=lambda model, file=file: file)
        names.append(name)
    for alias, number in (("champion", "1"), ("challenger", "2")):
        shop.point(alias, number)
    engine = Weights()
    target = shop.target("champion", "challenger", lms=lambda settings: Weighed(settings, shop.engine, engine))
    live = Live(target, pytest.fail, lambda said: None, 0).start()
    assert (engine.loaded, engine.in_memory) == (set(names[:2]), 2)
    shop.point("champion", "3")
    with live.taken() as (_, old):
        live.look()
        assert (engine.loaded, engine.in_memory) == (set(names), 3)  # version 1 is still in use
        assert old.number == "1"
    assert engine.loaded == set(names[1:])
    shop.point("challenger", "")
    live.look()
    assert engine.loaded == {names[2]}
    live.close()
    assert engine.loaded == set()


def test_a_challenger_that_is_promoted_is_not_loaded_again(shop: Shop) -> None:
    shop.publish("champion")
    shop.publish("challenger")
    live = Live(shop.target("champion", "challenger"), pytest.fail, lambda said: None, 0).start()
    challenger = live.now["challenger"]
    shop.point("champion", "2")
    shop.point("challenger", "")
    live.look()
    assert dict(live.now) == {"champion": challenger}


@pytest.mark.parametrize("factory", [mlflow_journals.FACTORY, AWAITED], ids=["forward", "aforward"])
def test_it_can_be_awaited(shop: Shop, factory: str) -> None:
    file = shop.folder / "experiments" / "qa.py"
    file.parent.mkdir()
    file.write_text(factory)
    shop.publish("champion")
    champion = loaded(shop)

    async def three() -> list[str]:
        return [one.answer for one in await asyncio.gather(*(champion.acall(question=q) for q in "abc"))]

    assert asyncio.run(three()) == ["a, says 1", "b, says 1", "c, says 1"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from Python 3.12 on: there are threads
def test_a_process_that_was_forked_looks_for_itself(shop: Shop) -> None:
    shop.publish("champion")
    shop.publish()
    champion = loaded(shop, refresh=0.05)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            first = said(champion)
            eventually(lambda: champion.version == "2")
            code = 0 if first in ("hi, says 1", "hi, says 2") else 2
        finally:
            os._exit(code)
    shop.point("champion", "2")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nobody_looks_once_nobody_has_it(shop: Shop) -> None:
    shop.publish("champion")
    before = {*threading.enumerate()}
    champion = loaded(shop, refresh=3600)
    (watcher,) = (thread for thread in {*threading.enumerate()} - before if thread.name == "cascade-live")
    del champion
    gc.collect()
    eventually(lambda: not watcher.is_alive())
