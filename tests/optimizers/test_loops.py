"""What optimizers really ask for on scripted models, against what may be asked for at most.

Everything that reaches the gateway is counted, whether a model or the ledger answers it.
"""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy
import pytest
import scripted

from cascade.bounds import Bound, Calls, most_calls, of_stage
from cascade.building import Workshop
from cascade.check import prepare
from cascade.errors import StageFailed
from cascade.evaluation import evaluate
from cascade.experiment import Budget, Stage
from cascade.lm.call import CALL
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.settings import LMSpec
from cascade.stage import optimize
from cascade.testing import ScriptedEngine, ScriptedLMs


class Two(dspy.Module):
    """Two predictors, each called once."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("question -> hint")
        self.ask = dspy.Predict("question, hint -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question, hint=self.think(question=question).hint)


class Loops(dspy.Module):
    """One predictor, called one to three times."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question, turn -> answer")

    def forward(self, question: str) -> Any:
        answers = [self.ask(question=question, turn=str(turn)) for turn in range(1 + len(question) % 3)]
        return answers[-1]


def helpful(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str] | str:
    """Answers as often as a model does that learns from demos, and proposes in the form that is asked for."""
    if "current_instruction" in inputs:
        return json.dumps({"new_instruction": f"Instruction {len(inputs['current_instruction'])}."})
    if "better_program_outputs" in inputs:
        return {"discussion": "It failed.", "module_advice": json.dumps({"ask": "Look."})}
    return scripted.answer(model, inputs, demos)


def wrong(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str] | str:
    """Never right, so that nothing stops early."""
    return {"answer": "wrong"} if "question" in inputs else helpful(model, inputs, demos)


def garbled(model: str, inputs: Mapping[str, str], demos: int) -> str:
    """Never in any format."""
    return "garbage"


def fickle(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str] | str:
    """Another answer each time, as at a temperature: what `dspy.SIMBA` makes rules of."""
    right = {"answer": scripted.gold(inputs["question"])} if "question" in inputs and next(TURNS) % 2 else None
    return right or wrong(model, inputs, demos)


def half_garbled(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str] | str:
    return "garbage" if scripted.luck(model, *inputs.values(), demos) < 0.5 else helpful(model, inputs, demos)


TURNS = itertools.count()


class AskingAgain(ScriptedLMs):
    """Under DSPy's default adapter, which asks again in JSON."""

    @property
    def adapter(self) -> Any:
        return dspy.ChatAdapter()


class Counting(Gateway):
    """Counts what is asked by role."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger, Meter(Budget()))
        self.asked: Counter[str] = Counter()
        self._counting = threading.Lock()

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        if call := CALL.get():
            with self._counting:
                self.asked[call.role] += 1
        return super().get(request, ignored_args_for_cache_key)


@dataclass(frozen=True)
class Measured:
    asked: Calls
    billed: Calls
    bound: Bound
    failed: str

    def holds(self) -> bool:
        at_most = self.bound.at_most
        assert at_most is not None
        return all(
            billed <= asked <= bound
            for billed, asked, bound in zip(*map(_values, (self.billed, self.asked, at_most)), strict=True)
        )


def _values(calls: Calls) -> tuple[int, int, int]:
    return calls.task, calls.prompt, calls.teacher


def _by_role(counted: Mapping[str, int]) -> Calls:
    prompt, teacher = counted.get("prompt", 0), counted.get("teacher", 0)
    return Calls(sum(counted.values()) - prompt - teacher, prompt, teacher)


def measured(
    stage: Stage, *, program: Any = scripted.Asks, answer: Any = helpful, train: int = 18, seed: int = 3,
    again: bool = False, teacher: bool = False,
) -> Measured:  # fmt: skip
    """Run the stage's optimizer from the bare program, after a look at what one run of it takes."""
    with TemporaryDirectory() as name:
        folder, failed = Path(name), ""
        said = scripted.settings_in(
            folder, seed=seed, threads=1, lm={"teacher": LMSpec("scripted/big")} if teacher else {}
        )
        lms = (AskingAgain if again else ScriptedLMs)(said, ScriptedEngine(answer))
        prepared = prepare(scripted.experiment(stage, program=program, train=train, dev=20, test=20), said, lms)
        ledger = Ledger(folder / "ledger.db")
        gateway = Counting(ledger)
        with (
            installed(gateway),
            dspy.context(lm=lms["task"], adapter=lms.adapter, num_threads=1, max_errors=10_000, disable_history=True),
        ):
            dev = evaluate(program(), prepared.data.dev, scripted.right)
            looked = Counter(gateway.asked), Counter(gateway.meter.by_role)
            shop = Workshop(program, scripted.right, prepared.data.train, lms, seed, folder / "log")
            try:
                optimize(stage, program(), shop)
            except StageFailed as error:
                failed = str(error)
        ledger.close()
        asked, billed = gateway.asked - looked[0], gateway.meter.by_role - looked[1]
        bound = of_stage(stage, prepared, most_calls(dev, prepared.program))
        return Measured(_by_role(asked), _by_role(billed), bound, failed)


