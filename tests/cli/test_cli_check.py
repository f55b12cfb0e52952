"""`cascade check NAME`: faults planted in data, metric and definition are found, and nothing is spent."""

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cascade.testing import ScriptedLMs

LETTERS = "experiments/letters.py"
ASKS = 'dspy.Predict("question -> answer")'
EQUAL = "return example.answer == prediction.answer"
STAGE = 'Stage("demos", dspy.LabeledFewShot, k=4)'
INVOICE = "how do I get my invoice for the month of March, please"
DIGITS = ", ".join(repr(str(digit)) for digit in range(10))


class Untrainable(ScriptedLMs):
    """Scripted LMs whose provider trains none."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._trainer.finetunable = False


@dataclass(frozen=True)
class Fault:
    """A change of a project that is right, and what must be said of it.

    Args:
        told: parts of the one line that tells of it.
        code: replacements in the experiment's file.
        rows: by split and row number, what takes the place of a row, or of its fields; None takes rows away from there.
        files: replaced whole.
        besides: other findings of that kind that the fault causes.
        warnings: of an error, the warnings that it causes.
    """

    severity: str
    told: tuple[str, ...]
    code: dict[str, str] = field(default_factory=dict)
    rows: dict[tuple[str, int], dict[str, Any] | None] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    lms: Any = ScriptedLMs
    besides: int = 0
    warnings: int = 0


FAULTS = {
    # data
    "overlap": Fault(
        "error",
        ("the inputs of 'dev-0004' in 'dev' stand in 'train' too ('train-0013')", "Remove one"),
        rows={("dev", 3): {"question": "train 1 2"}},
    ),
    "overlaps": Fault(
        "error",
        ("'dev-0004' in 'dev' stand in 'train' too", "so do those of 2 more: 'dev-0005', 'test-0001'"),
        rows={
            ("dev", 3): {"question": "train 1 2"}, ("dev", 4): {"question": "train 1 3"},
            ("test", 0): {"question": "dev 1 1"},
        },
    ),
    "overlap but for case and punctuation": Fault(
        "warning",
        (
            "split 'test': 1 of 30 rows is in 'train' too, but for case, punctuation and spaces",
            "'test-0001' 'Train, 1  2!' = 'train-0013' 'train 1 2'", "Remove one",
        ),
        rows={("test", 0): {"question": "Train, 1  2!"}},
    ),
    "near-duplicate": Fault(
        "warning",
        (
            "split 'dev': 1 of 30 rows is nearly in 'train'",
            f"'dev-0001' '{INVOICE.replace('March', 'Marchh')}' ≈ 'train-0001' '{INVOICE}' (91%)", "Remove one",
        ),
        rows={("train", 0): {"question": INVOICE}, ("dev", 0): {"question": INVOICE.replace("March", "Marchh")}},
    ),
    "group in two splits": Fault(
        "error",
        ("group 'dev-0' stands in 'dev' and 'test'", "Keep a group in one split."),
        rows={
            **{(split, n): {"who": f"{split}-{n}"} for split in ("train", "dev", "test") for n in range(30)},
            ("test", 0): {"who": "dev-0"},
        },
        files={"datasets/letters/dataset.toml": 'inputs = ["question"]\ngroup = "who"\n'},
    ),
    "missing field": Fault(
        "error",
        ("split 'test': row 'test-0008' has no field 'answer'", "Found: question"),
        rows={("test", 7): {"answer": ...}},
    ),
    "empty split": Fault("error", ("datasets/letters/test.jsonl has no rows",), rows={("test", 0): None}),
    "tiny dev": Fault("error", ("split 'dev' has 19 examples", "at least 20"), rows={("dev", 19): None}),
    "tiny train": Fault("warning", ("split 'train': 12 rows are little", "Add rows"), rows={("train", 12): None}),
    "nothing in an answer": Fault(
        "warning",
        ("1 of 30 rows hold nothing in their expected answer (answer), first 'train-0003': ' '", "Fill it in"),
        rows={("train", 2): {"answer": " "}},
    ),
    "one label nearly everywhere": Fault(
        "warning",
        ("split 'dev': always answering answer = '4' would be right on 93%", "Add rows with other answers"),
        rows={("dev", n): {"answer": "4"} for n in range(28)},
    ),
    "label that train does not show": Fault(
        "warning",
        ("split 'test': 2 of 30 rows expect answer = 'eleven', which no row of train shows", "Add such rows"),
        rows={("test", n): {"answer": "eleven"} for n in (4, 9)},
    ),
    "two answers to one question": Fault(
        "warning",
        (
            "split 'train': 1 of 30 rows is there twice with different answers",
            "'train-0006' 'Train 0 4' = 'train-0005' 'train 0 4'", "correct one",
        ),
        rows={("train", 5): {"question": "Train 0 4"}},
    ),
    "counted twice": Fault(
        "warning",
        ("split 'dev': 1 of 30 rows is there twice: 'dev-0002' 'dev 0 0' = 'dev-0001' 'dev 0 0'", "remove one of each"),
        rows={("dev", 1): {"question": "dev 0 0", "answer": "0"}},
    ),
    "label that cannot be answered": Fault(
        "warning",
        ("1 of 30 rows expect what the output 'answer' (Literal['0', ", "first 'train-0012': 'one'", "Correct the rows"),
        code={ASKS: f'dspy.Predict("question -> answer: Literal[{DIGITS}]")'},
        rows={("train", 11): {"answer": "one"}},
    ),
    # metric
    "less than full credit": Fault(
        "warning",
        ("Metric 'right': it gives the expected answer less than full credit on 81 of 90 rows", "'1' of row 'train-0002' gets 0.7"),
        code={EQUAL: "return (0.7 + 0.3 * (example.answer == '0')) * (example.answer == prediction.answer)"},
    ),
    "no credit": Fault(
        "warning",
        ("Metric 'right': it gives the expected answer less than full credit on 90 of 90 rows", "'0' of row 'train-0001' gets 0", "names, types"),
        code={EQUAL: "return int(example.answer) == prediction.answer"},
    ),
    "type that only looks right": Fault(
        "error",
        ("less than full credit on 90 of 90 rows", "The program gives answer = 0 (int), the row holds '0' (str)"),
        code={ASKS: 'dspy.Predict("question -> answer: int")'},
    ),
    "blind metric": Fault(
        "warning",
        ("Metric 'right': it cannot tell right from wrong", "get 100%, the row's own 100%", "example's answer"),
        code={EQUAL: "return bool(prediction.answer)"},
    ),
    "nearly blind metric": Fault(
        "warning",
        ("it cannot tell right from wrong", "get 95%, the row's own 100%"),
        code={EQUAL: "return 0.95 + 0.05 * (example.answer == prediction.answer)"},
    ),
    "metric with luck": Fault(
        "warning",
        ("Metric 'right': it is not deterministic: '0' of row 'train-0001' gets ", "Fix its seed"),
        code={EQUAL: "return example.answer == prediction.answer and 1 - next(LUCK)",
              "@metric\n": "LUCK = itertools.cycle([0, 0, 1e-9])\n\n\n@metric\n", "import dspy\n": "import itertools\nimport dspy\n"},
        besides=1,
    ),
    "metric that raises": Fault(
        "error",
        ("gives the expected answer no score on 90 of 90 rows", "'0' of row 'train-0001'", "ValueError: invalid literal"),
        code={EQUAL: "return int(example.question) == prediction.answer"},
    ),
    "metric that reads what rows do not hold": Fault(
        "error",
        ("no score on 90 of 90 rows", "AttributeError: 'Example' object has no attribute 'gold'"),
        code={EQUAL: "return example.gold == prediction.answer"},
    ),
    "metric that reads what the program does not return": Fault(
        "error",
        ("Metric 'right': it reads 'reply' of the prediction, which the program does not return. Found: answer. Rename",),
        code={EQUAL: "return example.answer == prediction.reply"},
    ),
    "metric in percent": Fault(
        "error",
        ("no score on 90 of 90 rows", "Metric 'right' returned 100. Return a bool, a number from 0 to 1"),
        code={EQUAL: "return 100 if example.answer == prediction.answer else 0"},
    ),
    # definition
    "unknown option": Fault("error", ("LabeledFewShot has no option 'kk'.", "Options: k"), code={"k=4": "kk=4"}),
    "option with an unknown value": Fault(
        "error",
        ("Stage 'search': MIPROv2 cannot be made with auto = lite: ValueError: Invalid value for auto", "Correct the option"),
        code={STAGE: 'Stage("search", dspy.MIPROv2, auto="lite")'},
    ),
    "strategy of unknown stages": Fault(
        "error",
        ("Stage 'both': strategy = 'p->w' names 'p->w', which is none of its stages. Found: p, w. Write them with ' -> '",),
        code={STAGE: 'Stage("both", dspy.BetterTogether, strategy="p->w", p=Stage("p", dspy.LabeledFewShot), '
                     'w=Stage("w", dspy.BootstrapFinetune))'},
    ),
    "fine-tuning without a trainable LM": Fault(
        "error",
        ("Stage 'weights': BootstrapFinetune fine-tunes the LM 'task', but 'scripted/base' cannot be trained. Give one",),
        code={STAGE: 'Stage("weights", dspy.BootstrapFinetune)'},
        lms=Untrainable,
    ),
    "nested fine-tuning of a student that is not trainable": Fault(
        "error",
        ("Stage 'both': BootstrapFinetune fine-tunes the LM 'student', but 'scripted/base' cannot be trained.",),
        code={STAGE: 'Stage("both", dspy.BetterTogether, strategy="w", w=Stage("w", dspy.BootstrapFinetune), aim="cheaper")'},
        lms=Untrainable,
        warnings=2,
    ),
    "state that does not come back": Fault(
        "error",
        ("Program Asks: what optimizers change in it does not survive saving and loading: the demos of 'ask' come back changed.", "Leave dump_state"),
        code={
            ASKS: 'Forgets("question -> answer")',
            "class Asks": "class Forgets(dspy.Predict):\n    def load_state(self, state, **options):\n"
            "        return super().load_state({**state, 'demos': []}, **options)\n\n\nclass Asks",
        },
    ),
    "state beside the predictors": Fault(
        "warning",
        ("Program Asks: its dump_state keeps 'k' beside its predictors", "Keep what may change in a predictor."),
        code={"    def forward": "    def dump_state(self, **options):\n        return {**super().dump_state(**options), 'k': 3}\n\n    def forward"},
    ),
    "one predictor for all programs": Fault(
        "error",
        ("Program Asks: its factory returns the same 'ask' each time", "Make it inside the factory."),
        code={ASKS: "SHARED", "class Asks": f"SHARED = {ASKS}\n\n\nclass Asks"},
    ),
    "another program each time": Fault(
        "error",
        ("Program Asks: it was built with the predictors ask0, and then with ask1", "Fix its seed."),
        code={"self.ask = ": "self.name = f'ask{next(COUNT)}'\n        self.__dict__[self.name] = ",
              "self.ask(": "self.__dict__[self.name](", "class Asks": "COUNT = itertools.count()\n\n\nclass Asks",
              "import dspy\n": "import itertools\nimport dspy\n"},
    ),
    "predictor that nobody sees": Fault(
        "warning",
        ("Program Asks: the predictor at self.more[0][0] is seen by no optimizer and is not saved. Make it an attribute",),
        code={"self.ask =": f"self.more = [[{ASKS}]]\n        self.ask ="},
    ),
    "factory without a name": Fault(
        "error",
        ("program = <lambda> cannot be found by its name in letters.py", "Write it as a function or a class of the file"),
        code={"program=Asks": "program=lambda: Asks()"},
    ),
    "import of a file of the project": Fault(
        "warning",
        ("Program Asks: letters.py imports 'shared', a file of the project", "MLflow will show scores and no model."),
        code={"import dspy\n": "import dspy\ntry:\n    import shared\nexcept ImportError:\n    shared = None\n"},
        files={"shared.py": ""},
    ),
    "answer under another name": Fault(
        "warning",
        ("Program Asks: its output is 'reply', but the rows of dataset 'letters' hold 'answer'", "Rename one."),
        code={ASKS: 'dspy.Predict("question -> reply")', "prediction.answer": "prediction.reply"},
    ),
    "input that the program does not take": Fault(
        "error",
        ("Asks.forward takes text, but dataset 'letters' gives it the input 'question'. Rename one.",),
        code={"def forward(self, question)": "def forward(self, text)", "question=question": "question=text"},
    ),
    "budget below judging": Fault(
        "error",
        ("Budget: lm_calls = 50 does not even pay for judging", "more than 90"),
        code={"program=Asks": "program=Asks, budget=Budget(lm_calls=50)", "import Dataset": "import Budget, Dataset"},
    ),
}  # fmt: skip


def plant(project: Any, fault: Fault) -> None:
    text = (project.folder / LETTERS).read_text()
    for old, new in fault.code.items():
        assert old in text
        text = text.replace(old, new)
    project.write(LETTERS, text)
    for path, content in fault.files.items():
        project.write(path, content)
    for split in ("train", "dev", "test"):
        path = f"datasets/letters/{split}.jsonl"
        rows: list[Any] = [json.loads(line) for line in (project.folder / path).read_text().splitlines()]
        for (where, number), change in fault.rows.items():
            if where == split:
                rows = rows[:number] if change is None else rows
                if change is not None:
                    changed = {**rows[number], **change}
                    rows[number] = {name: value for name, value in changed.items() if value is not ...}
        project.write(path, "".join(json.dumps(row) + "\n" for row in rows))


def written(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts]


def loud(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("error ", "warning "))]


def test_twenty_faults_are_planted() -> None:
    assert len(FAULTS) >= 20


def test_a_project_that_is_right_has_no_error_and_no_warning(project: Any) -> None:
    done = project.cascade("check", "letters")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("No error and no warning.\n")
    assert loud(done.out) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_nothing_is_spent(project: Any, name: str) -> None:
    fault = FAULTS[name]
    plant(project, fault)
    before = written(project.folder)

    def lms(settings: Any) -> Any:
        return fault.lms(settings, project.engine)

    done = project.cascade("check", "letters", "--json", lms=lms)
    document = json.loads(done.out)
    found = [one for one in document["findings"] if one["severity"] != "note"]
    assert [one["severity"] for one in found] == (1 + fault.besides) * [fault.severity] + fault.warnings * ["warning"]
    told = found[fault.besides]
    sentence = f"{told['place']}: {told['sentence']}"
    assert [part for part in fault.told if part not in sentence] == [], sentence
    assert "\n" not in sentence
    assert ("stages" in document) == (fault.severity == "warning"), "a plan is made of what can run"

    if fault.severity == "warning":
        shown = project.cascade("check", "letters", lms=lms)
        assert (done.code, done.err) == (shown.code, shown.err) == (0, "")
        assert loud(shown.out)[fault.besides :] == [f"warning  {sentence}"]
    else:
        run = project.cascade("run", "letters", lms=lms)
        assert (done.code, run.code, run.out) == (2, 2, "")
        assert done.err == run.err
        assert done.err.startswith("cascade: ")
        assert done.err.count("\n") == 1
    assert project.engine.requests == []
    assert written(project.folder) == before


JUDGES = {
    "asks": "return dspy.Predict('answer, expected -> same: bool')(answer=prediction.answer, expected=example.answer).same",
    "asks and hides it": """try:
        return dspy.Predict("answer -> good: bool")(answer=prediction.answer).good
    except Exception:
        return 0.0""",
    "asks in another thread": """with ThreadPoolExecutor() as pool:
        ask = contextvars.copy_context().run
        return not pool.submit(ask, dspy.Predict("answer -> good: bool"), answer=prediction.answer).exception()""",
    "asks an LM of its own": """with dspy.context(lm=dspy.LM("openai/gpt-5-mini", api_key="none")):
        return dspy.Predict("answer -> good: bool")(answer=prediction.answer).good""",
}


@pytest.mark.parametrize("judge", JUDGES)
def test_a_metric_that_asks_an_lm_is_not_checked_and_not_billed(project: Any, judge: str) -> None:
    imports = "import contextvars\nfrom concurrent.futures import ThreadPoolExecutor\n\nimport dspy\n"
    plant(project, Fault("note", (), code={EQUAL: JUDGES[judge], "import dspy\n": imports}))
    done = project.cascade("check", "letters")
    assert (done.code, done.err, loud(done.out)) == (0, "", [])
    assert "note     Metric 'right': not checked: it asks an LM, and a check asks nobody.\n" in done.out
    assert project.engine.requests == []


def test_a_metric_that_asks_another_machine_is_stopped_before_it_does(project: Any) -> None:
    """A judge that calls a provider's client and not DSPy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"('127.0.0.1', {server.getsockname()[1]})"
        ask = f"""try:
        return socket.create_connection({address}) is not None
    except Exception:
        return 0.0"""
        plant(project, Fault("note", (), code={EQUAL: ask, "import dspy\n": "import socket\n\nimport dspy\n"}))
        done = project.cascade("check", "letters")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "note     Metric 'right': not checked: it asks another machine, and a check asks nobody.\n" in done.out


