"""What every optimizer must do as a stage: six properties, looked at on one run each, on scripted models.

The incumbent has instructions, demos and weights of its own and is marked as compiled; two examples of train are
always answered in no format.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy
import scripted

from cascade.building import Workshop, carve
from cascade.errors import StageFailed
from cascade.experiment import Budget, Stage
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.meter import Meter
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.program import Snapshot, restore, snapshot
from cascade.stage import Bench, optimize
from cascade.testing import ScriptedEngine, ScriptedLMs

PROPERTIES = ("starts from incumbent", "LMs kept", "incumbent untouched", "candidates captured", "state round-trips",
              "bad example survived")  # fmt: skip
MARK, TRAINED = "Version 7.", "scripted/trained-earlier"
TRAIN, SEED = scripted.split("train", 24), 3
BAD = frozenset(part[0].question for part in carve(TRAIN, SEED))
"""One of what optimizers learn from, one of what they validate on."""


class OwnOptimizer:
    """Any class with `compile`; this one writes into the signature that it is given, which DSPy lets copies share."""

    lever = "prompt"

    def __init__(self, metric: Any) -> None:
        self.metric = metric

    def compile(self, student: Any, trainset: Any) -> Any:
        for wish in ("Look twice.", "Be brief."):
            student.ask.signature.instructions = f"{student.ask.signature.instructions} {wish}"
            dspy.Evaluate(devset=trainset, metric=self.metric)(student)
        return student


STAGES = {
    "LabeledFewShot": Stage("s", dspy.LabeledFewShot, k=3),
    "BootstrapFewShot": Stage("s", dspy.BootstrapFewShot),
    "BootstrapFewShotWithRandomSearch": Stage("s", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=2),
    "BootstrapFewShotWithOptuna": Stage("s", dspy.BootstrapFewShotWithOptuna, max_demos=2, num_candidate_programs=2),
    "MIPROv2": Stage("s", dspy.MIPROv2, auto="light"),
    "COPRO": Stage("s", dspy.COPRO, breadth=3, depth=2),
    "GEPA": Stage("s", dspy.GEPA, max_metric_calls=60),
    "SIMBA": Stage("s", dspy.SIMBA, bsize=6, max_steps=2, num_candidates=2),
    "InferRules": Stage("s", dspy.InferRules, num_candidates=2),
    "cascade's NearestDemos": Stage("s", NearestDemos, refit=False),
    "BetterTogether": Stage("s", dspy.BetterTogether, strategy="p -> w", p=Stage("p", dspy.BootstrapFewShot),
                            w=Stage("w", dspy.BootstrapFinetune)),
    "BootstrapFinetune": Stage("s", dspy.BootstrapFinetune),
    "cascade's BootstrapFinetune, labels too": Stage("s", BootstrapFinetune, max_labeled_rows=4, exclude_demos=True),
    "Ensemble": Stage("s", dspy.Ensemble),
    "a class of one's own with `compile`": Stage("s", OwnOptimizer),
}  # fmt: skip

NONE = "It runs no example."
ONE = "It makes one program and tries none; when the budget ends it, the incumbent is judged."
EXPLAINED = {
    **{(name, "candidates captured"): ONE
       for name in ("LabeledFewShot", "BootstrapFewShot", "BootstrapFinetune", "cascade's BootstrapFinetune, labels too", "Ensemble")},
    **dict.fromkeys((("LabeledFewShot", "bad example survived"), ("Ensemble", "bad example survived")), NONE),
}  # fmt: skip
"""Why a cell of the table is no yes."""


@dataclass
class Seen:
    """What one run of a stage left to look at."""

    before: Any
    kept: dict[str, Any]
    shop: Workshop
    made: Any = None
    failed: str = ""
    bench: Bench = field(default_factory=Bench)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    trained: list[Any] = field(default_factory=list)
    cells: dict[str, str] = field(default_factory=dict)


def examine(
    stage: Stage, metric: Any = scripted.right, answers: Any = None, prepare: Any = lambda before: before, **lms: str
) -> Seen:
    """Run a stage and say of each property "" or what is wrong."""
    with TemporaryDirectory() as name:
        folder, turns, asked = Path(name), itertools.count(), []

        def answer(model: str, inputs: Mapping[str, str], demos: int) -> Any:
            asked.append((model, inputs))
            return (answers or answered)(model, inputs, demos, next(turns))

        scripts = ScriptedLMs(scripted.settings_in(folder, lm=scripted.specs(**lms)), ScriptedEngine(answer))
        before, earlier = prepare(incumbent(scripts)), scripted.Asks()
        shop = Workshop(scripted.Asks, metric, TRAIN, scripts, SEED, folder / "log", [before, earlier])
        seen = Seen(before, _looks(before), shop, asked=asked)
        with (
            Ledger(folder / "ledger.db") as ledger,
            installed(Gateway(ledger, Meter(Budget()))),
            dspy.context(lm=scripts["task"], adapter=scripts.adapter, num_threads=1, max_errors=10_000),
        ):
            try:
                seen.made = optimize(stage, before, shop, seen.bench)
            except StageFailed as error:
                seen.failed = str(error)
            seen.trained = [json.loads(path.read_text()) for path in (scripts.settings.home / "trained").glob("*")]
            looks = (_starts, _lms_kept, _untouched, _captured, _round_trips, _survived)
            seen.cells = {said: seen.failed or look(seen) for said, look in zip(PROPERTIES, looks, strict=True)}
    return seen


def answered(model: str, inputs: Mapping[str, str], demos: int, turn: int) -> Any:
    """Answers as `scripted.answer`, proposes in the form that is asked for, and garbles two examples."""
    if inputs.get("question") in BAD:
        return "garbage"
    if "current_instruction" in inputs:
        return json.dumps({"new_instruction": f"{inputs['current_instruction']} Step {turn}."})
    if "better_program_outputs" in inputs:
        return {"discussion": "It failed.", "module_advice": json.dumps({"ask": "Look."})}
    if "examples_text" in inputs:
        return {"natural_language_rules": f"Rule {turn}."}
    return scripted.answer(model, inputs, demos)


def incumbent(lms: Any) -> Any:
    """What earlier stages have worked on."""
    program = scripted.Asks()
    program.ask.signature = program.ask.signature.with_instructions(f"Say one of a, b, c, d. {MARK}")
    program.ask.demos = [dspy.Example(question=f"earlier {n}", answer="b", augmented=True) for n in range(2)]
    program.ask.lm = lms.by_model(TRAINED)
    program._compiled = program.ask._compiled = True
    return program


def table(found: Mapping[str, Seen]) -> str:
    """The contract in Markdown: one row an optimizer, and why a cell is no yes."""
    notes = list(dict.fromkeys(EXPLAINED.values()))
    lines = [f"| optimizer | {' | '.join(PROPERTIES)} |", f"|---|{'---|' * len(PROPERTIES)}"]
    for name, seen in found.items():
        cells = [_cell(name, said, seen, notes) for said in PROPERTIES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]) + "\n"


def _cell(name: str, said: str, seen: Seen, notes: list[str]) -> str:
    if (name, said) in EXPLAINED:
        return f"– ({1 + notes.index(EXPLAINED[name, said])})"
    return "NO" if seen.cells[said] else "yes"


def _looks(program: Any) -> dict[str, Any]:
    ask = program.ask
    return {"state": snapshot(program).to_json(), "lm": id(ask.lm), "signature": id(ask.signature),
            "compiled": (program._compiled, ask._compiled), "class": scripted.Asks().ask.signature.instructions}  # fmt: skip


def _tried(seen: Seen) -> list[Snapshot]:
    return [snapshot(seen.made), *(Snapshot(one.state["state"], one.state["lms"]) for one in seen.bench.candidates)]


def _starts(seen: Seen) -> str:
    found = any(MARK in state["signature"]["instructions"] for taken in _tried(seen) for state in taken.state.values())
    return "" if found else "no program that it tried or made has the incumbent's instructions"


def _lms_kept(seen: Seen) -> str:
    """In what it tried and made, and while it searched: the program was never run under the base LM."""
    dropped = [taken.lms for taken in _tried(seen) if not _trained(taken)]
    asked = {model for model, inputs in seen.asked if "question" in inputs and not model.startswith("scripted/trained")}
    return "" if not dropped and not asked else f"programs under {dropped}, searched under {asked}"


def _trained(taken: Snapshot) -> bool:
    """Of a vote, the first member is the incumbent; the others have the LMs that they had."""
    own = [name for name in taken.state if not name.startswith("members[") or name.startswith("members[0]")]
    return all(taken.lms.get(name, "").startswith("scripted/trained-") for name in own)


def _untouched(seen: Seen) -> str:
    now = _looks(seen.before)
    changed = [name for name, value in seen.kept.items() if value != now[name]]
    return f"changed: {changed}" if changed or seen.made is seen.before else ""


def _captured(seen: Seen) -> str:
    """With scores and sizes, and the one that was chosen among them."""
    wrong = [one for one in seen.bench.candidates if not 0 <= one.score <= 1 or not one.n]
    if wrong or not seen.bench.candidates:
        return f"{len(seen.bench.candidates)} candidates, wrong: {wrong}"
    kept = snapshot(seen.made).to_json() in [one.state for one in seen.bench.candidates]
    return "" if kept else "the program that it made is none of them"


def _round_trips(seen: Seen) -> str:
    """What comes back from JSON is the same program: the same state, and the same requests reach the engine."""
    lms = seen.shop.lms
    for taken in _tried(seen):
        again = _from_json(taken, lms)
        if snapshot(again).digest != taken.digest:
            return f"comes back otherwise: {taken}"
    sent = [_requests(program, lms) for program in (seen.made, _from_json(snapshot(seen.made), lms))]
    return "" if sent[0] == sent[1] else "asks otherwise"


def _from_json(taken: Snapshot, lms: Any) -> Any:
    return restore(scripted.Asks, Snapshot(**json.loads(json.dumps(taken.to_json()))), lms.by_model)


def _requests(program: Any, lms: Any) -> list[str]:
    """What reaches the engine, past a ledger that knows nothing."""
    before = len(lms.script.requests)
    with (
        TemporaryDirectory() as name,
        Ledger(Path(name) / "ledger.db") as ledger,
        installed(Gateway(ledger, Meter(Budget()))),
    ):
        for row in scripted.rows("asked", 3):
            program(question=row["question"])
    return list(lms.script.requests[before:])


def _survived(seen: Seen) -> str:
    """It was met, if any was, and neither demos nor training rows hold what could not be read."""
    asked = {said for _, inputs in seen.asked if (said := inputs.get("question", "")).startswith("train")}
    kept = "garbage" in json.dumps([*(taken.to_json() for taken in _tried(seen)), *seen.trained])
    return "what could not be read was learned" if kept else "it was never asked" if not asked & BAD else ""