EXAMPLES = scripted.split("own", 9).examples()
SMALL = dspy.BootstrapFewShotWithRandomSearch
CLASSIC = {
    "MIPROv2": Stage("s", dspy.MIPROv2, auto="light"),
    "BootstrapFewShot": Stage("s", dspy.BootstrapFewShot),
    "BetterTogether": scripted.FOUR_STAGES[2],
    "BootstrapFinetune": Stage("s", dspy.BootstrapFinetune),
}
STAGES = {
    **CLASSIC,
    "MIPROv2 without demos": Stage("s", dspy.MIPROv2, max_bootstrapped_demos=0, max_labeled_demos=0),
    "MIPROv2 without labels": Stage("s", dspy.MIPROv2, max_labeled_demos=0, data_aware_proposer=False),
    "MIPROv2 medium": Stage("s", dspy.MIPROv2, auto="medium", trainset=EXAMPLES[:6], valset=EXAMPLES[:2]),
    "MIPROv2 heavy": Stage("s", dspy.MIPROv2, auto="heavy", trainset=EXAMPLES[:5], valset=EXAMPLES[:1], view_data_batch_size=2),
    "MIPROv2 by minibatches": Stage("s", dspy.MIPROv2, auto=None, num_candidates=4, num_trials=7, minibatch_size=3, minibatch_full_eval_steps=2),
    "MIPROv2 by other minibatches": Stage("s", dspy.MIPROv2, auto=None, num_candidates=2, num_trials=6, minibatch_size=2, minibatch_full_eval_steps=3),
    "MIPROv2 on all of val": Stage("s", dspy.MIPROv2, auto=None, num_candidates=3, num_trials=4, minibatch=False, valset=None),
    "BootstrapFewShot that tries again": Stage("s", dspy.BootstrapFewShot, max_rounds=3, max_labeled_demos=2),
    "BootstrapFewShot without labels": Stage("s", dspy.BootstrapFewShot, max_labeled_demos=0, max_bootstrapped_demos=2),
    "BootstrapFewShot without demos": Stage("s", dspy.BootstrapFewShot, max_bootstrapped_demos=0),
    "random search": Stage("s", SMALL, num_candidate_programs=2, max_rounds=2),
    "random search over some": Stage("s", SMALL, num_candidate_programs=4, restrict=[-3, -1, 2], valset=None),
    "BetterTogether there and back": Stage("s", dspy.BetterTogether, strategy="p -> w -> p",
                                           p=Stage("p", SMALL, num_candidate_programs=1), w=Stage("w", BootstrapFinetune, max_labeled_rows=4)),
    "BetterTogether by default": Stage("s", dspy.BetterTogether, strategy="w", valset=None, valset_ratio=0.3),
    "BetterTogether with arguments": Stage("s", dspy.BetterTogether, strategy="m", m=Stage("m", dspy.MIPROv2, auto=None, num_candidates=2),
                                           optimizer_compile_args={"m": {"num_trials": 2, "minibatch": False, "trainset": EXAMPLES, "valset": EXAMPLES[:4]}}),
    "BetterTogether of others": Stage("s", dspy.BetterTogether, strategy="c -> m", c=Stage("c", dspy.COPRO, breadth=2, depth=1),
                                      m=Stage("m", dspy.MIPROv2, num_candidates=2, auto=None, num_trials=3, minibatch=False)),
    "BootstrapFinetune with labels": Stage("s", BootstrapFinetune, max_labeled_rows=3),
    "GEPA light": Stage("s", dspy.GEPA, auto="light", valset=EXAMPLES[:1], reflection_minibatch_size=20),
    "GEPA by full evaluations": Stage("s", dspy.GEPA, max_full_evals=3, component_selector="all"),
    "GEPA by calls": Stage("s", dspy.GEPA, max_metric_calls=41, reflection_minibatch_size=4, skip_perfect_score=False),
    "GEPA below one evaluation": Stage("s", dspy.GEPA, max_metric_calls=2),
    "SIMBA": Stage("s", dspy.SIMBA, bsize=6, max_steps=2, num_candidates=2),
    "SIMBA of rules": Stage("s", dspy.SIMBA, bsize=4, max_steps=2, num_candidates=3, max_demos=0),
    "COPRO": Stage("s", dspy.COPRO, breadth=2, depth=2),
    "InferRules": Stage("s", dspy.InferRules, num_candidates=3),
    "InferRules from four": Stage("s", dspy.InferRules, num_candidates=3, trainset=EXAMPLES[:4]),
    "InferRules without val": Stage("s", dspy.InferRules, num_candidates=2, valset=None),
    "LabeledFewShot": Stage("s", dspy.LabeledFewShot, k=3),
    "NearestDemos": Stage("s", NearestDemos),
    "NearestDemos validated on train": Stage("s", NearestDemos, k=2, valset=None),
    "BootstrapFewShotWithOptuna": Stage("s", dspy.BootstrapFewShotWithOptuna, max_demos=2, num_candidate_programs=3),
}  # fmt: skip


