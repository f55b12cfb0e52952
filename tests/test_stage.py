"""One stage: what an optimizer is given, what it may not touch, and what it leaves behind."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import dspy
import pytest
import scripted
from dspy.teleprompt.teleprompt import Teleprompter

from cascade.building import Workshop, build, carve
from cascade.errors import BudgetSpent, StageFailed
from cascade.experiment import Budget, Stage
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.program import restore, snapshot
from cascade.settings import LMSpec
from cascade.stage import Bench, best_so_far, optimize
from cascade.testing import ScriptedEngine, ScriptedLMs


def workshop(folder: Path, answer: Callable[..., Any] = scripted.answer, train: int = 24, **lm: str) -> Workshop:
    specs = {name: LMSpec(model) for name, model in lm.items()}
    lms = ScriptedLMs(scripted.settings_in(folder, lm=specs), ScriptedEngine(answer))
    return Workshop(
        scripted.Asks, scripted.right, scripted.split("train", train), lms, 3, folder / "log" / "optimizer.log"
    )


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Callable[..., Workshop]]:
    """Makes a workshop whose LMs are DSPy's for the rest of the test."""
    entered: list[Any] = []

    def make(*args: Any, **options: Any) -> Workshop:
        made = workshop(tmp_path, *args, **options)
        ledger = Ledger(tmp_path / "ledger.db")
        entered.extend([installed(Gateway(ledger, Meter(Budget()))),
                        dspy.context(lm=made.lms["task"], adapter=made.lms.adapter, num_threads=4, max_errors=10_000)])  # fmt: skip
        for manager in entered:
            manager.__enter__()
        entered.insert(0, _Closing(ledger))
        return made

    yield make
    for manager in reversed(entered):
        manager.__exit__(None, None, None)


class _Closing:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def __exit__(self, *_: object) -> None:
        self.ledger.close()


def incumbent(lms: Any = None, model: str | None = None) -> Any:
    """A program that earlier stages have worked on: instructions, two demos, perhaps its own weights; compiled."""
    program = scripted.Asks()
    program.ask.signature = program.ask.signature.with_instructions("Say one of a, b, c, d. Version 7.")
    program.ask.demos = [dspy.Example(question=f"earlier {n}", answer="b", augmented=True) for n in range(2)]
    if lms is not None and model:
        program.ask.lm = lms.by_model(model)
    program._compiled = True
    program.ask._compiled = True
    return program


class Recording(Teleprompter):
    """Notes what it is given and returns its student, changed as told."""

    seen: ClassVar[dict[str, Any]] = {}
    change: ClassVar[Callable[[Any], Any]] = lambda student: student

    def __init__(self, metric: Any = None, prompt_model: Any = None, task_model: Any = None, num_threads: int = 0,
                 max_errors: int = 0, seed: int = 0, flavour: str = "plain") -> None:  # fmt: skip
        super().__init__()
        type(self).seen = {"init": {k: v for k, v in locals().items() if k not in ("self", "__class__")}}

    def compile(self, student: Any, *, trainset: Any, valset: Any = None, teacher: Any = None, depth: int = 1) -> Any:
        type(self).seen["compile"] = {
            "student": student,
            "trainset": trainset,
            "valset": valset,
            "teacher": teacher,
            "depth": depth,
        }
        return type(self).change(student)


def recording(change: Callable[[Any], Any] = lambda student: student, **options: Any) -> tuple[type[Recording], Stage]:
    made = type("Recording", (Recording,), {"change": staticmethod(change), "seen": {}})
    return made, Stage("recorded", made, **{"lever": "prompt", **options})


STAGES = {
    "MIPROv2": Stage("s", dspy.MIPROv2, auto="light"),
    "BootstrapFewShot": Stage("s", dspy.BootstrapFewShot),
    "BetterTogether": scripted.FOUR_STAGES[2],
    "BetterTogether p -> w -> p": Stage("s", dspy.BetterTogether, strategy="p -> w -> p",
                                        p=Stage("p", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=1), w=Stage("w", dspy.BootstrapFinetune)),
    "BootstrapFinetune": Stage("s", dspy.BootstrapFinetune),
}  # fmt: skip
each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())


