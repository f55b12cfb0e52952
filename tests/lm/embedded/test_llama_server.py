"""A cascade on llama.cpp's own HTTP server, with the embedded model's weights: what a user of such a server has."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
import scripted

from cascade.check import prepare
from cascade.dataset import Dataset
from cascade.experiment import Stage
from cascade.runner import execute
from cascade.settings import load_settings

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

KEY = "sk-loopback-0123456789"
PYPROJECT = """
[tool.cascade]
threads = 2

[tool.cascade.lm.default]
model = "openai/smollm2"
api_base = "{url}/v1"
temperature = 0.0
max_tokens = 40
grammar = '''root ::= "[[ ## animal ## ]]\\n" ("cat" | "dog") "\\n\\n[[ ## completed ## ]]"'''
"""
SAID = ["a cat purrs", "the dog barks", "my cat hunts mice", "a dog digs", "the cat licks", "our dog fetches"]


class Animal(dspy.Signature):
    """Name the animal."""

    text: str = dspy.InputField()
    animal: Literal["cat", "dog"] = dspy.OutputField()


class NameAnimal(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.name = dspy.Predict(Animal)

    def forward(self, text: str) -> Any:
        return self.name(text=text)


def same(example: Any, prediction: Any) -> bool:
    return bool(prediction.animal == example.animal)


def rows(split: str) -> list[dict[str, str]]:
    said = [f"{text} in the {split} {n}" for n in range(4) for text in SAID]
    return [{"text": text, "animal": text.split()[1]} for text in said]


@pytest.fixture
def server(models: Any) -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("llama_server.py")), str(models.path("smollm2-135m"))]
    environ = {**os.environ, "LLAMA_KEY": KEY}
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            assert process.stdin
            process.stdin.close()


def test_a_cascade_on_a_llama_cpp_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.format(url=server))
    data = Dataset("animals", inputs=("text",), **{split: rows(split) for split in ("train", "dev", "test")})
    stages = (Stage("demos", dspy.LabeledFewShot, k=4),)
    defined = scripted.experiment(*stages, dataset=data, metric=same, program=NameAnimal, name="animals")
    result = execute(prepare(defined, load_settings(tmp_path)))
    assert [stage.status for stage in result.stages] == ["done", "done"]
    assert [stage.dev.failures for stage in result.stages] == [0, 0]  # the server keeps to the grammar
    assert result.spent.lm_calls == 2 * 24 + 24 * (2 if result.best.name == "1-demos" else 1)
    assert result.spent.input_tokens > 1000 and result.test is not None
