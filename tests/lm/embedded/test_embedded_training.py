"""Real training on the CPU: it changes answers, is done once, and ends every job, also one that fails."""

import json
import subprocess
import sys
from typing import Literal

import dspy
import pytest

from cascade.errors import DefinitionError, ModelError
from cascade.lm.embedded import EmbeddedEngine, EmbeddedProvider, FormatForcingAdapter, embedded_lm
from cascade.lm.embedded.gguf_file import GgufModel
from cascade.lm.embedded.provider import recipe_hash
from cascade.lm.embedded.training import Row, TrainingOptions, _batches, _encode, _labels, _shared, _Trainer, finetune


class Mood(dspy.Signature):
    """Label the text."""

    text: str = dspy.InputField()
    label: Literal["qux", "zap"] = dspy.OutputField()


TEXTS = [("I am glad", "qux"), ("I am sad", "zap"), ("What a joy", "qux"), ("How awful", "zap")] * 2
ROWS = [FormatForcingAdapter().format_finetune_data(Mood, [], {"text": t}, {"label": label}) for t, label in TEXTS]
QUICK = {"epochs": 1, "layers": 4, "batch_size": 4, "learning_rate": 1e-3}

ASK = """
import json, sys
from pathlib import Path
import dspy
sys.path.insert(0, {folder!r})
from test_embedded_training import labels
from cascade.lm.embedded import EmbeddedEngine, Models, embedded_lm
print(json.dumps(labels(embedded_lm({name!r}, EmbeddedEngine(Models(Path({home!r}))), cache=False))))
"""


def labels(lm):
    with dspy.context(lm=lm, adapter=FormatForcingAdapter()):
        return [dspy.Predict(Mood)(text=text).label for text, _label in TEXTS[:4]] + lm("Say hi", max_tokens=8)


@pytest.mark.parametrize(
    "kwargs", [{"epoch": 1}, {"epochs": 0}, {"epochs": 1.5}, {"batch_size": True}, {"learning_rate": "a"}]
)
def test_bad_options_are_named(kwargs):
    with pytest.raises(DefinitionError, match=next(iter(kwargs))):
        TrainingOptions.parse(kwargs)


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(
        DefinitionError, match=r"'lr'. Known: epochs, learning_rate, batch_size, layers, max_length, seed"
    ):
        TrainingOptions.parse({"lr": 1})


def test_recipes_depend_on_weights_rows_order_and_options():
    options = TrainingOptions()
    hashes = {
        recipe_hash("a", ROWS, options),
        recipe_hash("b", ROWS, options),
        recipe_hash("a", ROWS[::-1], options),
        recipe_hash("a", ROWS, TrainingOptions(seed=1)),
    }
    assert len(hashes) == 4


def test_batches_hold_every_row_once_and_labels_follow_the_context():
    import random

    pytest.importorskip("torch")
    rows = [Row(list(range(1, n + 2)), 1) for n in range(1, 20)]
    batches = _batches(rows, 4, random.Random(0))
    assert sorted(len(row.ids) for batch in batches for row in batch) == [len(row.ids) for row in rows]
    targets, first = _labels([Row([5, 6, 7], 2), Row([8, 9], 1)])
    assert targets.tolist() == [[-100, -100, 7], [-100, 9, -100]]
    assert first == 1


@pytest.mark.embedded
@pytest.mark.slow
def test_the_loss_over_layers_computed_apart_is_that_of_the_whole_model(engine):
    import torch

    source = GgufModel(engine.models.path("smollm2-135m"))
    rows = _encode(source, ROWS[:3], 1024)
    prefix, after = _shared(rows)
    assert len(prefix) > 100
    losses = []
    for row in rows:
        ids = torch.tensor([row.ids])
        logits = source.load()(input_ids=ids).logits[0, row.context - 1 : -1]
        losses.append(torch.nn.functional.cross_entropy(logits, ids[0, row.context :], reduction="sum"))
    whole = float(sum(losses).detach()) / sum(len(row.ids) - row.context for row in rows)
    for start, given in ((prefix, after), ([], rows)):
        trainer = _Trainer(source.load(), start, TrainingOptions(layers=4), steps=1)
        assert trainer.step(trainer.read(given), 0) == pytest.approx(whole, rel=0.02)


def test_what_all_rows_begin_with_is_taken_out_but_for_a_token_of_context():
    pytest.importorskip("torch")
    prefix, rows = _shared([Row([1, 2, 3, 4, 9], 4), Row([1, 2, 3, 5, 6, 9], 5)])
    assert (prefix, rows) == ([1, 2, 3], [Row([4, 9], 1), Row([5, 6, 9], 2)])
    assert _shared([Row([1, 2, 3], 2)] * 2) == ([1], [Row([2, 3], 1)] * 2)
    assert _shared([Row([1, 2], 1), Row([3, 2], 1)]) == ([], [Row([1, 2], 1), Row([3, 2], 1)])