@each_stage
def test_a_stage_starts_from_the_incumbent_and_leaves_it_alone(ready: Callable[..., Workshop], stage: Stage) -> None:
    shop = ready()
    before = incumbent(shop.lms, "scripted/trained-earlier")
    digest, lm, demos = snapshot(before).digest, before.ask.lm, list(before.ask.demos)
    bench = Bench()
    made = optimize(stage, before, shop, bench)
    assert snapshot(before).digest == digest
    assert (before.ask.lm is lm, before.ask.demos == demos, before._compiled, before.ask._compiled) == (True,) * 4
    assert made is not before
    tried = [made, *(_restored(candidate, shop, before) for candidate in bench.candidates)]
    assert any("Version 7." in program.ask.signature.instructions for program in tried)
    assert all(program.ask.lm.model.startswith("scripted/trained-") for program in tried)


def _restored(candidate: Any, shop: Workshop, before: Any = None) -> Any:
    return best_so_far(Bench(candidates=[candidate]), before or scripted.Asks(), shop)


@each_stage
def test_its_first_candidate_is_the_incumbent_itself(ready: Callable[..., Workshop], stage: Stage) -> None:
    shop = ready()
    before, bench = incumbent(shop.lms, "scripted/trained-earlier"), Bench()
    optimize(stage, before, shop, bench)
    if stage.optimizer in (dspy.BootstrapFewShot, dspy.BootstrapFinetune):
        assert bench.candidates == []
        return
    first = bench.candidates[0].state
    assert first["lms"] == {"ask": "scripted/trained-earlier"}
    assert "Version 7." in first["state"]["ask"]["signature"]["instructions"]
    assert {demo["question"] for demo in first["state"]["ask"]["demos"]} >= {"earlier 0", "earlier 1"}


def test_finetuning_trains_what_the_incumbent_was_trained_to_and_keeps_its_prompt(
    ready: Callable[..., Workshop],
) -> None:
    shop = ready()
    before = incumbent(shop.lms, "scripted/trained-earlier")
    made = optimize(STAGES["BootstrapFinetune"], before, shop)
    assert made.ask.lm.model not in ("scripted/trained-earlier", "scripted/base")
    assert made.ask.lm.model.startswith("scripted/trained-")
    assert [demo["question"] for demo in made.ask.demos] == ["earlier 0", "earlier 1"]
    assert made.ask.signature.instructions == before.ask.signature.instructions


@pytest.mark.parametrize("model", [None, "scripted/trained-earlier"])
def test_an_optimizer_that_drops_lms_does_not_lose_them(ready: Callable[..., Workshop], model: str | None) -> None:
    shop = ready()
    before = incumbent(shop.lms, model)
    made = optimize(STAGES["BootstrapFewShot"], before, shop)
    assert snapshot(made).lms == ({"ask": model} if model else {})
    assert len(made.ask.demos) >= 2
    assert made.ask.lm is before.ask.lm


def test_an_optimizer_gets_what_it_asks_for_by_name(ready: Callable[..., Workshop]) -> None:
    shop = ready(teacher="scripted/big", prompt="scripted/writer")
    optimizer, stage = recording(flavour="sour", depth=4)
    before = incumbent(shop.lms)
    optimize(stage, before, shop)
    made, compiled = optimizer.seen["init"], optimizer.seen["compile"]
    assert made["prompt_model"].model == "scripted/writer"
    assert made["task_model"].model == "scripted/base"
    assert (made["num_threads"], made["seed"], made["flavour"], compiled["depth"]) == (4, 3, "sour", 4)
    assert made["max_errors"] > 1000
    example = dspy.Example(question="x", answer="b").with_inputs("question")
    assert made["metric"](example, dspy.Prediction(answer="b")) == 1.0
    assert made["metric"](example, dspy.Prediction(answer="c"), []) is False
    assert (len(compiled["trainset"]), len(compiled["valset"])) == (17, 7)
    assert {e.question for e in compiled["trainset"]}.isdisjoint({e.question for e in compiled["valset"]})
    assert compiled["teacher"].ask.lm.model == "scripted/big"
    assert compiled["teacher"].ask.demos == before.ask.demos
    student = compiled["student"]
    assert student is not before
    assert (student._compiled, student.ask._compiled, student.ask.lm) == (False, False, None)


