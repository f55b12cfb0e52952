"""The options an optimizer has, read off its signatures.

Invariant: nothing is called; an option that is misspelt is found before anything is spent.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from cascade.errors import ExperimentError

SUPPLIED = frozenset(
    ("self", "student", "metric", "trainset", "valset", "teacher", "prompt_model", "task_model", "reflection_lm",
     "num_threads", "programs")
)  # fmt: skip
"""Parameters of an optimizer that the cascade fills in unless the stage gives them."""


def parameters(optimizer: Any) -> tuple[dict[str, inspect.Parameter], dict[str, inspect.Parameter]]:
    """The named parameters of an optimizer's constructor and of its `compile`."""
    made = dict(inspect.signature(optimizer).parameters)
    for base in optimizer.__mro__[1:]:
        if base is object or not _open_ended(made):
            break
        if "__init__" in vars(base):  # `**kwargs` hands on what the base names, as `dspy.InferRules` does
            inherited = dict(inspect.signature(base.__init__).parameters)
            made = {**{name: one for name, one in inherited.items() if name != "self"}, **made}
            if not _open_ended(inherited):
                break
    return made, dict(inspect.signature(optimizer.compile).parameters)


def _open_ended(signature: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.values())


def check_options(stage: str, optimizer: type, options: Mapping[str, Any]) -> None:
    """Refuse an option that neither the optimizer's constructor nor its `compile` names.

    Raises:
        ExperimentError: names the option, and those there are.
    """
    constructor, compile_ = parameters(optimizer)
    known = set(_named(constructor)) | set(_named(compile_))
    for name, option in options.items():
        if name in known or (_open_ended(constructor) and _is_optimizer(option)):
            continue
        offered = ", ".join(sorted(known - SUPPLIED))
        raise ExperimentError(f"Stage {stage!r}: {optimizer.__name__} has no option {name!r}. Options: {offered}.")


def _named(signature: Mapping[str, inspect.Parameter]) -> Iterator[str]:
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return (name for name, parameter in signature.items() if parameter.kind not in variadic)


def _is_optimizer(option: object) -> bool:
    """Whether it is a stage: the only option that a constructor with open names may be given."""
    return hasattr(option, "optimizer") and hasattr(option, "lever")
