"""Stages that may run; `tests/cli/test_cli_check.py` has those that may not."""

import socket
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.checks.stages import stages
from cascade.experiment import Stage
from cascade.optimizers import BootstrapFinetune
from cascade.testing import ScriptedEngine


class AsksWhenMade:
    """As `dspy.KNNFewShot` asks its embedder."""

    lever = "prompt"

    def __init__(self, url: str = "") -> None:
        if url:
            socket.create_connection(("127.0.0.1", 9))
        dspy.Predict("question -> answer")(question="x")

    def compile(self, student: Any) -> Any:
        return student


RIGHT = [
    Stage("a", dspy.MIPROv2, auto="light"),
    Stage("a", dspy.GEPA, auto="light"),
    Stage("a", dspy.BetterTogether, strategy="w -> p -> w", p=Stage("p", dspy.LabeledFewShot), w=Stage("w", BootstrapFinetune)),
    Stage("a", dspy.BetterTogether),
    Stage("a", dspy.BootstrapFinetune, aim="cheaper"),
    Stage("a", AsksWhenMade),
    Stage("a", AsksWhenMade, url="http://127.0.0.1:9"),
]  # fmt: skip


@pytest.mark.parametrize("stage", RIGHT)
def test_what_can_run_passes_and_asks_nobody(tmp_path: Path, stage: Stage) -> None:
    engine = ScriptedEngine(scripted.answer)
    assert list(stages(scripted.prepared(scripted.experiment(stage), tmp_path, engine))) == []
    assert engine.requests == []


class OwnLM(scripted.Asks):
    def __init__(self) -> None:
        super().__init__()
        self.ask.lm = dspy.LM("anthropic/claude-sonnet-4-5", api_key="none")


def test_an_lm_of_the_program_itself_must_be_trainable_too(tmp_path: Path) -> None:
    defined = scripted.experiment(Stage("w", dspy.BootstrapFinetune), program=OwnLM)
    (found,) = stages(scripted.prepared(defined, tmp_path, ScriptedEngine(scripted.answer)))
    assert (found.severity, found.place) == ("error", "Stage 'w'")
    assert "fine-tunes the LM 'ask', but 'anthropic/claude-sonnet-4-5' cannot be trained" in found.sentence