def test_the_same_model_under_other_options_is_a_teacher_of_its_own(ready: Callable[..., Workshop]) -> None:
    optimizer, stage = recording()
    shop = ready()
    warm = LMSpec(shop.lms.model("task"), {"temperature": 0.7})
    lms = ScriptedLMs(dataclasses.replace(shop.lms.settings, lm={"teacher": warm}), ScriptedEngine(scripted.answer))
    optimize(stage, scripted.Asks(), dataclasses.replace(shop, lms=lms))
    assert optimizer.seen["compile"]["teacher"].ask.lm is lms["teacher"]


def test_without_a_teacher_of_its_own_none_is_given(ready: Callable[..., Workshop]) -> None:
    optimizer, stage = recording()
    optimize(stage, scripted.Asks(), ready())
    assert optimizer.seen["compile"]["teacher"] is None


def test_what_the_stage_says_wins(ready: Callable[..., Workshop]) -> None:
    valset = scripted.split("own", 3).examples()
    optimizer, stage = recording(seed=9, num_threads=1, valset=valset)
    optimize(stage, scripted.Asks(), ready())
    assert (optimizer.seen["init"]["seed"], optimizer.seen["init"]["num_threads"]) == (9, 1)
    assert (optimizer.seen["compile"]["valset"], len(optimizer.seen["compile"]["trainset"])) == (valset, 24)


@pytest.mark.parametrize(
    ("lever", "model"), [("weights", "scripted/base"), ("both", "scripted/base"), ("prompt", None)]
)
def test_only_stages_that_change_weights_pin_the_student_s_lm(
    ready: Callable[..., Workshop], lever: str, model: str | None
) -> None:
    optimizer, stage = recording(lever=lever)
    made = optimize(stage, scripted.Asks(), ready())
    lm = optimizer.seen["compile"]["student"].ask.lm
    assert (lm.model if lm else None) == model
    assert snapshot(made).lms == {}


def test_a_cheaper_stage_puts_the_student_s_lm_to_work_under_the_incumbent_as_teacher(
    ready: Callable[..., Workshop],
) -> None:
    optimizer, stage = recording(aim="cheaper", lever="weights")
    shop = ready(student="scripted/small")
    made = optimize(stage, incumbent(shop.lms, "scripted/trained-earlier"), shop)
    seen = optimizer.seen["compile"]
    assert (seen["student"].ask.lm.model, seen["teacher"].ask.lm.model) == (
        "scripted/small",
        "scripted/trained-earlier",
    )
    assert snapshot(made).lms == {"ask": "scripted/small"}


def test_nested_stages_are_built_from_the_same_supplies_and_keep_their_options() -> None:
    inner, nested = recording(flavour="sweet")
    metric, threads = object(), 6
    optimizer, arguments = build(
        Stage("s", dspy.BetterTogether, strategy="p", p=nested),
        {"metric": metric, "num_threads": threads, "seed": 3, "trainset": [1]},
    )
    assert optimizer.metric is metric
    assert inner.seen["init"] == {"metric": metric, "prompt_model": None, "task_model": None, "num_threads": 6,
                                  "max_errors": 0, "seed": 3, "flavour": "sweet"}  # fmt: skip
    assert arguments == {
        "strategy": "p",
        "num_threads": threads,
        "seed": 3,
        "trainset": [1],
        "optimizer_compile_args": {"p": {}},
    }


def test_options_of_a_nested_compile_reach_it(ready: Callable[..., Workshop]) -> None:
    inner, nested = recording(depth=5)
    optimize(Stage("s", dspy.BetterTogether, strategy="p", p=nested), scripted.Asks(), ready())
    assert inner.seen["compile"]["depth"] == 5


