"""`cascade run NAME --dry-run`; what it prints is compared with files in `golden`."""

import json
from pathlib import Path

import pytest
from letters import EXPERIMENT

from cascade.testing import ScriptedLMs

GOLDEN = Path(__file__).parent / "golden"
LETTERS = EXPERIMENT.replace(
    'stages=[Stage("demos", dspy.LabeledFewShot, k=4)]',
    """budget=Budget(lm_calls=400, minutes=30), stages=[
        Stage("instructions", dspy.MIPROv2, auto="light"),
        Stage("both", dspy.BetterTogether, strategy="p -> w", p=Stage("p", dspy.BootstrapFewShot), w=Stage("w", dspy.BootstrapFinetune)),
        Stage("cheaper", dspy.BootstrapFinetune, aim="cheaper"),
    ]""",
).replace("import Dataset", "import Budget, Dataset")
UNKNOWN = "\n\nclass Mine(dspy.BootstrapFewShot):\n    pass\n\n\nexperiment = Experiment("


class Named(ScriptedLMs):
    """Scripted LMs under the names that settings give them, under DSPy's own adapter."""

    def model(self, name):
        return self.settings.lm_named(name).model

    @property
    def adapter(self):
        import dspy

        return dspy.ChatAdapter()


@pytest.fixture
def dry(project):
    """Runs a command dry and makes sure that nothing was called or written."""

    def there():
        return [path for path in sorted(project.folder.rglob("*")) if "__pycache__" not in path.parts]

    def run(*words, lms=None):
        before = there()
        done = project.cascade("run", "letters", "--dry-run", *words, lms=lms)
        assert (done.code, done.err) == (0, "")
        assert project.engine.requests == []
        assert there() == before
        return done.out

    project.write("experiments/letters.py", LETTERS)
    return run


def compare(said, name, request):
    golden = GOLDEN / name
    if request.config.getoption("--update-golden"):
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")


def test_a_dry_run_shows_what_each_step_may_take(dry, request):
    compare(dry(), "dry-run.txt", request)


def test_what_is_free_what_is_not_known_and_what_is_not_bounded_are_told_apart(dry, project, request):
    project.write("pyproject.toml", '[tool.cascade]\nlm = { prompt = "scripted/writer", teacher = "scripted/big" }\n')
    mine = 'Stage("mine", Mine), Stage("instructions"'
    text = LETTERS.replace("\n\nexperiment = Experiment(", UNKNOWN).replace('Stage("instructions"', mine)
    project.write("experiments/letters.py", text.replace("budget=Budget(lm_calls=400, minutes=30), ", ""))
    said = dry(lms=lambda settings: Named(settings, project.engine))
    compare(said, "dry-run-unknown.txt", request)


def test_the_document_holds_the_same(dry):
    document = json.loads(dry("--json"))
    assert [row["stage"] for row in document["stages"]] == [
        "0-baseline", "1-instructions", "2-both", "3-cheaper", "test",
    ]  # fmt: skip
    assert document["lm_calls_at_most"] == sum(row["lm_calls_at_most"] for row in document["stages"])
    assert document["cost_usd_at_most"] is None
    assert document["budget"] == {"lm_calls": "400", "minutes": "30"}
    assert document["budget_may_cut"] == ["lm_calls", "minutes"]
    assert [found["split"] for found in document["detectable"]] == ["dev", "test"]
    shown = dry()
    assert f"{document['lm_calls_at_most']:,}" in shown


@pytest.mark.parametrize(
    ("caps", "told"),
    [
        ("lm_calls=1_000_000", "The budget of 1,000,000 LM calls cannot end it early."),
        ("lm_calls=1_000_000, usd=None", "The budget of 1,000,000 LM calls cannot end it early."),
        (
            "tokens=5_000",
            "The budget is 5,000 tokens. Its cap on tokens may end the search early; judging is kept back.",
        ),
        ("", "There is no budget."),
    ],
)
def test_it_says_which_caps_may_be_reached(dry, project, caps, told):
    project.write("experiments/letters.py", LETTERS.replace("lm_calls=400, minutes=30", caps))
    assert f"\n{told}\n" in dry()


def test_a_wrong_definition_is_refused_as_a_run_would(project):
    project.write("experiments/letters.py", LETTERS.replace("lm_calls=400", "lm_calls=40"))
    done = project.cascade("run", "letters", "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert "does not even pay for judging" in done.err