GARBLED = [
    *CLASSIC, "MIPROv2 by minibatches", "BootstrapFewShot that tries again", "random search", "GEPA by calls",
    "BetterTogether there and back", "SIMBA of rules", "COPRO", "InferRules",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "garbles"), [*((name, False) for name in STAGES), *((name, True) for name in GARBLED)]
)
def test_what_is_asked_stays_within_the_bound(name: str, garbles: bool) -> None:
    """Under circumstances drawn for each; some models keep no format, or not always."""
    draw = random.Random(f"{name} {garbles}")
    case: dict[str, Any] = {
        "answer": draw.choice([garbled, half_garbled] if garbles else [helpful, wrong, fickle]),
        "program": draw.choice([scripted.Asks, Two, Loops]),
        "train": draw.randint(12, 18),
        "seed": draw.randint(1, 99),
        "again": draw.random() < 0.5,
        "teacher": draw.random() < 0.5,
    }
    found = measured(STAGES[name], **case)
    assert found.holds(), (found, case)
    assert found.asked.total > 0 or found.bound.total == 0


EXACT = [
    ("MIPROv2", Two), ("MIPROv2 without demos", Two), ("MIPROv2 heavy", scripted.Asks),
    ("MIPROv2 by minibatches", scripted.Asks), ("MIPROv2 by other minibatches", Two), ("MIPROv2 on all of val", Two),
    ("BootstrapFewShot", Two), ("BootstrapFewShot that tries again", Two), ("random search", scripted.Asks),
    ("random search over some", Two), ("COPRO", Two), ("BetterTogether of others", scripted.Asks),
    ("GEPA below one evaluation", Two), ("InferRules from four", Two), ("BootstrapFewShotWithOptuna", Two),
    ("NearestDemos", scripted.Asks), ("NearestDemos validated on train", scripted.Asks),
]  # fmt: skip


@pytest.mark.parametrize(("name", "program"), EXACT)
def test_where_nothing_is_ever_right_every_loop_goes_to_its_end(name: str, program: Any) -> None:
    found = measured(STAGES[name], program=program, answer=wrong)
    assert found.failed == ""
    assert found.asked == found.bound.at_most == found.bound.parsed


@pytest.mark.parametrize("name", CLASSIC)
def test_the_bound_is_not_out_of_all_proportion(name: str) -> None:
    """The ordinary case, with the 20 calls that judging takes.

    Alone, `BootstrapFewShot` is as loose as train is large: it stops at four demos, and the bound lets it try every
    example for them. In `BetterTogether` it is a step, and `MIPROv2` makes its demo sets that way; both have more to
    do besides. `BootstrapFinetune` is exact.
    """
    found, judging = measured(CLASSIC[name], train=30), 20
    assert found.bound.total is not None
    assert found.asked.total <= found.bound.total
    assert found.bound.total + judging <= 3 * (found.asked.total + judging)


def test_an_adapter_that_asks_again_doubles_the_bound_and_the_calls_of_a_model_that_keeps_no_format() -> None:
    stage = Stage("s", SMALL, num_candidate_programs=0)
    once, twice = (measured(stage, answer=garbled, again=again) for again in (False, True))
    assert once.bound.parsed == once.bound.at_most == once.asked
    assert twice.asked.task == 2 * once.asked.task
    assert twice.bound.at_most is not None
    # Loose by 2: the baseline's calls were counted with those that asked again.
    assert twice.bound.at_most.task == 2 * twice.asked.task


def test_proposals_that_cannot_be_used_are_asked_for_once_more() -> None:
    """`dspy.GEPA` wants JSON and gets the chat format."""
    found = measured(STAGES["GEPA by calls"], answer=lambda model, inputs, demos: {"answer": "wrong"})
    assert found.holds()
    assert found.bound.at_most is not None
    assert found.bound.parsed.prompt < found.asked.prompt == found.bound.at_most.prompt


def test_rules_that_cannot_be_used_are_asked_for_again_of_every_example() -> None:
    """`dspy.SIMBA` on an odd batch: one of two samples of each example is right, so that each would make a rule."""

    def mute(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str] | str:
        return "garbage" if "better_program_outputs" in inputs else fickle(model, inputs, demos)

    stage = Stage("s", dspy.SIMBA, bsize=5, max_steps=2, num_candidates=2, max_demos=0)
    useful, useless = (measured(stage, answer=answer) for answer in (fickle, mute))
    assert useful.asked.prompt == useful.bound.parsed.prompt == 2 * 3
    assert useless.bound.at_most is not None
    assert useless.asked.prompt == useless.bound.at_most.prompt == 2 * 5


def test_the_teacher_s_calls_are_its_own_where_it_keeps_its_lm() -> None:
    for name in ("BootstrapFewShot without labels", "BootstrapFinetune", "MIPROv2 without demos"):
        found = measured(STAGES[name], teacher=True)
        assert found.asked.teacher > 0, name
        assert found.holds(), name


def test_a_program_that_loops_counts_as_often_as_it_was_seen_to() -> None:
    found = measured(CLASSIC["BootstrapFinetune"], program=Loops, train=24)
    assert found.bound.total == 2 * 24 * 3
    assert found.bound.total / 3 < found.asked.total < found.bound.total