def test_a_teacher_reaches_nested_optimizers(ready: Callable[..., Workshop]) -> None:
    shop = ready(teacher="scripted/big")
    assert optimize(STAGES["BetterTogether"], scripted.Asks(), shop) is not None


def test_every_stage_gets_a_fresh_optimizer() -> None:
    stage, supplies = STAGES["BootstrapFewShot"], {"metric": print}
    assert build(stage, supplies)[0] is not build(stage, supplies)[0]


def test_candidates_come_with_score_n_and_a_state_that_loads(ready: Callable[..., Workshop]) -> None:
    shop, told = ready(), []
    bench = Bench(told.append)
    optimize(STAGES["MIPROv2"], scripted.Asks(), shop, bench)
    assert told == bench.candidates
    assert len(bench.candidates) >= 5
    assert [candidate.step for candidate in bench.candidates] == list(range(len(bench.candidates)))
    for candidate in bench.candidates:
        assert 0 <= candidate.score <= 1
        assert candidate.n == 7
        assert candidate.score * candidate.n == pytest.approx(round(candidate.score * candidate.n), abs=0.01)
        taken = candidate.state
        assert snapshot(_restored(candidate, shop)).to_json() == taken
    first = bench.candidates[0]
    learn, validate = carve(shop.train, shop.seed)
    program = _restored(first, shop)
    assert first.score == pytest.approx(sum(program(**e.inputs()).answer == e.answer for e in validate) / 7, abs=1e-4)
    assert len(learn) == 17


def test_the_best_candidate_so_far_is_the_one_on_most_examples_then_the_best(ready: Callable[..., Workshop]) -> None:
    shop = ready()
    bench = Bench()
    optimize(STAGES["MIPROv2"], scripted.Asks(), shop, bench)
    import dataclasses

    short = dataclasses.replace(bench.candidates[-1], n=3, score=1.0)
    low, high = (dataclasses.replace(c, n=7, score=s) for c, s in zip(bench.candidates[:2], (0.1, 0.2), strict=True))
    found = best_so_far(Bench(candidates=[short, low, high]), scripted.Asks(), shop)
    assert snapshot(found).to_json() == high.state
    nothing = scripted.Asks()
    assert best_so_far(Bench(), nothing, shop) is nothing


def garbles(model: str, inputs: Any, demos: int) -> Any:
    return "garbage" if inputs.get("question") == "train 5" else scripted.answer(model, inputs, demos)


@each_stage
def test_one_answer_in_no_format_does_not_sink_a_stage(ready: Callable[..., Workshop], stage: Stage) -> None:
    shop, bench = ready(garbles), Bench()
    made = optimize(stage, incumbent(), shop, bench)
    assert isinstance(made, scripted.Asks)
    assert all(0 <= candidate.score <= 1 for candidate in bench.candidates)
    assert all(demo["question"] != "train 5" for demo in made.ask.demos)


def test_rows_in_no_format_are_not_trained_on(ready: Callable[..., Workshop]) -> None:
    shop = ready(garbles)
    optimize(STAGES["BootstrapFinetune"], scripted.Asks(), shop)
    written = [path.read_text() for path in (shop.lms.settings.home / "trained").iterdir()]
    assert len(written) == 1
    assert "train 5" not in written[0]
    good = [
        n
        for n in range(24)
        if n != 5
        and scripted.answer("scripted/base", {"question": f"train {n}"}, 0)["answer"] == scripted.gold(f"train {n}")
    ]
    assert written[0].count("[[ ## question ## ]]") >= len(good) > 0
    assert [n for n in good if f"train {n}\\n" not in written[0]] == []


FAILING: list[tuple[Any, Stage, str]] = [
    (lambda model, inputs, demos: {"answer": "wrong"}, STAGES["BootstrapFinetune"], "None of 24 training answers was good enough to learn from"),
    (lambda model, inputs, demos: "garbage", STAGES["BootstrapFinetune"], "None of 24 training examples was answered in the right format"),
    (lambda model, inputs, demos: {"answer": "wrong"}, STAGES["BetterTogether"], "was good enough to learn from"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "stage", "told"), FAILING)
