"""Programs as values: snapshots without secrets, copies that an optimizer may take apart, prompts to read.

Invariant: a snapshot is JSON. It names LMs and never holds one, so no key, header or endpoint can be in it.
"""

import copy
import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.fields import plain, shortened
from cascade.settings import ROLES


@dataclass(frozen=True)
class Snapshot:
    """A program's state.

    Args:
        state: what `program.load_state` takes: instructions and demos by predictor, `lm` null.
        lms: model string by predictor, for those that have an LM of their own; its name in settings, which holds no
            slash, where the program asked for it by that.
    """

    state: Mapping[str, Any]
    lms: Mapping[str, str]

    @property
    def digest(self) -> str:
        """12 hex digits; equal digits mean the same program."""
        text = json.dumps([self.state, dict(self.lms)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"state": dict(self.state), "lms": dict(self.lms)}


def snapshot(program: Any) -> Snapshot:
    """Take the state of a program, compiled parts included."""
    parameters = dict(thawed(program).named_parameters())
    state = {name: _bare(parameter).dump_state() for name, parameter in parameters.items()}
    lms = {name: called(parameter.lm) for name, parameter in parameters.items() if getattr(parameter, "lm", None)}
    return Snapshot(plain(state), lms)


def restore(factory: Callable[[], Any], taken: Snapshot, lm_of: Callable[[str], Any]) -> Any:
    """Build a program anew and give it the state, and the LMs, of a snapshot.

    Args:
        lm_of: a `dspy.LM` for a model string or a name.
    """
    from cascade.ensemble import built  # here, because reading a journal needs no DSPy
    from cascade.nearest import revive

    program = built(factory, taken.state)
    for name, parameter in program.named_parameters():  # `load_state` does not take its own state from a lone Predict
        parameter.load_state(taken.state[name])
    revive(program)
    for name, parameter in program.named_parameters():
        if name in taken.lms:
            parameter.lm = lm_of(taken.lms[name])
    return program


def fields_of_state(parameter: Any) -> set[str]:
    """Names that the state of a predictor may hold. DSPy sets whatever it finds as an attribute."""
    from cascade.nearest import STATE

    return {*_bare(parameter).dump_state(), "fields", STATE}


def thawed(program: Any) -> Any:
    """A copy that shares LMs with `program` and that no optimizer refuses for being compiled.

    A part marked as compiled vanishes from `named_predictors()` and from saved state, and most optimizers assert
    that their student is not compiled.
    """
    twin = program.deepcopy()
    for (_, ours), (_, theirs) in zip(twin.named_sub_modules(), program.named_sub_modules(), strict=True):
        if hasattr(ours, "_compiled"):
            ours._compiled = False
        if getattr(theirs, "lm", None) is not None:
            ours.lm = theirs.lm
    return twin


def predictor_lms(program: Any) -> dict[str, Any]:
    """LM by predictor, for those that have one of their own."""
    return {name: predictor.lm for name, predictor in program.named_predictors() if predictor.lm is not None}


def called(lm: Any) -> str:
    """An LM's name in settings, if a program asked for it by one of its own; else its model string.

    The roles that optimizers ask for are no such names: their LMs may be given to any program.
    """
    names = {mark.role for mark in lm.callbacks if getattr(mark, "model", "") == lm.model}
    return next(iter(sorted(names.difference(ROLES))), str(lm.model))


def prompts(taken: Snapshot) -> str:
    """Instructions and demos of every predictor, in Markdown."""
    parts = []
    for name, state in taken.state.items():
        if "signature" not in state:  # no predictor, such as the version of a step
            parts.append(f"# {name}\n\n{', '.join(f'{key}: {value}' for key, value in state.items())}\n")
            continue
        instructions = state["signature"].get("instructions", "")
        demos = state.get("demos", [])
        model = f"\nModel: `{taken.lms[name]}`\n" if name in taken.lms else ""
        parts.append(f"# {name}\n{model}\n## Instructions\n\n{instructions}\n\n## Demos ({len(demos)})\n")
        parts += [f"- {_demo(demo)}" for demo in demos]
        parts += _nearest(state["nearest"]) if "nearest" in state else []
        parts.append("")
    return "\n".join(parts)


def prompts_diff(before: Snapshot, after: Snapshot) -> str:
    """What changed between two programs' prompts, as a fenced diff in Markdown; says so if nothing did."""
    lines = difflib.unified_diff(
        prompts(before).splitlines(), prompts(after).splitlines(), "incumbent", "candidate", lineterm=""
    )
    text = "\n".join(lines)
    return f"```diff\n{text}\n```\n" if text else "The prompts are the same.\n"


def _bare(parameter: Any) -> Any:
    twin = copy.copy(parameter)
    if hasattr(twin, "lm"):
        twin.lm = None
    return twin


def _nearest(said: Mapping[str, Any]) -> list[str]:
    how = {"rows": "in the order of the rows", "last": "the nearest last", "first": "the nearest first"}[said["order"]]
    by = said["embedder"] or "BM25"
    told = f"## Nearest demos\n\nWith each question the {said['k']} nearest of {len(said['rows'])} rows by {by}, {how}:"
    return ["", f"{told}\n", *(f"- {_demo(row)}" for row in said["rows"])]


def _demo(demo: Mapping[str, Any]) -> str:
    hidden = ("augmented", "id")
    return "; ".join(f"**{name}**: {shortened(value)}" for name, value in demo.items() if name not in hidden)
