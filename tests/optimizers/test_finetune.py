"""Fine-tuning on what was answered, parsed and judged good enough."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.errors import StageFailed
from cascade.experiment import Budget
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.metrics import for_optimizer
from cascade.optimizers import BootstrapFinetune
from cascade.testing import ScriptedEngine, ScriptedLMs

Tuned = Callable[..., tuple[Any, list[str], ScriptedEngine]]


@pytest.fixture
def tuned(tmp_path: Path) -> Iterator[Tuned]:
    ledger = Ledger(tmp_path / "ledger.db")

    def tune(answer: Any, teacher: Callable[[ScriptedLMs], Any] = lambda lms: None, **options: Any) -> Any:
        engine = ScriptedEngine(answer)
        lms = ScriptedLMs(scripted.settings_in(tmp_path), engine)
        student = scripted.Asks()
        student.ask.lm = lms["task"]
        settings = dspy.context(lm=lms["task"], adapter=lms.adapter, num_threads=2, max_errors=1000)
        with settings, installed(Gateway(ledger, Meter(Budget()))):
            optimizer = BootstrapFinetune(metric=for_optimizer(scripted.right), **options)
            made = optimizer.compile(student, scripted.split("train", 12).examples(), teacher(lms))
        (file,) = (tmp_path / ".cascade" / "trained").iterdir()
        return made, [asked(row) for row in json.loads(file.read_text())], engine

    yield tune
    ledger.close()


def asked(row: Any) -> str:
    user = next(message["content"] for message in row["messages"] if message["role"] == "user")
    return str(user.split("[[ ## question ## ]]\n")[1].splitlines()[0])


def knows(*numbers: int, garbles: tuple[int, ...] = ()) -> Any:
    def answer(model: str, inputs: Any, demos: int) -> Any:
        number = int(inputs["question"].split()[1])
        if number in garbles:
            return "in no format"
        return {"answer": scripted.gold(inputs["question"]) if number in numbers else "wrong"}

    return answer


def test_only_good_answers_are_trained_on(tuned: Tuned) -> None:
    made, rows, _ = tuned(knows(1, 2, 7, garbles=(7, 8)))
    assert sorted(rows) == ["train 1", "train 2"]
    assert made.ask.lm.model.startswith("scripted/trained-")


def test_an_answer_is_asked_for_once(tuned: Tuned) -> None:
    _, _, engine = tuned(knows(1, 2))
    assert len(engine.requests) == 12


def test_the_teacher_s_answers_are_the_rows(tuned: Tuned) -> None:
    def answer(model: str, inputs: Any, demos: int) -> Any:
        return knows(*(range(6) if model == "scripted/big" else ()))(model, inputs, demos)

    def teacher(lms: ScriptedLMs) -> Any:
        program = scripted.Asks()
        program.ask.lm = lms.by_model("scripted/big")
        return program

    _, rows, _ = tuned(answer, teacher)
    assert sorted(rows) == [f"train {n}" for n in range(6)]


def test_labels_fill_up_what_was_not_answered_well(tuned: Tuned) -> None:
    _, rows, _ = tuned(knows(*range(4)), max_labeled_rows=3)
    assert sorted(rows) == sorted(f"train {n}" for n in range(7))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (knows(), "None of 12 training answers was good enough to learn from. Improve prompts first"),
        (knows(garbles=tuple(range(12))), "None of 12 training examples was answered in the right format"),
    ],
)
def test_with_no_row_nothing_is_trained(tuned: Tuned, tmp_path: Path, answer: Any, told: str) -> None:
    with pytest.raises(StageFailed, match=told):
        tuned(answer)
    assert not (tmp_path / ".cascade" / "trained").exists()


class Branches(dspy.Module):
    """Two routes whose answers have one name and no value in common."""

    def __init__(self) -> None:
        super().__init__()
        self.low = dspy.Predict(dspy.Signature("question -> answer: Literal['a', 'b']", "Low."))
        self.high = dspy.Predict(dspy.Signature("question -> answer: Literal['c', 'd']", "High."))

    def forward(self, question: str) -> Any:
        return (self.low if scripted.gold(question) in "ab" else self.high)(question=question)


def trained(folder: Path, program: Any, lms: ScriptedLMs, ledger: Ledger, **options: Any) -> dict[str, list[Any]]:
    """Rows of each file that was trained on, by the model that it made."""
    settings = dspy.context(lm=lms["task"], adapter=lms.adapter, num_threads=2, max_errors=1000)
    with settings, installed(Gateway(ledger, Meter(Budget()))):
        BootstrapFinetune(metric=for_optimizer(scripted.right), **options).compile(program, TRAIN.examples())
    return {file.stem: json.loads(file.read_text()) for file in (folder / ".cascade" / "trained").iterdir()}


TRAIN = scripted.split("train", 12)


def test_each_predictor_learns_from_the_labels_that_it_could_answer(tmp_path: Path) -> None:
    lms = ScriptedLMs(scripted.settings_in(tmp_path), ScriptedEngine(lambda model, inputs, demos: {"answer": "a"}))
    program = Branches()
    program.set_lm(lms["task"])
    with Ledger(tmp_path / "ledger.db") as ledger:
        (rows,) = trained(tmp_path, program, lms, ledger, max_labeled_rows=12).values()
    taught = {asked(row): row["messages"] for row in rows}
    assert sorted(taught) == sorted(example.question for example in TRAIN.examples())
    for question, messages in taught.items():
        told = scripted.gold(question)
        assert f"[[ ## answer ## ]]\n{told}" in messages[-1]["content"]
        assert ("Low." if told in "ab" else "High.") in messages[0]["content"]


def test_no_lm_is_trained_on_what_another_one_was_asked(tmp_path: Path) -> None:
    specs = scripted.specs(local="scripted/near", cloud="scripted/far")
    lms = ScriptedLMs(
        scripted.settings_in(tmp_path, lm=specs),
        ScriptedEngine(lambda model, inputs, demos: {"answer": scripted.gold(inputs["question"])}),
    )
    program = Branches()
    program.low.lm, program.high.lm = lms["local"], lms["cloud"]
    with Ledger(tmp_path / "ledger.db") as ledger:
        files = trained(tmp_path, program, lms, ledger)
    seen = {
        name.split("-")[0]: {row["messages"][0]["content"].split("objective is: ")[-1].strip() for row in rows}
        for name, rows in files.items()
    }
    assert sorted(seen.values(), key=str) == [{"High."}, {"Low."}]


def test_labels_that_no_predictor_could_give_are_refused(tmp_path: Path) -> None:
    lms = ScriptedLMs(scripted.settings_in(tmp_path), ScriptedEngine(lambda model, inputs, demos: {"other": "a"}))
    program = dspy.Predict("question -> other")
    program.lm = lms["task"]
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(StageFailed, match=r"outputs of a predictor .other"),
    ):
        trained(tmp_path, program, lms, ledger, max_labeled_rows=3)
