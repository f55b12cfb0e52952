"""A scripted model that says what the rows of a dataset say, and changes of it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy

from cascade.dataset import Dataset, Split, load
from cascade.discover import discover
from cascade.experiment import Experiment
from cascade.optimizers.labels import labelled
from cascade.testing import AsyncScriptedEngine, ScriptedEngine

PROJECT = Path(__file__).parents[2]
Said = Callable[[Mapping[str, str]], Mapping[str, str]]


def defined(name: str) -> tuple[Experiment, tuple[Split, Split, Split]]:
    train, dev, test = load(Dataset(name), PROJECT)
    return discover(name, PROJECT), (train, dev, test)


@contextmanager
def saying(said: Said) -> Iterator[ScriptedEngine]:
    """Answers by a function of the inputs."""
    engine = ScriptedEngine(lambda _model, inputs, _demos: said(inputs))
    lm = dspy.LM("scripted/base", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        yield engine


def told_by_labels(program: Any, split: Split) -> list[Any]:
    """What a program returns for each row if every predictor says the row's labels; None where it fails."""
    found = []
    for example in split.examples():
        trace = labelled(program, [example])[0]
        assert trace
        values = {name: example[name] for one in program.predictors() for name in one.signature.output_fields}
        with saying(lambda _, values=values: {name: _text(value) for name, value in values.items()}):
            found.append(program(**example.inputs()))
    return found


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
