import pytest

from cascade.cli import main
from cascade.cli.parts import Parts
from cascade.errors import CascadeError, Interrupted, ModelError, Refused
from cascade.lm.lms import LMs

DATASET = 'inputs = ["question"]\n'
ROW = '{"question": "a", "answer": "b"}\n'

BAD = {
    "unknown experiment": (
        {},
        ("run", "leters"),
        ["There is no experiment 'leters' in", "Did you mean 'letters'?"],
    ),
    "file that does not import": (
        {"experiments/letters.py": "import dspy\nimport nothing_of_that_name\n"},
        ("run", "letters"),
        ["experiments/letters.py, line 2: ModuleNotFoundError", "'nothing_of_that_name'", "Install"],
    ),
    "file with a syntax error": (
        {"experiments/letters.py": "x = 1\nexperiment = (\n"},
        ("run", "letters"),
        ["experiments/letters.py, line 2: SyntaxError"],
    ),
    "file that exits": (
        {"experiments/letters.py": "raise SystemExit(0)\n"},
        ("run", "letters"),
        ["experiments/letters.py calls exit(0)", "Remove that call."],
    ),
    "file without an experiment": (
        {"experiments/letters.py": "x = 1\n"},
        ("run", "letters"),
        ["experiments/letters.py defines no `experiment`.", "Add experiment = Experiment("],
    ),
    "malformed JSON line": (
        {"datasets/letters/dev.jsonl": ROW + '{"question": "b", \n'},
        ("run", "letters"),
        ["datasets/letters/dev.jsonl, line 2"],
    ),
    "missing split": (
        {"datasets/letters/test.jsonl": None},
        ("run", "letters"),
        ["Dataset 'letters' has no split 'test'.", "Found: train, dev.", "Add datasets/letters/test.jsonl."],
    ),
    "missing field": (
        {"datasets/letters/train.jsonl": ROW + '{"query": "b", "answer": "b"}\n'},
        ("run", "letters"),
        ["datasets/letters/train.jsonl, row 2 has no field 'question'.", "Found: query, answer."],
    ),
    "input that the program does not take": (
        {"datasets/letters/dataset.toml": 'inputs = ["question", "answer"]\n'},
        ("run", "letters"),
        ["Asks.forward takes question", "'answer'", "Rename one."],
    ),
    "unknown LM": (
        {"pyproject.toml": '[tool.cascade]\nlm = "nowhere/gpt"\n'},
        ("run", "letters"),
        ["LM 'task': 'nowhere/gpt' names no provider", "provider/model"],
    ),
    "LM that is no model string": (
        {"pyproject.toml": '[tool.cascade]\nlm = "gpt"\n'},
        ("run", "letters"),
        ["lm", "'gpt'", "is no model."],
    ),
    "unknown embedded model": (
        {"pyproject.toml": '[tool.cascade.lm]\ntask = "embedded/llama"\n'},
        ("run", "letters"),
        ["LM 'task': No embedded model 'llama'", "cascade models prepare"],
    ),
    "missing key": (
        {"pyproject.toml": '[tool.cascade]\nlm = "openai/gpt-5-mini"\n'},
        ("run", "letters"),
        ["LM 'task': 'openai/gpt-5-mini' needs OPENAI_API_KEY", "Set it in the environment."],
    ),
    "unknown setting": (
        {"pyproject.toml": "[tool.cascade]\nthread = 3\n"},
        ("run", "letters"),
        ["pyproject.toml has an unknown setting 'thread'", "Known: "],
    ),
    "unknown optimizer option": (
        {"experiments/letters.py": ("k=4", "kk=4")},
        ("run", "letters"),
        ["Stage 'demos': LabeledFewShot has no option 'kk'.", "Options: k"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_says_the_fix(project, case):
    files, words, said = BAD[case]
    for path, text in files.items():
        file = project.folder / path
        if text is None:
            file.unlink()
        elif isinstance(text, tuple):
            project.write(path, file.read_text().replace(*text))
        else:
            project.write(path, text)
    done = project.cascade(*words, lms=LMs)
    assert done.err.startswith("cascade: ")
    assert done.err.count("\n") == 1, done.err
    for part in said:
        assert part in done.err
    assert (done.code, done.out) == (2, "")
    assert not (project.folder / ".cascade/runs").exists(), "nothing was begun"


ERRORS = [
    (CascadeError("it\nfailed"), 1, "cascade: it failed"),
    (ModelError("no weights"), 1, "cascade: no weights"),
    (Refused("the gate said no"), 3, "cascade: the gate said no"),
    (Interrupted("x"), 130, "cascade: interrupted; `cascade run NAME` goes on."),
    (KeyboardInterrupt(), 130, "cascade: interrupted; `cascade run NAME` goes on."),
    (RuntimeError("odd\nthing"), 1, "cascade: RuntimeError: odd thing. Run again with --debug for the traceback."),
    (ValueError(), 1, "cascade: ValueError: no message. Run again with --debug for the traceback."),
]


@pytest.mark.parametrize(("error", "code", "said"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_every_error_has_its_line_and_exit_code(project, error, code, said, debug):
    def failing(_settings):
        raise error

    done = project.cascade("run", "letters", *(["--debug"] if debug else []), lms=failing)
    stopped = not isinstance(error, Exception)
    assert (done.code, done.err.splitlines()[-1], done.out) == (code, said, "")
    assert ("Traceback" in done.err) == (debug and not stopped)
    assert debug or done.err.count("\n") == 1


def test_only_a_run_is_said_to_go_on(project):
    def failing(_settings):
        raise KeyboardInterrupt

    done = project.cascade("--debug", "check", "letters", lms=failing)
    assert (done.code, done.err) == (130, "cascade: interrupted.\n")


@pytest.mark.parametrize("words", [["run"], ["run", "a", "b"], ["run", "a", "--neww"], ["ui", "--port", "x"], ["rnu"]])
def test_wrong_usage_exits_2_and_says_it(words, capsys):
    assert main(words, parts=Parts()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err
