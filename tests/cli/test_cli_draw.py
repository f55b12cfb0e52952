"""`cascade draw`: the program of an experiment, in three forms, and what it says if it cannot."""

from typing import Any

PIPELINE = """
from cascade.programs import Pipeline


def program():
    return Pipeline("question -> answer", look=dspy.Predict("question -> notes"), ask=dspy.Predict("notes -> answer"))


experiment = Experiment("""


def test_forms(project: Any) -> None:
    assert (
        project.cascade("draw", "letters").out == "letters (Asks)   question → …\n  ask (Predict)   question → answer\n"
    )
    assert project.cascade("draw", "letters", "--format", "mermaid").out.startswith("flowchart LR\n")
    done = project.cascade("draw", "letters", "--format", "svg", "--out", "letters.svg")
    assert (done.code, done.out, done.err) == (0, "", "Written: letters.svg\n")
    assert (project.folder / "letters.svg").read_text().startswith("<svg ")


def test_a_flow(project: Any) -> None:
    file = project.folder / "experiments" / "letters.py"
    file.write_text(
        file.read_text().replace("\nexperiment = Experiment(", PIPELINE).replace("program=Asks", "program=program")
    )
    assert project.cascade("draw", "letters").out.splitlines()[1:] == [
        "  look (Predict)   question → notes", "  ask (Predict)   notes → answer"]  # fmt: skip
    assert project.cascade("check", "letters").code == 0
    file.write_text(file.read_text().replace('"notes -> answer"', '"note -> answer"'))
    done = project.cascade("draw", "letters")
    assert done.code == 2
    assert done.err == (
        "cascade: program = program: Step 'ask' needs 'note', which is neither an input nor given by a step before it. "
        "There is: 'question', 'notes'. Add a step that gives it, or put it into the signature.\n"
    )


def test_what_cannot_be(project: Any) -> None:
    assert project.cascade("draw", "nothing").code == 2
    assert project.cascade("draw", "letters", "--format", "png").code == 2
    done = project.cascade("draw", "letters", "--out", "no/where.svg")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("cascade: --out no/where.svg cannot be written (No such file or directory).")
