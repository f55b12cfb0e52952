"""A run that begins from a program that exists: what is read, what is refused, and how it takes part."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted

from cascade.errors import ExperimentError, Interrupted
from cascade.experiment import Budget, Experiment, Plateau, Stage
from cascade.journal import Journal
from cascade.optimizers import NearestDemos
from cascade.result import Result
from cascade.testing import ScriptedEngine, ScriptedLMs
from cascade.warm import read_file

DEMOS = Stage("demos", dspy.LabeledFewShot, k=2)


def answer(model: str, inputs: Any, demos: int) -> Any:
    """The more demos, the better; best under trained weights."""
    chance = 0.3 + 0.12 * min(demos, 4) + (0.2 if "trained" in model else 0)
    question = inputs.get("question", "")
    return {"answer": scripted.gold(question) if scripted.luck(question, "asked") < chance else "?"}


def saved(path: Path, demos: int = 4, change: Callable[[Any], None] = lambda _: None) -> Path:
    """A program as DSPy saves it."""
    program = scripted.Asks()
    program.ask.demos = [dspy.Example(row) for row in scripted.rows("shown", demos)]
    change(program)
    program.save(path)
    return path


def begun(folder: Path, start: Any, *stages: Stage, engine: ScriptedEngine | None = None, **options: Any) -> Result:
    defined = scripted.experiment(*stages, start=start, **{"plateau": scripted.PATIENT, **options})
    return scripted.run(defined, folder, engine or ScriptedEngine(answer))


def journal(folder: Path) -> Journal:
    return Journal(max((folder / ".cascade/runs/x").iterdir()))


def test_a_saved_program_is_the_first_stage_and_the_next_one_starts_from_it(tmp_path: Path) -> None:
    saved(
        tmp_path / "old.json", change=lambda p: setattr(p.ask, "signature", p.ask.signature.with_instructions("Old."))
    )
    result = begun(tmp_path, "old.json", DEMOS)
    assert [stage.name for stage in result.stages] == ["0-baseline", "1-start", "2-demos"]
    baseline, start, demos = result.stages
    assert (start.lever, start.status, str(start.decision.kept)) == ("none", "done", "new")
    assert start.dev.mean > baseline.dev.mean
    assert demos.program.ask.signature.instructions == "Old."
    assert start.decision.reason.endswith("goes on with 'demos'.")
    assert result.best is start
    assert result.test.baseline.mean == pytest.approx(result.test.best.mean - result.test.comparison.gain)


def test_what_it_began_from_stands_in_the_journal(tmp_path: Path) -> None:
    saved(tmp_path / "old.json")
    result = begun(tmp_path, "old.json", DEMOS)
    found, digest = journal(tmp_path), result.stages[1].taken.digest
    (start,) = [record for record in found.stages() if record.folder == "1-start"]
    assert start.params["program"] == f"old.json ({digest})"
    assert start.params["optimizer"] == "Start"
    assert start.params["lm_calls_at_most"] == "40"
    assert found.run.params["start"] == "old.json"
    assert found.read("1-start/program.json")["ask"]["demos"]


def test_a_program_that_is_no_better_than_the_baseline_is_not_kept(tmp_path: Path) -> None:
    saved(tmp_path / "same.json", demos=0)
    result = begun(tmp_path, "same.json", DEMOS)
    assert str(result.stages[1].decision.verdict) == "unchanged"
    assert len(result.stages[2].program.ask.demos) == 2
    saved(tmp_path / "bad.json", change=lambda p: setattr(p.ask, "demos", []) or setattr(
        p.ask, "signature", p.ask.signature.with_instructions("Bad. " * 40)))  # fmt: skip
    result = begun(tmp_path, "bad.json", DEMOS)
    assert str(result.stages[1].decision.kept) == "incumbent"
    assert "Bad." not in result.stages[2].program.ask.signature.instructions


@pytest.mark.parametrize("on_plateau", ["escalate", "stop"])
def test_it_makes_no_plateau(tmp_path: Path, on_plateau: Any) -> None:
    saved(tmp_path / "same.json", demos=0)
    result = begun(tmp_path, "same.json", DEMOS, plateau=Plateau(patience=1, on_plateau=on_plateau))
    assert str(result.stages[1].decision.next) == "continue"
    assert result.stages[2].status == "done"


def test_one_that_reaches_the_target_stops_the_cascade(tmp_path: Path) -> None:
    saved(tmp_path / "old.json")
    result = begun(tmp_path, "old.json", DEMOS, target=0.6)
    assert (result.status, result.stages[2].status) == ("target", "skipped")


def test_verdicts_are_corrected_for_one_stage_more(tmp_path: Path) -> None:
    saved(tmp_path / "old.json")
    with_start = begun(tmp_path / "a", tmp_path / "old.json", DEMOS).stages[2].decision
    alone = begun(tmp_path / "b", None, DEMOS).stages[1].decision
    assert with_start.confidence > alone.confidence == 0.90


@pytest.mark.parametrize("by", ["folder", "stage", "program.json"])
def test_an_earlier_run_is_begun_from_by_its_folder(tmp_path: Path, by: str) -> None:
    first = begun(tmp_path, None, Stage("many", dspy.LabeledFewShot, k=4))
    assert first.best.name == "1-many"
    where = {"folder": Path(first.journal), "stage": Path(first.journal) / "1-many",
             "program.json": Path(first.journal) / "1-many/program.json"}[by]  # fmt: skip
    again = begun(tmp_path, where.relative_to(tmp_path), DEMOS)
    assert again.stages[1].taken.digest == first.best.taken.digest


def test_trained_weights_and_nearest_demos_of_an_earlier_run_come_along(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer)
    first = begun(
        tmp_path, None, Stage("nearest", NearestDemos, refit=False), Stage("w", dspy.BootstrapFinetune), engine=engine
    )
    for name in ("1-nearest", "2-w"):
        again = begun(tmp_path, Path(first.journal) / name, engine=engine)
        wanted = next(stage for stage in first.stages if stage.name == name)
        assert again.stages[1].taken == wanted.taken
        assert again.stages[1].dev.mean == wanted.dev.mean
    assert wanted.taken.lms["ask"].startswith("scripted/trained-")


def test_a_vote_of_an_earlier_run_comes_along(tmp_path: Path) -> None:
    first = begun(tmp_path, None, DEMOS, Stage("vote", dspy.Ensemble, size=2))
    again = begun(tmp_path, Path(first.journal) / "2-vote", DEMOS)
    assert again.stages[1].taken == first.stages[2].taken
    assert again.stages[1].taken.state.keys() == {"members[0].ask", "members[1].ask"}


@pytest.mark.filterwarnings("ignore:.*imports 'scripted', a file of the project")
def test_a_program_of_one_predictor_comes_along(tmp_path: Path) -> None:
    program = one_predictor()
    program.demos = [dspy.Example(row) for row in scripted.rows("shown", 4)]
    program.save(tmp_path / "old.json")
    result = begun(tmp_path, "old.json", program=one_predictor)
    assert len(result.stages[1].program.demos) == 4


def one_predictor() -> Any:
    return dspy.Predict("question -> answer")


def test_the_lm_of_a_predictor_is_taken_by_its_model_alone(tmp_path: Path) -> None:
    lm = dspy.LM("scripted/trained-before", api_base="http://elsewhere/v1", api_key="sk-canary-4711", max_tokens=7)
    saved(tmp_path / "old.json", change=lambda p: p.set_lm(lm))
    result = begun(tmp_path, "old.json", DEMOS)
    assert result.stages[1].taken.lms == {"ask": "scripted/trained-before"}
    assert result.stages[1].program.ask.lm.kwargs.get("api_base") is None
    assert result.stages[2].program.ask.lm.model == "scripted/trained-before"
    text = "".join(path.read_text() for path in journal(tmp_path).folder.rglob("*.json"))
    assert "elsewhere" not in text
    assert "canary" not in text


def test_a_killed_run_is_gone_on_with_where_the_program_is_the_same(tmp_path: Path) -> None:
    saved(tmp_path / "old.json")
    whole = begun(tmp_path / "whole", tmp_path / "old.json", DEMOS)
    stop = [60]

    def interrupting(model: str, inputs: Any, demos: int) -> Any:
        if len(engine.requests) >= stop[0]:
            raise Interrupted("stopped by the test")
        return answer(model, inputs, demos)

    engine = ScriptedEngine(interrupting)
    with pytest.raises(Interrupted):
        begun(tmp_path, "old.json", DEMOS, engine=engine)
    stop[0] = 10**6
    result = begun(tmp_path, "old.json", DEMOS, engine=engine)
    assert len(list((tmp_path / ".cascade/runs/x").iterdir())) == 1
    assert [stage.taken for stage in result.stages] == [stage.taken for stage in whole.stages]
    assert len(engine.requests) == whole.spent.lm_calls


def test_another_program_is_another_definition(tmp_path: Path) -> None:
    engine = ScriptedEngine(answer)
    saved(tmp_path / "old.json")
    signatures = [scripted.prepared(scripted.experiment(DEMOS, start=start), tmp_path, engine).signature
                  for start in (None, "old.json", "old.json")]  # fmt: skip
    saved(tmp_path / "old.json", demos=3)
    signatures.append(scripted.prepared(scripted.experiment(DEMOS, start="old.json"), tmp_path, engine).signature)
    assert signatures[1] == signatures[2]
    assert len(set(signatures)) == 3


def test_a_budget_must_pay_for_judging_it(tmp_path: Path) -> None:
    saved(tmp_path / "old.json")
    with pytest.raises(ExperimentError, match=r"lm_calls = 140 does not even .*: twice 40 calls on dev .* than 160\."):
        begun(tmp_path, "old.json", DEMOS, budget=Budget(lm_calls=140))


class Two(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask, self.check = dspy.Predict("question -> answer"), dspy.Predict("answer -> sure")

    def forward(self, question: str) -> Any:
        return self.check(answer=self.ask(question=question).answer)


def text(content: str | bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / "x.json").write_bytes(content.encode() if isinstance(content, str) else content)
        return "x.json"

    return write


def dumped(program: Any, name: str = "x.json", **change: Any) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        program.save(folder / name)
        if change:
            (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), **change}))
        return name

    return write


def whole_program(folder: Path) -> str:
    scripted.Asks().save(folder / "whole", save_program=True)
    return "whole"


def with_function(folder: Path) -> str:
    saved(folder / "x.json")
    state = json.loads((folder / "x.json").read_text())
    state["ask"]["nearest"] = {"rows": [], "inputs": ["question"], "k": 1, "order": "rows",
                               "embedder": "os:system", "vectors": []}  # fmt: skip
    (folder / "x.json").write_text(json.dumps(state))
    return "x.json"


class Renamed(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("query -> answer")


class Wider(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question, context -> answer")


PICKLED = r"is a pickle, which can run any code when it is read\. Save it as JSON: program\.save\(\"x\.json\"\)\."
REFUSED: list[tuple[str, Callable[[Path], str], str]] = [
    ("missing", lambda _: "nothing.json", r"start = 'nothing\.json' cannot be read: No such file"),
    ("no JSON", text("{not json"), r"start = 'x\.json' is not JSON: .*Save it as JSON"),
    ("bytes", text(b"\xff\xfe\x00garbage"), r"start = 'x\.json' is not JSON"),
    ("deep", text("[" * 100_000), r"start = 'x\.json' is not JSON"),
    ("list", text("[1, 2]"), r"start = 'x\.json' holds no saved DSPy program\. Save"),
    ("empty", text("{}"), r"holds no saved DSPy program: it has no predictor"),
    ("other JSON", text('{"a": 1}'), r"holds no saved DSPy program \(a: "),
    ("no signature", text('{"ask": {"demos": []}}'), r"does not fit the program: its predictor 'ask' has no signature"),
    ("broken", text('{"ask": {"signature": {"instructions": 1}}}'), r"no saved DSPy program \(signature\.instructions"),
    ("pickle", dumped(scripted.Asks(), "x.pkl"), f"start = 'x.pkl' {PICKLED}"),
    ("pickle by content", text(b"\x80\x05nothing"), f"start = 'x.json' {PICKLED}"),
    ("whole program", whole_program, f"start = 'whole' {PICKLED}"),
    ("predictor missing", dumped(dspy.ChainOfThought("question -> answer")),
     r"start = 'x\.json' does not fit the program: it has no predictor 'ask'\. Found: predict\. Begin from"),
    ("predictor more", dumped(Two()), r"it has a predictor 'check', the program has ask\. Begin"),
    ("fields renamed", dumped(Renamed()), r"its predictor 'ask' has a field 'Query:' where the program has 'question'"),
    ("fields more", dumped(Wider()), r"its predictor 'ask' has 3 fields, the program's has 2: question, answer"),
    ("function", with_function, r"has the function 'os:system' as embedder, which is not run"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("_name", "make", "told"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_what_is_no_program_of_the_experiment_is_refused_in_a_line(
    tmp_path: Path, _name: str, make: Callable[[Path], str], told: str
) -> None:
    engine = ScriptedEngine(answer)
    with pytest.raises(ExperimentError, match=told) as caught:
        begun(tmp_path, make(tmp_path), DEMOS, engine=engine)
    assert "\n" not in str(caught.value)
    assert not engine.requests
    assert not (tmp_path / ".cascade/runs").exists()


def test_a_prefix_that_an_optimizer_changed_is_no_other_field(tmp_path: Path) -> None:
    def change(program: Any) -> None:
        program.ask.signature = program.ask.signature.with_updated_fields("answer", prefix="Shortly:")

    saved(tmp_path / "old.json", change=change)
    result = begun(tmp_path, "old.json")
    assert result.stages[1].program.ask.signature.fields["answer"].json_schema_extra["prefix"] == "Shortly:"


LMS = [
    ("embedded/smollm2-135m-0123456789ab", r"its predictor 'ask' runs under 'embedded/smollm2-135m-0123456789ab'\. No embedded model .* Weights that a run trained come with its model: models:/NAME/VERSION\. To run it under the LM 'task', write \"lm\": null"),
    ("openai/gpt-4o-mini", r"runs under 'openai/gpt-4o-mini'\. 'openai/gpt-4o-mini' needs OPENAI_API_KEY, which is not set\. Set it in the environment\. To run"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "told"), LMS)
def test_an_lm_that_is_not_there_is_said_before_anything_is_spent(
    tmp_path: Path, model: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cascade.lm.lms import LMs
    from cascade.warm import begun_from

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    saved(tmp_path / "old.json")
    state = json.loads((tmp_path / "old.json").read_text())
    state["ask"]["lm"] = {"model": model}
    (tmp_path / "old.json").write_text(json.dumps(state))
    existing = read_file("old.json", tmp_path, tmp_path / ".cascade")
    with pytest.raises(ExperimentError, match=told):
        begun_from(existing, scripted.experiment(DEMOS), LMs(scripted.settings_in(tmp_path)))


def test_a_stage_must_not_be_called_start_then() -> None:
    taken = Stage("start", dspy.LabeledFewShot)
    with pytest.raises(ExperimentError, match="stage name 'start' is used twice"):
        scripted.experiment(taken, start="x.json")
    assert scripted.experiment(taken)


def test_an_own_run_may_name_a_function_of_the_project_as_embedder(tmp_path: Path) -> None:
    state = json.loads(saved(tmp_path / "x.json").read_text())
    state["ask"]["nearest"] = {"rows": scripted.rows("shown", 3), "inputs": ["question"], "k": 1, "order": "rows",
                               "embedder": "test_warm:vectors", "vectors": [[1.0]] * 3}  # fmt: skip
    folder = tmp_path / ".cascade/runs/x/20260101-000000-0000/1-near"
    folder.mkdir(parents=True)
    (folder / "program.json").write_text(json.dumps(state))
    assert read_file(folder, tmp_path, tmp_path / ".cascade").ours
    assert begun(tmp_path, folder).stages[1].dev.mean


def vectors(texts: list[str]) -> list[list[float]]:
    return [[1.0] for _ in texts]


def test_a_plan_shows_what_judging_it_may_take(tmp_path: Path) -> None:
    from cascade.forecast import forecast

    saved(tmp_path / "old.json")
    defined: Experiment = scripted.experiment(DEMOS, start="old.json")
    made = scripted.prepared(defined, tmp_path, ScriptedEngine(answer))
    rows = {row.name: row.bound.total for row in forecast(made).rows}
    assert rows == {"0-baseline": 40, "1-start": 40, "2-demos": 40, "test": 80}
    assert isinstance(made.lms, ScriptedLMs)
