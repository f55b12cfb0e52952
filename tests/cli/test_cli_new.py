"""`cascade new`: from nothing to two programs compared, and the checklist that fills up on the way."""

import json
import shutil

import pytest

TEAMS = {"a": "billing", "b": "login"}


@pytest.fixture
def begun(project):
    """Rows whose team a scripted model knows when it was shown examples, or was asked for the kind first."""
    rows = [{"text": f"{'ab'[i % 2]}{i * 7919 % 997} case", "team": TEAMS["ab"[i % 2]]} for i in range(120)]
    project.write("rows.csv", "text,team\n" + "".join(f"{row['text']},{row['team']}\n" for row in rows))

    def answer(_model, inputs, demos):
        knows = demos or int(inputs["text"][1:].split()[0]) % 3 == 0 or "facts" in inputs
        return {"team": TEAMS[inputs["text"][0]] if knows else "billing", "facts": '["one"]'}

    project.engine.answer = answer
    return project


def steps(project, *words: str) -> dict:
    done = project.cascade("new", "tickets", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def done_steps(told: dict) -> str:
    return "".join(str(step["number"]) for step in told["steps"] if step["state"] == "done")


def following(told: dict) -> str:
    return next((step["todo"] for step in told["steps"] if step["state"] == "next"), "")


def test_the_seven_steps_fill_up_from_facts_alone(begun):
    told = steps(begun, "--kind", "pipeline", "--from", "rows.csv", "--inputs", "text", "--outputs", "team")
    assert told["written"][-1] == "experiments/tickets.py"
    assert told["told"] == ["Divided by row with seed 1: train 48, dev 36, test 36.", "team is one of 2 labels."]
    assert (done_steps(told), following(told)) == ("26", "Write success in experiments/tickets.py.")

    refused = begun.cascade("run", "tickets", "--no-mlflow")
    assert (refused.code, refused.out) == (2, "")
    assert "Metric 'success' is not written yet: it does nothing, or only raises NotImplementedError." in refused.err
    assert begun.cascade("check", "tickets").code == 2
    assert not begun.engine.requests

    file = begun.folder / "experiments/tickets.py"
    placeholder = 'raise NotImplementedError("Say what success is.")'
    text = file.read_text()
    for nothing in ("pass", "..."):
        file.write_text(text.replace(placeholder, nothing))
        assert (done_steps(steps(begun)), begun.cascade("check", "tickets").code) == ("26", 2)
    file.write_text(text.replace(placeholder, "return None"))
    told = steps(begun)
    assert (done_steps(told), following(told)) == ("126", "cascade check tickets")
    assert "it gives the expected answer no score" in told["steps"][2]["says"]
    assert begun.cascade("run", "tickets", "--no-mlflow").code == 2
    assert not begun.engine.requests

    file.write_text(file.read_text().replace("return None", "return prediction.team == example.team"))
    told = steps(begun)
    assert (done_steps(told), following(told)) == ("1236", "cascade run tickets")
    text = file.read_text()
    file.write_text(
        text.replace("small()", "(Stage('demos', dspy.LabeledFewShot, k=4),)").replace(
            "metric\nfrom", "metric, Stage\nfrom"
        )
    )
    assert begun.cascade("run", "tickets", "--no-mlflow").code == 0
    told = steps(begun)
    assert done_steps(told) == "123456"
    assert following(told) == "cascade compare tickets --program PlainTickets --program piped_tickets"
    assert begun.cascade(*following(told).split()[1:], "--no-mlflow").code == 0
    told = steps(begun)
    assert done_steps(told) == "1234567"
    assert told["steps"][6]["says"].startswith("On dev, 36 examples: piped_tickets 100.0% against PlainTickets ")
    assert begun.cascade("new", "tickets").out.endswith("\nNext: cascade promote tickets\n")

    text = file.read_text()
    file.write_text(text.replace("return prediction.team ==", "return prediction.team.lower() =="))
    assert done_steps(steps(begun)) == "1236"
    file.write_text(text)
    assert done_steps(steps(begun)) == "1234567"
    file.write_text(text.replace("dspy.Predict(Tickets)", "dspy.Predict(1 / 0)"))
    told = steps(begun)
    assert (done_steps(told), following(told)) == ("124567", "cascade check tickets")
    file.write_text(f"{text}\nexit(3)\n")
    told = steps(begun)
    assert (done_steps(told), following(told)) == ("", "Mend experiments/tickets.py.")
    assert "experiments/tickets.py calls exit(3) when it is imported." in told["steps"][0]["says"]
    assert {step["says"] for step in told["steps"][1:]} == {"not looked at"}


def test_what_is_printed(begun):
    done = begun.cascade("new", "tickets")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "Written: datasets/tickets/dataset.toml\n"
        "Written: datasets/tickets/README.md\n"
        "Written: experiments/tickets.py\n"
        "\n"
        "tickets, step by step:\n"
        "  [>] 1 metric            success in experiments/tickets.py is not written yet\n"
        "  [ ] 2 data              Dataset 'tickets' has no split 'train'. Found: none. Add datasets/tickets/train.jsonl.\n"
        "  [ ] 3 simplest program  check waits for metric and data\n"
        "  [ ] 4 evaluate it       not evaluated on today's rows and metric\n"
        "  [ ] 5 optimize          no optimizer has run on them\n"
        "  [ ] 6 another design    programs in the file: PlainTickets\n"
        "  [ ] 7 compare           no two programs were compared on today's rows\n"
        "\n"
        "Next: Write success in experiments/tickets.py.\n"
    )


def test_an_experiment_that_was_written_by_hand_has_steps_too(begun):
    done = begun.cascade("new", "letters")
    assert "  [x] 3 simplest program  it builds, and check finds no error\n" in done.out


def test_a_broken_file_is_the_first_thing_to_mend(begun):
    begun.write("experiments/tickets.py", "import dspy\nx = = 1\n")
    done = begun.cascade("new", "tickets")
    assert "line 2: SyntaxError" in done.out and done.out.endswith("Next: Mend experiments/tickets.py.\n")


def test_a_program_that_a_run_began_from_is_no_optimizer(project):
    assert project.cascade("run", "letters", "--no-mlflow").code == 0
    assert project.cascade("export", "letters", "--to", "old.json").code == 0
    shutil.rmtree(project.folder / ".cascade/runs")
    file = project.folder / "experiments/letters.py"
    file.write_text(file.read_text().replace('stages=[Stage("demos", dspy.LabeledFewShot, k=4)]', "stages=[]"))
    assert project.cascade("run", "letters", "--from", "old.json", "--no-mlflow").code == 0
    told = json.loads(project.cascade("new", "letters", "--json").out)
    assert done_steps(told) == "1234"


@pytest.mark.parametrize(
    "words", [("--kind", "router"), ("--group", "who"), ("--inputs", "text"), ("--outputs", "team"), ("--seed", "3")]
)
def test_options_for_what_is_there_are_refused(begun, words):
    done = begun.cascade("new", "letters", *words)
    assert done.code == 2
    assert "experiments/letters.py is there already, and nothing is overwritten." in done.err