def test_a_program_may_return_more_than_its_predictors_give(project: Any) -> None:
    """As one that looks things up, and a metric that looks at what was found: nothing of that stands in the rows."""
    answer = "dspy.Prediction(answer=self.ask(question=question).answer, found=['x'])"
    code = {"self.ask(question=question)": answer, EQUAL: f"{EQUAL} and 'x' in prediction.found"}
    plant(project, Fault("note", (), code=code))
    done = project.cascade("check", "letters")
    assert (done.code, done.err, loud(done.out)) == (0, "", [])
    assert "note     Metric 'right': not checked: it reads 'found' of the prediction, which cannot be made" in done.out


def test_a_dry_run_is_the_same(project: Any) -> None:
    plant(project, FAULTS["near-duplicate"])
    for options in ((), ("--json",)):
        check = project.cascade("check", "letters", *options)
        dry_run = project.cascade("run", "letters", "--dry-run", *options)
        assert check == dry_run


def test_findings_and_plan_as_a_person_sees_them(project: Any, request: pytest.FixtureRequest) -> None:
    for name in ("near-duplicate", "tiny train", "less than full credit", "predictor that nobody sees"):
        plant(project, FAULTS[name])
    said = project.cascade("check", "letters").out
    golden = Path(__file__).parent / "golden" / "check.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")


