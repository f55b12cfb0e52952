"""The program: built anew it is another object of the same shape, and what optimizers change in it can be saved.

Invariant: the program is built and never run; LMs are looked at and never called.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import dspy

from cascade.check import Prepared, build_program
from cascade.checks.finding import Finding
from cascade.discover import source_file
from cascade.errors import CascadeError
from cascade.program import Snapshot, called, predictor_lms, restore, snapshot, thawed
from cascade.redaction import told
from cascade.sources import siblings

PLANTED = "planted by a check"
_DEEPEST = 6
_LEAVES = (str, bytes, int, float, type(None), type, FunctionType, MethodType, ModuleType, dspy.BaseLM)


def returned(prepared: Prepared) -> Callable[[str], bool]:
    """Whether the program may return a field of a name: what its files say outside of the metric."""
    kind, files = type(prepared.program), {source_file(prepared.experiment)}
    if not _of_dspy(kind):
        with suppress(OSError, TypeError):  # a class made at a prompt
            files.add(Path(inspect.getfile(kind)))
        if "forward" not in vars(kind):
            return lambda _: True
    code = "\n".join(file.read_text("utf-8") for file in sorted(files))
    with suppress(OSError, TypeError):  # a metric without source
        code = code.replace(inspect.getsource(prepared.experiment.metric.judge), "")
    return lambda name: re.search(rf"\b{re.escape(name)}\b", code) is not None


def program(prepared: Prepared) -> Iterator[Finding]:
    """What would keep a run from building, saving and loading candidates."""
    place, factory = f"Program {getattr(prepared.experiment.program, '__name__', '')}", prepared.experiment.program
    one, other = prepared.program, build_program(prepared.experiment)
    shared = {id(part) for part in one.parameters()} & {id(part) for part in other.parameters()}
    if shared:
        name = next(name for name, part in other.named_parameters() if id(part) in shared)
        yield Finding(
            "error",
            place,
            f"its factory returns the same {name!r} each time, so candidates would change one another. "
            "Make it inside the factory.",
        )
        return
    ours, theirs = (sorted(dict(built.named_parameters())) for built in (one, other))
    if ours != theirs:
        said = f"it was built with the predictors {', '.join(ours)}, and then with {', '.join(theirs)}"
        yield Finding("error", place, f"{said}: what is saved of one cannot be loaded into the other. Fix its seed.")
        return
    yield from _one_model(place, prepared)
    yield from _unseen(place, thawed(one))
    if lost := _lost(factory, other):
        said = "what optimizers change in it does not survive saving and loading"
        fix = "Leave dump_state and load_state to DSPy, and keep state in predictors."
        yield Finding("error", place, f"{said}: {lost}. {fix}")
    elif not isinstance(one, dspy.Predict) and (more := _beside_predictors(one)):
        said = f"its dump_state keeps {more[0]!r} beside its predictors, which is neither saved nor loaded"
        yield Finding("warning", place, f"{said}. Keep what may change in a predictor.")


def _one_model(place: str, prepared: Prepared) -> Iterator[Finding]:
    """LMs that the program tells apart and settings do not: as all of them where nothing is set."""
    asked = {called(lm): lm.model for lm in predictor_lms(prepared.program).values()}
    names = [name for name, model in asked.items() if name != model]
    spec = prepared.settings.lm_named
    alike = [name for name in names if any(spec(name) == spec(other) for other in names if other != name)]
    if alike:
        yield Finding(
            "note",
            place,
            f"the LMs {', '.join(map(repr, alike))} that it asks for are one model today, {asked[alike[0]]}. "
            f"Settings tell them apart: CASCADE_LM_{alike[-1].upper()}=….",
        )


def project_files(prepared: Prepared) -> Iterator[Finding]:
    """What keeps the run's programs from being saved as models: they are loaded without their project."""
    source, name = source_file(prepared.experiment), prepared.experiment.program.__name__
    if missing := siblings(source):
        yield Finding(
            "warning",
            f"Program {name}",
            f"{source.name} imports {missing[0]!r}, a file of the project that is not there when the program is loaded "
            "elsewhere: MLflow will show scores and no model. Put what it needs into the same file, or install it as a "
            "package.",
        )


def _beside_predictors(built: Any) -> list[str]:
    """What a program's own `dump_state` keeps; LMs are taken out first, because not every LM can be saved."""
    bare = thawed(built)
    for predictor in bare.predictors():
        predictor.lm = None
    return sorted(set(bare.dump_state()) - set(snapshot(bare).state))


def _unseen(place: str, built: Any) -> Iterator[Finding]:
    """Predictors that DSPy does not find: optimizers pass them by, and they are in no saved state."""
    known = {id(parameter) for parameter in built.parameters()}
    for path, part in _reachable(built):
        if isinstance(part, dspy.Predict) and id(part) not in known:
            yield Finding(
                "warning",
                place,
                f"the predictor at {path} is seen by no optimizer and is not saved. Make it an attribute of a "
                "dspy.Module, in __init__.",
            )


def _reachable(built: Any) -> Iterator[tuple[str, Any]]:
    """What a program holds in attributes, classes' attributes and collections, each thing once."""
    seen, waiting = set[int](), [("self", built, 0)]
    while waiting:
        path, thing, depth = waiting.pop()
        if id(thing) in seen or isinstance(thing, _LEAVES) or depth > _DEEPEST:
            continue
        seen.add(id(thing))
        yield path, thing
        waiting += [(f"{path}{step}", part, depth + 1) for step, part in _parts(thing)]


def _parts(thing: Any) -> list[tuple[str, Any]]:
    if isinstance(thing, dict):
        return [(f"[{name!r}]", part) for name, part in thing.items()]
    if isinstance(thing, list | tuple | set | frozenset):
        return [(f"[{number}]", part) for number, part in enumerate(thing)]
    own = getattr(thing, "__dict__", {})
    if isinstance(thing, dspy.Predict):
        return []
    held = vars(type(thing)) if isinstance(thing, dspy.Module) and not _of_dspy(type(thing)) else {}
    return [(f".{name}", part) for name, part in {**held, **own}.items() if not name.startswith("__")]


def _of_dspy(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "dspy"


def _lost(factory: Any, built: Any) -> str:
    """What does not come back of demos and instructions planted in `built`, or ""."""
    lms = {called(lm): lm for lm in predictor_lms(built).values()}
    try:
        for predictor in built.predictors():
            fields = (*predictor.signature.input_fields, *predictor.signature.output_fields)
            predictor.demos = [dspy.Example(**dict.fromkeys(fields, PLANTED))]
            predictor.signature = predictor.signature.with_instructions(PLANTED)
        taken = snapshot(built)
        again = snapshot(restore(factory, taken, lms.__getitem__))
    except CascadeError:
        raise
    except Exception as error:
        return told(error)
    return _difference(taken, again)


def _difference(taken: Snapshot, again: Snapshot) -> str:
    for name, state in taken.state.items():
        back = again.state.get(name, {})
        for key in ("demos", "signature", *state):
            if state.get(key) != back.get(key):
                return f"the {key} of {name!r} come back changed"
    return "" if taken.digest == again.digest else "its LMs come back changed"
