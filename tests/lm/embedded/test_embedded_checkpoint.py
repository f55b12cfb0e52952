"""A training that was killed or stopped goes on from its checkpoint and ends with the very same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_llama

from cascade.errors import ModelError
from cascade.lm.embedded.checkpoint import Checkpoint
from cascade.lm.embedded.training import TrainingOptions, finetune

OPTIONS = TrainingOptions(epochs=3, batch_size=4, layers=2, learning_rate=1e-3)
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"question number {n} " + "x" * (n % 5)},
            {"role": "assistant", "content": f"answer {n % 3}"},
        ]
    }
    for n in range(10)
]
STEPS = 9


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    pytest.importorskip("torch")
    return tiny_llama.write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def whole(gguf):
    return finetune(gguf, ROWS, OPTIONS)


class Training:
    """Attempts at one training, and the steps that each of them made."""

    def __init__(self, gguf, folder):
        self.gguf, self.folder = gguf, folder
        self.steps = []

    def attempt(self, stop_after=10**6, every=10**6, recipe="r", kill_at=0):
        # On this clock writing takes no time, so that `every=0` is every step.
        self.steps, checkpoint = [], Checkpoint(self.folder, recipe, every=every, clock=lambda: 0.0)

        def on_step(step, _steps, _loss):
            self.steps.append(step)
            if step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        trained = finetune(
            self.gguf, ROWS, OPTIONS,
            on_step=on_step, should_stop=lambda: len(self.steps) >= stop_after, checkpoint=checkpoint,
        )  # fmt: skip
        return trained, checkpoint


def same(one, other):
    return list(one) == list(other) and all(bool((one[name] == other[name]).all()) for name in one)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 8])
def test_a_stopped_training_goes_on_and_ends_with_the_same_weights(gguf, whole, tmp_path, stop_after):
    training = Training(gguf, tmp_path)
    with pytest.raises(ModelError, match=rf"stopped after {stop_after} of 9 steps, as asked; what was learned is kept"):
        training.attempt(stop_after)
    trained, checkpoint = training.attempt()
    assert training.steps == list(range(stop_after + 1, STEPS + 1))
    assert same(trained, whole)
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []


def test_stopped_at_every_step_it_makes_each_step_once(gguf, whole, tmp_path):
    training, made = Training(gguf, tmp_path), []
    for _ in range(STEPS - 1):
        with pytest.raises(ModelError):
            training.attempt(stop_after=1)
        made += training.steps
        assert len(list(tmp_path.glob("*.safetensors"))) == 1
    trained, _ = training.attempt()
    assert made + training.steps == list(range(1, STEPS + 1))
    assert same(trained, whole)


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_embedded_checkpoint import Training
Training(Path(sys.argv[2]), Path(sys.argv[3])).attempt(every=0, kill_at=6)
"""


def test_a_killed_training_goes_on_from_its_last_checkpoint(gguf, whole, tmp_path):
    command = [sys.executable, "-c", _CHILD, str(Path(__file__).parent), str(gguf), str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    training = Training(gguf, tmp_path)
    trained, _ = training.attempt()
    assert training.steps == [6, 7, 8, 9]
    assert same(trained, whole)


def truncated(folder):
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])


def turned(folder):
    file = next(folder.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def noted(**changes):
    def damage(folder):
        note = next(folder.glob("*.json"))
        note.write_text(json.dumps({**json.loads(note.read_text()), **changes}))

    return damage


def gone(folder):
    next(folder.glob("*.safetensors")).unlink()


def garbage(folder):
    next(folder.glob("*.json")).write_bytes(b"\xff\x00 no JSON")


def foreign(folder):
    """Tensors of another shape under the right name and hash."""
    import torch

    Checkpoint(folder, "r").save(4, {"0.weight": torch.zeros(3)})


DAMAGES = [
    truncated, turned, gone, garbage, foreign, noted(recipe="other"), noted(step="x"), noted(step=-1), noted(step=[]),
    noted(sha256=None),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_or_foreign_is_ignored(gguf, whole, tmp_path, damage):
    training = Training(gguf, tmp_path)
    with pytest.raises(ModelError):
        training.attempt(stop_after=3)
    damage(tmp_path)
    trained, _ = training.attempt()
    assert training.steps == list(range(1, STEPS + 1))
    assert same(trained, whole)


def test_another_recipe_has_its_own_and_old_ones_go(gguf, tmp_path):
    training = Training(gguf, tmp_path)
    for recipe in ("old", "new", "mine"):
        with pytest.raises(ModelError):
            training.attempt(stop_after=2, recipe=recipe)
    month_ago = time.time() - 30 * 24 * 3600
    os.utime(tmp_path / "old-2.safetensors", (month_ago, month_ago))
    with pytest.raises(ModelError):
        training.attempt(stop_after=1, recipe="mine")
    assert training.steps == [3]
    assert {file.name for file in tmp_path.glob("*.safetensors")} == {"new-2.safetensors", "mine-3.safetensors"}
    assert Checkpoint(tmp_path, "old").load() == (0, {})


def test_a_disk_that_takes_nothing_costs_the_checkpoint_only(gguf, whole, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder belongs")
    trained, checkpoint = Training(gguf, blocked).attempt(every=0.0)
    assert same(trained, whole)
    checkpoint.remove()


def test_it_is_written_when_it_is_due_and_not_more_often_than_is_cheap(tmp_path):
    torch = pytest.importorskip("torch")
    now = [0.0]

    def clock():
        now[0] += 0.5
        return now[0]

    checkpoint = Checkpoint(tmp_path, "r", every=10.0, clock=clock)
    assert not checkpoint.due
    now[0] = 10.5
    assert checkpoint.due
    checkpoint.save(1, {"0.weight": torch.zeros(3)})
    now[0] += 15.0  # writing took 0.5 s: the next is due after 20 s, when writing is 2.5 % of the time
    assert not checkpoint.due
    now[0] += 5.0
    assert checkpoint.due
