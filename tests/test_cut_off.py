"""Answers that `max_tokens` cut off are counted and told of once a split; the terminal is not filled with them."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import dspy
import scripted

from cascade.experiment import Stage
from cascade.progress import Silent
from cascade.testing import ScriptedEngine


class Short(ScriptedEngine):
    """Is cut off on every third question."""

    def complete(self, request: Any) -> Any:
        reason = "length" if request.messages[-1].text.split("\n")[1].endswith(("0", "3", "6", "9")) else "stop"
        return dataclasses.replace(super().complete(request), finish_reason=reason)


class Hears(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, sentence: str) -> None:
        self.said.append(sentence)


def test_they_are_counted_whoever_answers_and_told_of_once_a_split(tmp_path: Path) -> None:
    engine, logged = Short(scripted.answer), list[str]()
    handler, logger = logging.Handler(), logging.getLogger("dspy")
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        for paid in (True, False):
            before, hears = len(engine.requests), Hears()
            scripted.run(scripted.experiment(Stage("demos", dspy.LabeledFewShot)), tmp_path, engine, progress=hears)
            cut = [sentence for sentence in hears.said if "cut off" in sentence]
            assert [sentence.partition(":")[0] for sentence in cut] == [
                "0-baseline", "1-demos", "test of the baseline", "test of 1-demos",
            ]  # fmt: skip
            assert "answers were cut off at max_tokens on 'dev'. Raise it in the program or in settings" in cut[0]
            assert (len(engine.requests) > before) is paid
    finally:
        logger.removeHandler(handler)
    assert [line for line in logged if "truncated" in line] == []
    assert not logging.getLogger("dspy.clients.lm").filters