def test_all_errors_are_listed_and_a_run_says_how_many(project: Any) -> None:
    for name in ("metric in percent", "one predictor for all programs", "option with an unknown value"):
        plant(project, FAULTS[name])
    check, run = project.cascade("check", "letters"), project.cascade("run", "letters")
    assert [line.split(":")[0] for line in loud(check.out)] == [
        "error    Metric 'right'", "error    Program Asks", "error    Stage 'search'",
    ]  # fmt: skip
    assert (check.code, run.code, run.out) == (2, 2, "")
    assert check.err == run.err
    assert "Metric 'right': it gives the expected answer no score on 90 of 90 rows" in run.err
    assert run.err.endswith("(2 more: `cascade check` lists them.)\n")


def test_a_run_warns_when_it_begins_and_keeps_what_was_found(project: Any) -> None:
    plant(project, FAULTS["near-duplicate"])
    done = project.cascade("run", "letters", "--no-mlflow")
    assert done.code == 0
    (kept,) = project.folder.glob(".cascade/runs/letters/*/findings.json")
    found = json.loads(kept.read_text())
    assert [one["severity"] for one in found][:2] == ["warning", "note"]
    lines = done.err.splitlines()
    warned = lines.index(f"warning: {found[0]['place']}: {found[0]['sentence']}")
    assert warned < next(number for number, line in enumerate(lines) if line.startswith("0-baseline"))
