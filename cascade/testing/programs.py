"""What every program of `cascade.programs`, and every one of yours, must do whatever it is made of.

Invariant: a property is a function of a case that returns in silence or raises an `AssertionError` that says what is
wrong; so a new module is tested by adding a case.
"""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy

from cascade.program import Snapshot, restore, snapshot
from cascade.testing.scripted import AsyncScriptedEngine, ScriptedEngine
from cascade.threads import at_once

AT_ONCE = 16


@dataclass(frozen=True)
class ProgramCase:
    """A program and how to ask it.

    Args:
        make: a fresh one, without arguments, as `Experiment(program=)` takes it.
        asked: fields of the input for a number; other numbers, other fields.
        says: what the scripted LM answers in fields that are no free text (`{"score": "0.5"}`), or a function of the
            input fields that does. In others it repeats what it was asked.
        silent: predictors that no question reaches, so that nothing is learned from them.
    """

    make: Callable[[], Any]
    asked: Callable[[int], Mapping[str, Any]] = lambda number: {"question": f"question {number}"}
    says: Mapping[str, str] | Callable[[Mapping[str, str]], Mapping[str, str]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()

    @contextmanager
    def lm(self, *, hasty: bool = False) -> Iterator[ScriptedEngine]:
        """A scripted LM, that of the block; a hasty one takes its time, another each time."""
        dice = random.Random(0)

        def answer(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
            if hasty:
                time.sleep(dice.random() / 100)
            fixed = self.says(inputs) if callable(self.says) else self.says
            return _Echo(inputs, demos, fixed)

        engine = ScriptedEngine(answer)
        lm = dspy.LM(
            "scripted/base", engine=engine, async_engine=AsyncScriptedEngine(engine), temperature=0.0, cache=False
        )
        adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
        with dspy.context(lm=lm, adapter=adapter, trace=[], disable_history=True, warn_on_type_mismatch=False):
            yield engine

    def examples(self, n: int) -> list[Any]:
        """Examples of numbers from 0, with the answers that the program gives."""
        rows = []
        with self.lm():
            program = self.make()
            for number in range(n):
                asked = dict(self.asked(number))
                rows.append(dspy.Example(**asked, **_answered(program(**asked), asked)).with_inputs(*asked))
        return rows


class _Echo(dict[str, str]):
    """Any field that is asked for: what was asked, in short, and with how many demos."""

    def __init__(self, inputs: Mapping[str, str], demos: int, fixed: Mapping[str, str]) -> None:
        super().__init__(fixed)
        self.text = f"{'|'.join(inputs.values())[:300]} ({demos} demos)"

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ARG002
        return super().get(key, f"{key} of {self.text}")


def its_predictors_are_found(case: ProgramCase) -> None:
    """Every predictor in it is one of `named_predictors()`, and each name leads to it."""
    program = case.make()
    inside = {id(one) for _, one in program.named_sub_modules(dspy.Predict)}
    found = {id(one) for one in program.predictors()}
    _same(inside, found, "predictors inside and those that named_predictors() finds")
    marked = case.make()
    marked.map_named_predictors(lambda one: one.deepcopy())  # by its name, as optimizers put them back
    _same(
        [n for n, _ in marked.named_predictors()],
        [n for n, _ in program.named_predictors()],
        "names after each was put back",
    )


def its_state_comes_back(case: ProgramCase) -> None:
    """In a fresh instance, from JSON, by DSPy's own means and by a snapshot."""
    program = _trained(case)
    state = json.loads(json.dumps(program.dump_state()))
    again = case.make()
    again.load_state(state)
    _same(json.loads(json.dumps(again.dump_state())), state, "the state that was loaded")
    taken = snapshot(program)
    restored = restore(case.make, Snapshot(**json.loads(json.dumps(taken.to_json()))), lambda _model: None)
    _same(snapshot(restored).digest, taken.digest, "the snapshot that was restored")
    with TemporaryDirectory() as folder:
        program.save(str(Path(folder) / "program.json"))
        loaded = case.make()
        loaded.load(str(Path(folder) / "program.json"))
    asked = [_requests(case, one) for one in (program, again, restored, loaded)]
    for name, requests in zip(("load_state", "restore", "load"), asked[1:], strict=True):
        _same(requests, asked[0], f"what reaches the LM after {name}")


def its_copies_are_its_own(case: ProgramCase) -> None:
    """`deepcopy` answers alike and shares no demos; `reset_copy` has none."""
    program = _trained(case)
    before = json.dumps(program.dump_state())
    for twin in (program.deepcopy(), program.reset_copy()):
        _same([n for n, _ in twin.named_predictors()], [n for n, _ in program.named_predictors()], "names in a copy")
        for _, one in twin.named_predictors():
            one.demos.append(dspy.Example(more="more"))
            one.signature = one.signature.with_instructions("Other.")
    _same(json.dumps(program.dump_state()), before, "the program after its copies were changed")
    _same(
        [len(one.demos) for one in program.reset_copy().predictors()],
        [0] * len(program.predictors()),
        "demos after reset",
    )
    _same(_requests(case, program.deepcopy()), _requests(case, program), "what reaches the LM from a copy")


def it_is_awaited_as_it_is_called(case: ProgramCase) -> None:
    """The same prediction and the same trace, also of many at once in one loop."""
    with case.lm():
        called = [_traced(case.make(), case.asked(number)) for number in range(3)]

    async def awaited() -> Any:
        return await asyncio.gather(*(_atraced(case.make(), case.asked(number)) for number in range(3)))

    with case.lm(hasty=True):
        _same(asyncio.run(awaited()), called, "prediction and trace when it is awaited")


def its_trace_is_in_order(case: ProgramCase) -> None:
    """Whoever of several steps at once is first, the trace is the same, and its predictors are those of the program."""
    with case.lm():
        wanted = _traced(case.make(), case.asked(0))
    with case.lm(hasty=True):
        for _ in range(4):
            program = case.make()
            _same(_traced(program, case.asked(0)), wanted, "prediction and trace of another run")
            strange = [
                who for who, *_ in _trace_of(program, case.asked(0)) if id(who) not in map(id, program.predictors())
            ]
            _same(strange, [], "predictors in the trace that are not the program's")


def threads_do_not_disturb_each_other(case: ProgramCase) -> None:
    """One program, asked by 16 threads at once, answers each as if it were alone."""
    with case.lm(hasty=True):
        program = case.make()
        alone = [_plain(program(**case.asked(number))) for number in range(AT_ONCE)]
        answers = at_once(lambda number: _plain(program(**case.asked(number))), range(AT_ONCE), AT_ONCE)
        _same(answers, alone, "answers of 16 threads at once")


def dspy_runs_it_in_threads(case: ProgramCase) -> None:
    """`dspy.Evaluate` and `dspy.Parallel`."""
    rows = case.examples(6)
    with case.lm(hasty=True):
        program = case.make()
        score = dspy.Evaluate(devset=rows, metric=_alike, num_threads=4, display_progress=False)(program).score
        _same(score, 100.0, "the score on its own answers")
        run = dspy.Parallel(num_threads=4, disable_progress_bar=True)
        answers = run([(program, dict(case.asked(number))) for number in range(6)])
    wanted = [_answered(row, case.asked(number)) for number, row in enumerate(rows)]
    _same([_answered(one, case.asked(n)) for n, one in enumerate(answers)], wanted, "answers of dspy.Parallel")


def optimizers_give_demos_to_each_predictor(case: ProgramCase) -> None:
    """`BootstrapFewShot` and `LabeledFewShot`, on a teacher's own answers."""
    rows = case.examples(8)
    for optimizer in (dspy.BootstrapFewShot(metric=_true, max_bootstrapped_demos=4), dspy.LabeledFewShot(k=2)):
        with case.lm(), redirect_stdout(StringIO()):
            made = optimizer.compile(case.make(), trainset=rows)
        bare = [name for name, one in made.named_predictors() if not one.demos and name not in case.silent]
        _same(bare, [], f"predictors without a demo after {type(optimizer).__name__}")


def a_search_keeps_it_whole(case: ProgramCase) -> None:
    """`MIPROv2`, which writes instructions and demos, and attributes of its own, into the program."""
    rows = case.examples(8)
    few = {"num_candidates": 2, "max_bootstrapped_demos": 1, "max_labeled_demos": 1, "num_threads": 1}
    with case.lm(), redirect_stdout(StringIO()):
        search = dspy.MIPROv2(metric=_true, auto=None, **few)
        made = search.compile(case.make(), trainset=rows[:4], valset=rows[4:], num_trials=2, minibatch=False)
    names = [name for name, _ in case.make().named_predictors()]
    _same([name for name, _ in made.named_predictors()], names, "names after MIPROv2")
    with case.lm():
        _same(list(made(**case.asked(0)).keys()), list(rows[0].labels().keys()), "fields after MIPROv2")


PROGRAM_CONTRACT: tuple[Callable[[ProgramCase], None], ...] = (
    its_predictors_are_found,
    its_state_comes_back,
    its_copies_are_its_own,
    it_is_awaited_as_it_is_called,
    its_trace_is_in_order,
    threads_do_not_disturb_each_other,
    dspy_runs_it_in_threads,
    optimizers_give_demos_to_each_predictor,
    a_search_keeps_it_whole,
)
"""All properties: `pytest.mark.parametrize("kept", PROGRAM_CONTRACT)`, then `kept(case)`."""


def _trained(case: ProgramCase) -> Any:
    program = case.make()
    for name, one in program.named_predictors():
        one.signature = one.signature.with_instructions(f"Instructions of {name}.")
        one.demos = [{field: f"{field} of a demo" for field in one.signature.fields}]
    return program


def _requests(case: ProgramCase, program: Any) -> list[str]:
    with case.lm() as engine:
        program(**case.asked(0))
        return sorted(engine.requests)


def _trace_of(program: Any, asked: Mapping[str, Any]) -> list[Any]:
    with dspy.context(trace=[]):
        program(**asked)
        return list(dspy.settings.trace)


def _named(program: Any, trace: list[Any]) -> list[Any]:
    names = {id(one): name for name, one in program.named_predictors()}
    return [(names.get(id(who)), _plain(said)) for who, _, said in trace]


def _traced(program: Any, asked: Mapping[str, Any]) -> Any:
    with dspy.context(trace=[]):
        said = program(**asked)
        return _plain(said), _named(program, dspy.settings.trace)


async def _atraced(program: Any, asked: Mapping[str, Any]) -> Any:
    with dspy.context(trace=[]):
        said = await program.acall(**asked)
        return _plain(said), _named(program, dspy.settings.trace)


def _plain(said: Any) -> dict[str, Any]:
    return {name: repr(value) for name, value in said.items()}


def _answered(said: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if name not in asked}


def _alike(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001
    return all(example[name] == value for name, value in prediction.items() if name in example)


def _true(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001
    return True


def _same(found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}:\n  {found!r:.600}\nwhere it should be\n  {wanted!r:.600}")
