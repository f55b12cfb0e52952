"""`cascade profile` and `cascade trace`: a program on rows of dev, watched."""

import json
from pathlib import Path
from typing import Any

from letters import EXPERIMENT

STEPS = {
    'dspy.Predict("question -> answer")': 'Pipeline("question -> answer", draft=dspy.Predict("question -> draft"), '
    'answer=Cached(dspy.Predict("question, draft -> answer")))',
    "import dspy\n": "import dspy\n\nfrom cascade.programs import Cached, Pipeline\n",
}


def changed(project: Any, words: dict[str, str]) -> Any:
    """The project with other words in its experiment."""
    text = EXPERIMENT
    for before, after in words.items():
        assert before in text
        text = text.replace(before, after)
    project.write("experiments/letters.py", text)
    return project


def stepwise(project: Any) -> Any:
    return changed(project, STEPS)


def test_profile_prints_a_table_by_step_and_by_predictor(project) -> None:
    done = stepwise(project).cascade("profile", "letters", "--examples", "3")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line]
    assert [line[:2] for line in lines if line[0] in ("program", "draft", "answer")] == [
        ["program", "3"], ["draft", "3"], ["answer", "3"], ["program", "3"]]  # fmt: skip
    assert [line[0] for line in lines if line[0].startswith("ask.")] == ["ask.draft", "ask.answer.module"]
    assert "3 rows of dev, 6 LM calls." in done.out
    again = project.cascade("profile", "letters", "--examples", "3")
    assert "6 answers came from the ledger, at no time: --fresh asks the models." in again.out
    assert "ledger, at no time" not in project.cascade("profile", "letters", "--examples", "3", "--fresh").out


def test_profile_as_json_and_as_a_page(project, tmp_path: Path) -> None:
    page = tmp_path / "profile.html"
    done = stepwise(project).cascade("profile", "letters", "--examples", "2", "--json", "--html", str(page))
    told = json.loads(done.out)
    assert (told["experiment"], told["examples"]) == ("letters", 2)
    whole = told["by_step"][0]
    assert (whole["name"], whole["calls"], whole["lm_calls"], whole["share"]) == ("program", 2, 4, 1.0)
    assert whole["input_tokens"] == sum(row["input_tokens"] for row in told["by_predictor"][1:]) > 0
    text = page.read_text("utf-8")
    assert text.count('class="own"') == 3
    assert "<title>Profile of letters</title>" in text


def test_trace_prints_the_program_as_a_tree(project, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    done = stepwise(project).cascade("trace", "letters", "--to", str(file))
    assert done.code == 0, done.err
    names = [line.lstrip(" │├└─").split("  ")[0] for line in done.out.splitlines()]
    assert names == ["Asks", "ask", "draft", "scripted/base", "answer", "module", "scripted/base"]
    spans = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [span["name"] for span in spans] == names
    assert [span["step"] for span in spans] == ["", "", "draft", "", "answer", "", ""]
    assert json.loads(project.cascade("trace", "letters", "--json").out)["spans"][0]["outputs"]


def test_a_row_that_is_not_there_and_a_row_that_fails(project) -> None:
    done = project.cascade("trace", "letters", "--row", "no-such")
    assert done.code == 2
    assert "dev has no row 'no-such'" in done.err
    broken = changed(project, {"return self.ask(": "raise ValueError('broken')\n        return self.ask("})
    failed = broken.cascade("trace", "letters")
    assert failed.code == 0
    assert "ValueError: broken" in failed.out
    assert "failed: ValueError: broken" in failed.err


def test_trace_shows_nested_spans_in_mlflow(project, store: Path) -> None:
    from mlflow.tracing.client import TracingClient

    for _ in range(2):
        done = stepwise(project).cascade("trace", "letters", "--mlflow")
        assert "/traces?workflowType=machine_learning&selectedEvaluationId=tr-" in done.out, done.err
    client = TracingClient(f"sqlite:///{store}")
    trace = client.search_traces(locations=["1"])[0]
    by_id = {span.span_id: span for span in trace.data.spans}
    nested = [(span.name, by_id[span.parent_id].name if span.parent_id else "") for span in trace.data.spans]
    assert sorted(nested) == sorted([
        ("Asks", ""), ("ask", "Asks"), ("draft", "ask"), ("scripted/base", "draft"), ("answer", "ask"),
        ("module", "answer"), ("scripted/base", "module")])  # fmt: skip
    root = next(span for span in trace.data.spans if not span.parent_id)
    assert (root.inputs, set(root.outputs)) == ({"question": "dev 0 0"}, {"draft", "answer"})


def test_a_program_that_would_end_the_process_fails_at_its_row(project) -> None:
    changed(project, {"        return self.ask(question=question)": "        raise SystemExit(4)"})
    done = project.cascade("trace", "letters")
    assert done.code == 0
    assert "row 'dev-0001' failed: SystemExit: 4" in done.err
    done = project.cascade("profile", "letters", "--examples", "2")
    assert (done.code, "Row 'dev-0002' failed: SystemExit: 4" in done.out) == (0, True)