def test_with_no_row_to_learn_from_the_stage_fails_and_says_why(
    ready: Callable[..., Workshop], answer: Any, stage: Stage, told: str
) -> None:
    shop = ready(answer)
    with pytest.raises(StageFailed) as caught:
        optimize(stage, scripted.Asks(), shop)
    message = str(caught.value)
    assert message.startswith(f"Stage {stage.name!r}: ")
    assert told in message
    assert "\n" not in message
    assert not (shop.lms.settings.home / "trained").exists()


def _raises(error: BaseException) -> Callable[[Any], Any]:
    def change(student: Any) -> Any:
        raise error

    return change


def _instance_state(student: Any) -> Any:
    """Puts something into the state that `load_state` does not bring back."""
    student.extra = dspy.Predict("question -> other")
    return student


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_raises(ValueError("no\nluck")), "Stage 'recorded': ValueError: no luck"),
        (_raises(StageFailed("No row.")), "Stage 'recorded': No row."),
        (_instance_state, "Stage 'recorded': The result does not survive saving and loading: 'extra'"),
        (lambda student: None, "Stage 'recorded': "),
    ],
)
def test_an_optimizer_that_fails_is_named(ready: Callable[..., Workshop], change: Any, told: str) -> None:
    _, stage = recording(change)
    with pytest.raises(StageFailed) as caught:
        optimize(stage, scripted.Asks(), ready())
    assert str(caught.value).startswith(told)


def test_a_failing_nested_optimizer_fails_the_stage_with_its_reason(ready: Callable[..., Workshop]) -> None:
    _, nested = recording(_raises(ValueError("no luck")))
    with pytest.raises(StageFailed, match=r"Stage 's': .*no luck"):
        optimize(Stage("s", dspy.BetterTogether, strategy="p", p=nested), scripted.Asks(), ready())


def test_an_order_to_stop_is_not_turned_into_a_failure(ready: Callable[..., Workshop]) -> None:
    _, stage = recording(_raises(BudgetSpent("calls")))
    with pytest.raises(BudgetSpent, match="calls"):
        optimize(stage, scripted.Asks(), ready())


def test_the_result_is_rebuilt_from_its_state(ready: Callable[..., Workshop]) -> None:
    kept: list[Any] = []

    def change(student: Any) -> Any:
        student.ask.signature = student.ask.signature.with_instructions("Guess.")
        student.note = "not saved"
        kept.append(student)
        return student

    made = optimize(recording(change)[1], scripted.Asks(), ready())
    assert made is not kept[0]
    assert not hasattr(made, "note")
    assert made.ask.signature.instructions == "Guess."


def test_what_optimizers_print_goes_into_the_log(
    ready: Callable[..., Workshop], capsys: pytest.CaptureFixture[str]
) -> None:
    def change(student: Any) -> Any:
        print("chatter")
        return student

    shop = ready()
    optimize(recording(change)[1], scripted.Asks(), shop)
    assert "chatter" in shop.log.read_text()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_carving_keeps_groups_together_and_is_deterministic(seed: int) -> None:
    groups = tuple(f"g{n // 4}" for n in range(40))
    train = scripted.split("train", 40, groups)
    learn, validate = carve(train, seed)
    owner = {row["question"]: group for row, group in zip(train.rows, groups, strict=True)}
    assert {owner[e.question] for e in learn}.isdisjoint({owner[e.question] for e in validate})
    assert (len(learn), len(validate)) == (28, 12)
    again = carve(train, seed)
    assert [[e.question for e in part] for part in again] == [[e.question for e in part] for part in (learn, validate)]


def test_another_seed_carves_otherwise() -> None:
    train = scripted.split("train", 40)
    assert len({tuple(e.question for e in carve(train, seed)[1]) for seed in range(5)}) == 5


def test_a_snapshot_restores_under_other_lms(ready: Callable[..., Workshop]) -> None:
    shop = ready()
    taken = snapshot(incumbent(shop.lms, "scripted/trained-earlier"))
    again = restore(scripted.Asks, taken, shop.lms.by_model)
    assert snapshot(again).digest == taken.digest
