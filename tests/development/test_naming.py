"""What of an experiment's file is a program."""

import inspect

from cascade.development.naming import factories, rival
from cascade.discover import discover
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

FILE = """
from __future__ import annotations

import dspy
from cascade import Dataset, Experiment, metric


class Asks(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


Again = Asks


class Step(Asks):
    def __init__(self, name):
        super().__init__()


class _Inner(Asks):
    pass


def other(temperature=0.0) -> dspy.Module:
    return Asks()


def step(name) -> dspy.Module:
    return Asks()


def unsaid():
    return Asks()


def elsewhere(x) -> Nowhere:
    return x


@metric
def right(example, prediction):
    return True


experiment = Experiment(dataset=Dataset("x"), metric=right, program=%s, stages=[])
"""


def test_programs_are_classes_and_functions_that_need_nothing_once_each(tmp_path):
    (tmp_path / "experiments").mkdir()
    for program, found in (("Asks", ["Asks", "other"]), ("unsaid", ["Asks", "other", "unsaid"])):
        (tmp_path / "experiments/x.py").write_text(FILE % program)
        assert factories(discover("x", tmp_path)) == found


def test_files_of_one_name_are_two_files(tmp_path):
    for place in ("experiments", "one", "two", "datasets/x"):
        (tmp_path / place).mkdir(parents=True)
    for place in ("experiments", "one", "two"):
        (tmp_path / place / "x.py").write_text(FILE % "Asks")
    (tmp_path / "datasets/x/dataset.toml").write_text('inputs = ["question"]')
    for split in ("train", "dev", "test"):
        rows = [f'{{"question": "{split} {i}", "answer": "{i}"}}\n' for i in range(20)]
        (tmp_path / f"datasets/x/{split}.jsonl").write_text("".join(rows))
    settings = Settings(project=tmp_path, home=tmp_path / ".cascade", tracking_uri="", threads=2)
    lms = ScriptedLMs(settings, ScriptedEngine(lambda *_: {}))
    experiment = discover("x", tmp_path)
    rivals = [rival(f"{place}/x.py:Asks", experiment, settings, lms) for place in ("one", "two")]
    files = [inspect.getfile(one.prepared.experiment.program) for one in rivals]
    assert files == [str(tmp_path / "one/x.py"), str(tmp_path / "two/x.py")]