def job_result(lm, rows, options):
    job = lm.finetune(train_data=rows, train_data_format="chat", train_kwargs=options)
    result = job.result(timeout=120)
    job.thread.join(timeout=10)
    return job, result


FAILING = [
    ([], {}, ModelError, "No rows to train embedded/smollm2-135m on"),
    (ROWS, {"lr": 1}, DefinitionError, "Unknown training option 'lr'"),
    (
        [{"messages": [{"role": "user", "content": "x"}]}],
        QUICK,
        ModelError,
        "Row 1 does not end with an assistant's answer",
    ),
]


@pytest.mark.embedded
@pytest.mark.parametrize(("rows", "options", "kind", "message"), FAILING)
def test_a_failing_job_ends_with_its_error(scratch_models, rows, options, kind, message):
    lm = embedded_lm("smollm2-135m", EmbeddedEngine(scratch_models))
    job, result = job_result(lm, rows, options)
    assert isinstance(result, kind)
    assert message in str(result)
    assert job.status() == "failed"


@pytest.mark.embedded
def test_a_base_exception_ends_the_job_too(scratch_models):
    def order():
        raise KeyboardInterrupt("now")

    engine = EmbeddedEngine(scratch_models)
    lm = embedded_lm("smollm2-135m", engine, EmbeddedProvider(engine, should_stop=order))
    _job, result = job_result(lm, ROWS, QUICK)
    assert isinstance(result, ModelError)
    assert "KeyboardInterrupt: now" in str(result)


@pytest.mark.embedded
def test_training_stops_when_asked(models):
    steps = []
    with pytest.raises(ModelError, match="training stopped after 1 of 2 steps"):
        finetune(
            models.path("smollm2-135m"),
            ROWS,
            TrainingOptions.parse(QUICK),
            on_step=lambda *step: steps.append(step),
            should_stop=lambda: bool(steps),
        )
    assert [step[:2] for step in steps] == [(1, 2)]


@pytest.mark.embedded
def test_training_changes_answers_is_done_once_and_stacks(scratch_models):
    steps = []
    engine = EmbeddedEngine(scratch_models)
    provider = EmbeddedProvider(engine, on_step=lambda *step: steps.append(step))
    lm = embedded_lm("smollm2-135m", engine, provider, cache=False)
    before = labels(lm)

    job, trained = job_result(lm, ROWS, QUICK)
    assert job.status() == "succeeded"
    assert trained.model.startswith("embedded/smollm2-135m-")
    assert engine.identity(trained.model) != engine.identity(lm.model)
    assert labels(trained) != before
    assert labels(lm) == before

    count = len(steps)
    _job, again = job_result(lm, ROWS, QUICK)
    assert again.model == trained.model
    assert len(steps) == count

    script = ASK.format(folder=str(__file__).rpartition("/")[0], name=trained.model, home=str(scratch_models.home))
    fresh = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(fresh.stdout.splitlines()[-1]) == labels(trained)

    stacked = job_result(trained, ROWS, QUICK)[1]
    assert stacked.model not in (trained.model, lm.model)
    assert stacked.model.count("-") == trained.model.count("-")
    engine.close()


@pytest.mark.slow
@pytest.mark.embedded
def test_trained_anew_the_same_rows_give_the_same_weights(scratch_models):
    steps = []
    engine = EmbeddedEngine(scratch_models)
    lm = embedded_lm("smollm2-135m", engine, EmbeddedProvider(engine, on_step=lambda *step: steps.append(step)))
    first = job_result(lm, ROWS, QUICK)[1].model
    count = len(steps)
    scratch_models.remove(first)
    assert job_result(lm, ROWS, QUICK)[1].model == first
    assert len(steps) == 2 * count
    engine.close()


@pytest.mark.slow
@pytest.mark.embedded
def test_a_stopped_training_of_the_real_model_goes_on_to_the_same_weights(scratch_models):
    steps = []
    engine = EmbeddedEngine(scratch_models)
    provider = EmbeddedProvider(engine, on_step=lambda step, *_: steps.append(step))
    lm = embedded_lm("smollm2-135m", engine, provider)
    options = {"epochs": 2, "layers": 10, "batch_size": 2, "learning_rate": 1e-3}
    provider.should_stop = lambda: len(steps) == 3
    _job, stopped = job_result(lm, ROWS, options)
    assert "training stopped after 3 of 8 steps, as asked; what was learned is kept" in str(stopped)
    (kept,) = (scratch_models.folder / ".checkpoints").glob("*.safetensors")
    assert 400 < kept.stat().st_size / 1e6 < 450

    provider.should_stop = lambda: False
    _job, trained = job_result(lm, ROWS, options)
    assert steps == list(range(1, 9))
    assert list((scratch_models.folder / ".checkpoints").iterdir()) == []
    scratch_models.remove(trained.model)
    assert job_result(lm, ROWS, options)[1].model == trained.model
    assert len(steps) == 16
    engine.close()
